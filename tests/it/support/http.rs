//! A plain HTTP client: one connection per call, or one that the caller keeps.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HOST;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::wait::PATIENCE;

/// The body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Why there was no response, with the whole chain of causes.
pub(crate) type Failure = String;

/// A whole response.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of UTF-8")
    }
}

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    /// HTTP/1.1
    H1,
    /// HTTP/2 without TLS, without an upgrade.
    H2c,
}

enum Sender {
    H1(hyper::client::conn::http1::SendRequest<Body>),
    H2c(hyper::client::conn::http2::SendRequest<Body>),
}

/// One connection to an HTTP server. Dropped, it is closed.
pub(crate) struct Connection {
    sender: Sender,
    task: tokio::task::JoinHandle<()>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(addr: SocketAddr, protocol: Protocol) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).await.map_err(|error| format!("cannot connect to {addr}: {error}"))?;
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::H1 => {
                let (sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(chain)?;
                let task = tokio::spawn(async move { drop(connection.await) });
                Ok(Self { sender: Sender::H1(sender), task })
            }
            Protocol::H2c => {
                let (sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(chain)?;
                let task = tokio::spawn(async move { drop(connection.await) });
                Ok(Self { sender: Sender::H2c(sender), task })
            }
        }
    }

    /// Whether another request can be sent on it, waiting until the last one is over.
    pub(crate) async fn is_reusable(&mut self) -> bool {
        match &mut self.sender {
            Sender::H1(sender) => sender.ready().await.is_ok(),
            Sender::H2c(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request and waits for the head of the response; its body streams.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::H1(sender) => sender.send_request(request).await,
            Sender::H2c(sender) => sender.send_request(request).await,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An error with its causes, for a failed test's message.
pub(crate) fn chain(error: hyper::Error) -> Failure {
    washlet::error::Chain(&error).to_string()
}

/// `GET http://host/path` at `addr`, on a connection of its own.
pub(crate) async fn get(addr: SocketAddr, host: &str, path: &str) -> Answer {
    send(addr, request("GET", host, path, full(""))).await
}

/// Sends a request on a connection of its own and reads the whole response; fails the test if there is none.
pub(crate) async fn send(addr: SocketAddr, request: Request<Body>) -> Answer {
    let what = format!("{} {}", request.method(), request.uri());
    match tokio::time::timeout(PATIENCE, try_send(addr, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => panic!("{what} at {addr}: {failure}"),
        Err(_elapsed) => panic!("{what} at {addr}: no response within {PATIENCE:?}"),
    }
}

/// As [`send`], for a request that may fail. Waits for ever.
pub(crate) async fn try_send(addr: SocketAddr, request: Request<Body>) -> Result<Answer, Failure> {
    let mut connection = Connection::open(addr, Protocol::H1).await?;
    read(connection.send(request).await.map_err(chain)?).await
}

/// As [`send`], over HTTP/2 without TLS.
pub(crate) async fn send_h2c(addr: SocketAddr, request: Request<Body>) -> Result<Answer, Failure> {
    let mut connection = Connection::open(addr, Protocol::H2c).await?;
    read(connection.send(request).await.map_err(chain)?).await
}

/// The rest of a response.
pub(crate) async fn read(response: Response<Incoming>) -> Result<Answer, Failure> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(chain)?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

/// A request for `host`: its URI is `path` alone and `host` the `Host` header, as HTTP/1.1 clients send it.
pub(crate) fn request(method: &str, host: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(path).header(HOST, host).body(body).expect("a valid request")
}

/// As [`request`], in the form HTTP/2 sends: scheme and authority in the URI.
pub(crate) fn request_h2c(method: &str, host: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(format!("http://{host}{path}")).body(body).expect("a valid request")
}

/// A body that is there already.
pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed_unsync()
}

/// A body that the test writes piece by piece; it ends when the sender is dropped.
pub(crate) fn streaming() -> (mpsc::Sender<Bytes>, Body) {
    let (piece_tx, piece_rx) = mpsc::channel::<Bytes>(1);
    let pieces = futures::stream::unfold(piece_rx, |mut piece_rx| -> BoxFuture<'static, _> {
        Box::pin(async move { piece_rx.recv().await.map(|piece| (Ok(Frame::data(piece)), piece_rx)) })
    });
    (piece_tx, StreamBody::new(pieces).boxed_unsync())
}

/// The next piece of a streamed body; `None` at its end. Trailers are passed over, and the empty piece with which
/// HTTP/2 may end a body.
pub(crate) async fn next_piece(body: &mut Incoming) -> Option<Bytes> {
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("a piece of the body in time")?;
        match frame.expect("the body does not break off").into_data() {
            Ok(piece) if !piece.is_empty() => return Some(piece),
            Ok(_) | Err(_) => {}
        }
    }
}
