//! Servers that misbehave: they hang, break off, lie, or fail for a while.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::registry::manifest;

/// What a fake does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Nothing, for ever.
    Hang,
    /// Closes the connection.
    Close,
    /// Nothing until the gate is open, and then that.
    When(watch::Receiver<bool>, Box<Reply>),
    /// Answers.
    Answer(StatusCode, &'static str, Bytes),
}

type Paths = Arc<Mutex<Vec<String>>>;

/// Decides by the path of a request and by how many came before it.
type Behaviour = Arc<dyn Fn(&str, usize) -> Reply + Send + Sync>;

/// An HTTP server on a port of its own. Dropped, it is gone with all its connections.
#[derive(Debug)]
pub(crate) struct FakeServer {
    addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    paths: Paths,
    task: tokio::task::JoinHandle<()>,
}

impl FakeServer {
    /// Starts a server that does what `behaviour` says, given a request's path and the number of requests before it.
    pub(crate) async fn start(behaviour: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let (requests, paths) = (Arc::<AtomicUsize>::default(), Paths::default());
        let heard = Arc::clone(&paths);
        let behaviour = move |path: &str, before| {
            heard.lock().expect("no holder panics").push(path.to_owned());
            behaviour(path, before)
        };
        let task = tokio::spawn(accept(listener, Arc::new(behaviour), Arc::clone(&requests)));
        Self { addr, requests, paths, task }
    }

    /// A registry that takes every request and answers none.
    pub(crate) async fn hanging() -> Self {
        Self::start(|_path, _before| Reply::Hang).await
    }

    /// A registry of one component, `wasm`, under every name and tag, after `failures` answers of 503.
    pub(crate) async fn flaky_registry(wasm: Bytes, failures: usize) -> Self {
        Self::start(move |path, before| {
            if before < failures {
                return Reply::Answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", Bytes::new());
            }
            serve_component(path, &manifest(&wasm), &wasm)
        })
        .await
    }

    /// A registry of one component that answers nothing before `true` is sent.
    pub(crate) async fn gated_registry(wasm: Bytes) -> (Self, watch::Sender<bool>) {
        let (gate_tx, gate_rx) = watch::channel(false);
        let manifest = manifest(&wasm);
        let behaviour =
            move |path: &str, _| Reply::When(gate_rx.clone(), Box::new(serve_component(path, &manifest, &wasm)));
        (Self::start(behaviour).await, gate_tx)
    }

    /// A registry whose manifest promises `promised` and whose blob is `given`.
    pub(crate) async fn lying_registry(promised: Bytes, given: Bytes) -> Self {
        let manifest = manifest(&promised);
        Self::start(move |path, _before| serve_component(path, &manifest, &given)).await
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The paths asked for that contain `part`, in order.
    pub(crate) fn asked_for(&self, part: &str) -> Vec<String> {
        let paths = self.paths.lock().expect("no holder panics");
        paths.iter().filter(|path| path.contains(part)).cloned().collect()
    }

    /// How many requests it got.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn serve_component(path: &str, manifest: &Bytes, wasm: &Bytes) -> Reply {
    if path.contains("/manifests/") {
        Reply::Answer(StatusCode::OK, "application/vnd.oci.image.manifest.v1+json", manifest.clone())
    } else if path.contains("/blobs/") {
        Reply::Answer(StatusCode::OK, "application/octet-stream", wasm.clone())
    } else {
        Reply::Answer(StatusCode::OK, "application/json", Bytes::from_static(b"{}"))
    }
}

/// Connections end with the set that holds them, hence with the server.
async fn accept(listener: TcpListener, behaviour: Behaviour, requests: Arc<AtomicUsize>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _peer)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&behaviour), Arc::clone(&requests)));
    }
}

async fn serve(stream: TcpStream, behaviour: Behaviour, requests: Arc<AtomicUsize>) {
    let answer = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let before = requests.fetch_add(1, Ordering::SeqCst);
        let reply = behaviour(request.uri().path(), before);
        async move {
            let reply = match reply {
                Reply::When(mut gate, reply) => {
                    // Without its sender it stays closed.
                    if gate.wait_for(|is_open| *is_open).await.is_err() {
                        return std::future::pending().await;
                    }
                    *reply
                }
                reply => reply,
            };
            match reply {
                Reply::Hang | Reply::When(..) => std::future::pending::<Result<_, std::io::Error>>().await,
                Reply::Close => Err(std::io::Error::other("closed on purpose")),
                Reply::Answer(status, content_type, body) => {
                    let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
                    Ok(response.body(Full::new(body)).expect("a valid response"))
                }
            }
        }
    });
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
}
