//! The listener: bound in prepare, served from the commit on.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::admin::{AdminPort, routes};
use crate::task::{self, Shutdown};

/// Probes, a scraper and a person or two; more are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// For the header of a request; probes send theirs at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole connection: a reload is answered after 10 s at the latest, and nobody keeps one open for longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// After an accept that failed: most often there are no descriptors, which passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub(crate) struct AdminBindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A socket that is bound and not yet answered.
#[derive(Debug)]
pub(crate) struct BoundAdmin {
    listener: TcpListener,
    address: SocketAddr,
}

/// A listener that answers; dropped, it closes.
#[derive(Debug)]
pub(crate) struct AdminServer {
    address: SocketAddr,
    stop: Shutdown,
}

impl AdminServer {
    /// Takes `address`; port 0 takes any.
    pub(crate) fn bind(address: SocketAddr) -> Result<BoundAdmin, AdminBindError> {
        let bind = || -> io::Result<BoundAdmin> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // A restart finds its own connections of a moment ago in TIME_WAIT.
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(128)?;
            let listener = TcpListener::from(socket);
            let address = listener.local_addr()?;
            Ok(BoundAdmin { listener, address })
        };
        bind().map_err(|source| AdminBindError { address, source })
    }

    /// Where it listens.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

impl BoundAdmin {
    /// Answers from now on, on `runtime`.
    pub(crate) fn serve(self, port: Arc<dyn AdminPort>, runtime: &Handle) -> AdminServer {
        let Self { listener, address } = self;
        let stop = Shutdown::default();
        let until = stop.clone();
        drop(task::spawn_on(runtime, "admin", async move {
            tokio::select! {
                () = until.wait() => {}
                () = accept(listener, port, until.clone()) => {}
            }
        }));
        AdminServer { address, stop }
    }
}

async fn accept(listener: TcpListener, port: Arc<dyn AdminPort>, stop: Shutdown) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "the admin listener cannot be polled");
            return;
        }
    };
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "accepting an admin connection failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else { continue };
        let (port, stop) = (Arc::clone(&port), stop.clone());
        drop(task::spawn("admin-connection", async move {
            let service = service_fn(|request: http::Request<Incoming>| {
                let port = Arc::clone(&port);
                async move {
                    let answer = routes::answer(&port, request.method(), request.uri().path(), peer).await;
                    Ok::<_, Infallible>(answer)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.wait() => {}
                ended = timeout(CONNECTION_TIMEOUT, connection) => {
                    if let Ok(Err(error)) = ended {
                        debug!(%error, "an admin connection failed");
                    }
                }
            }
            drop(place);
        }));
    }
}
