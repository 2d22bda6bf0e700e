//! A server on a free port, workloads that are closures, and clients.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::config;
use crate::host::http::{HttpRouter, HttpServer};
use crate::types::WorkloadId;
use crate::workload::http::{Body, BodyError, CallError, HttpBinding, HttpTarget, RouteSink as _};

pub(super) type Answer = BoxFuture<'static, Result<Response<Body>, CallError>>;

/// A workload whose guest is a closure.
pub(super) struct Fake {
    id: WorkloadId,
    pub(super) in_flight: AtomicUsize,
    pub(super) is_stopping: AtomicBool,
    /// Calls that were dropped before they were answered.
    pub(super) cancelled: AtomicUsize,
    answer: Box<dyn Fn(Request<Body>) -> Answer + Send + Sync>,
}

impl Fake {
    pub(super) fn new<F, R>(id: &str, answer: F) -> Arc<Self>
    where
        F: Fn(Request<Body>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Response<Body>, CallError>> + Send + 'static,
    {
        Arc::new(Self {
            id: WorkloadId::from(id),
            in_flight: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            cancelled: AtomicUsize::new(0),
            answer: Box::new(move |request| answer(request).boxed()),
        })
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("id", &self.id).finish_non_exhaustive()
    }
}

struct InFlight(Arc<Fake>, bool);

impl InFlight {
    fn is_answered(&mut self) {
        self.1 = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl HttpTarget for Fake {
    fn workload(&self) -> &WorkloadId {
        &self.id
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    fn call(self: Arc<Self>, request: Request<Body>) -> Answer {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let answer = (self.answer)(request);
        let mut in_flight = InFlight(self, false);
        async move {
            let answered = answer.await;
            in_flight.is_answered();
            answered
        }
        .boxed()
    }
}

/// A whole body.
pub(super) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(BodyError::from).boxed_unsync()
}

/// A body in the given frames, `None` being an end that nobody announced.
pub(super) fn frames(frames: Vec<Result<http_body::Frame<Bytes>, BodyError>>) -> Body {
    http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

pub(super) fn ok(text: impl Into<Bytes>) -> Result<Response<Body>, CallError> {
    Ok(Response::new(full(text)))
}

/// Answers with its own name.
pub(super) fn named(id: &'static str) -> Arc<Fake> {
    Fake::new(id, move |_request| async move { ok(id) })
}

pub(super) fn binding(host: &str, path: &str) -> HttpBinding {
    HttpBinding { hosts: vec![host.to_owned()], path: path.to_owned() }
}

pub(super) fn settings() -> config::Http {
    config::Http { listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..config::Http::default() }
}

pub(super) fn start(settings: config::Http, router: &Arc<HttpRouter>) -> HttpServer {
    HttpServer::bind(&settings, None).unwrap().serve(Arc::clone(router), settings, &Handle::current())
}

/// A server on a free port that routes everything for `a` to `target`.
pub(super) fn serve(target: Arc<Fake>) -> (HttpServer, Arc<HttpRouter>) {
    serve_with(settings(), target)
}

pub(super) fn serve_with(settings: config::Http, target: Arc<Fake>) -> (HttpServer, Arc<HttpRouter>) {
    let router = Arc::new(HttpRouter::default());
    router.publish(&binding("a", "/"), target);
    (start(settings, &router), router)
}

/// An HTTP/1 client with a pool.
pub(super) fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(hyper_util::rt::TokioExecutor::new()).build_http()
}

/// A client that speaks HTTP/2 from the first byte.
pub(super) fn h2_client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(hyper_util::rt::TokioExecutor::new()).http2_only(true).build_http()
}

pub(super) fn get(server: &HttpServer, path: &str) -> Request<Full<Bytes>> {
    let uri = format!("http://{}{path}", server.local_addr());
    Request::get(uri).header("host", "a").body(Full::default()).unwrap()
}

pub(super) async fn text<B>(response: Response<B>) -> String
where
    B: http_body::Body,
    B::Error: fmt::Debug,
{
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub(super) fn reason<B>(response: &Response<B>) -> &str {
    response.headers().get("x-washlet-reason").map_or("", |value| value.to_str().unwrap())
}

/// A connection on which a test says and hears bytes.
pub(super) struct Raw(pub(super) TcpStream);

impl Raw {
    pub(super) async fn connect(server: &HttpServer) -> Self {
        Self(TcpStream::connect(server.local_addr()).await.unwrap())
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `end` was read.
    pub(super) async fn until(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !heard.windows(end.len()).any(|part| part == end.as_bytes()) {
            let mut byte = [0];
            let read = within(self.0.read(&mut byte)).await.unwrap();
            assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&heard));
            heard.push(byte[0]);
        }
        String::from_utf8(heard).unwrap()
    }

    /// Reads until the server closes.
    pub(super) async fn rest(&mut self) -> String {
        let mut heard = Vec::new();
        within(self.0.read_to_end(&mut heard)).await.unwrap();
        String::from_utf8(heard).unwrap()
    }
}

/// No test waits longer for anything.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("took more than 10 s")
}

pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}
