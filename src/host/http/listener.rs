//! The listening socket: bound before anything is swapped, taking connections after, handed over between servers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tracing::{error, warn};

use crate::host::http::connection;
use crate::host::http::shared::{OpenConnection, Phase, Shared};
use crate::task::{self, Backoff, Shutdown};

/// Connections that the kernel completes for us while we are busy; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Why there is no listening socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// `[http] listen` is not set.
    #[error("cannot listen for HTTP: `http.listen` is not set")]
    NoAddress,
    /// The socket could not be made.
    #[error("cannot make a socket to listen on {0} for HTTP")]
    MakeSocket(SocketAddr, #[source] io::Error),
    /// The address is taken, or is not ours.
    #[error("cannot listen on {0} for HTTP: choose another `http.listen`, or end what listens there")]
    Bind(SocketAddr, #[source] io::Error),
    /// The running server's socket could not be shared.
    #[error("cannot take over the socket that listens on {0} for HTTP")]
    TakeOver(SocketAddr, #[source] io::Error),
}

/// Sockets of one server; the first one is that of its address.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) own: TcpListener,
    /// One address of ours that an earlier server listens on: closing it would reset what is in its backlog.
    pub(super) inherited: Vec<TcpListener>,
    pub(super) address: SocketAddr,
    /// Whether `own` listens already.
    pub(super) is_listening: bool,
}

impl Sockets {
    /// Binds `address`, or takes it over from `live`.
    pub(super) fn bind(address: SocketAddr, live: &[Arc<TcpListener>]) -> Result<Self, BindError> {
        let is_same_port = |socket: &&Arc<TcpListener>| {
            address.port() != 0 && socket.local_addr().is_ok_and(|live| live.port() == address.port())
        };
        let neighbours: Vec<&Arc<TcpListener>> = live.iter().filter(is_same_port).collect();
        let take_over = |socket: &TcpListener| socket.try_clone().map_err(|error| BindError::TakeOver(address, error));
        if let Some(same) = neighbours.iter().find(|socket| socket.local_addr().is_ok_and(|live| live == address)) {
            return Ok(Self { own: take_over(same)?, inherited: Vec::new(), address, is_listening: true });
        }
        let mut inherited = Vec::new();
        if address.ip().is_unspecified() {
            for narrower in &neighbours {
                inherited.push(take_over(narrower)?);
            }
        }
        let own = bind(address, &neighbours)?;
        let address = own.local_addr().map_err(|error| BindError::Bind(address, error))?;
        Ok(Self { own, inherited, address, is_listening: false })
    }
}

/// `neighbours` listen on the same port and may overlap. They and the new socket share it for the moment of the bind
/// only, so that no other process ever can.
fn bind(address: SocketAddr, neighbours: &[&Arc<TcpListener>]) -> Result<TcpListener, BindError> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            // Connections of an earlier process in TIME_WAIT do not hold the port.
            socket.set_reuse_address(true)?;
            Ok(socket)
        })
        .map_err(|error| BindError::MakeSocket(address, error))?;
    let share_port = |shared: bool| -> io::Result<()> {
        if neighbours.is_empty() {
            return Ok(());
        }
        socket.set_reuse_port(shared)?;
        neighbours.iter().try_for_each(|live| SockRef::from(&***live).set_reuse_port(shared))
    };
    let bound = share_port(true).and_then(|()| socket.bind(&address.into()));
    let unshared = share_port(false);
    bound.and(unshared).map_err(|error| BindError::Bind(address, error))?;
    Ok(socket.into())
}

/// Takes connections from one socket until told to stop; then empties the socket's queue, because closing it would
/// reset what is in there.
pub(super) async fn accept(shared: Arc<Shared>, socket: Arc<TcpListener>, listens: bool, stop: Shutdown) {
    let Some(listener) = listen(socket, listens, &stop).await else { return };
    let mut stopped = std::pin::pin!(stop.wait());
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut quiet_until = Instant::now();
    loop {
        // Both are cancel-safe: an accepted connection is never lost between polls.
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => {
                backoff.reset();
                admit(&shared, stream);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                shared.meter.accept_failed();
                if quiet_until <= Instant::now() {
                    quiet_until = Instant::now() + Duration::from_secs(10);
                    warn!(%error, "cannot accept HTTP connections, trying again");
                }
                tokio::select! {
                    () = &mut stopped => break,
                    () = sleep(backoff.pause()) => {}
                }
            }
        }
    }
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..=BACKLOG {
        match listener.poll_accept(&mut cx) {
            std::task::Poll::Ready(Ok((stream, _peer))) => admit(&shared, stream),
            std::task::Poll::Ready(Err(error)) if is_of_one_connection(&error) => {}
            std::task::Poll::Ready(Err(_)) | std::task::Poll::Pending => break,
        }
    }
}

/// Makes the socket listen. It can fail only if another process took the same address between our bind and now, or
/// the system is out of something: then it is tried again.
async fn listen(socket: Arc<TcpListener>, listens: bool, stop: &Shutdown) -> Option<tokio::net::TcpListener> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        let ready = if listens { Ok(()) } else { SockRef::from(&*socket).listen(BACKLOG) };
        let listener = ready.and_then(|()| socket.try_clone()).and_then(tokio::net::TcpListener::from_std);
        match listener {
            Ok(listener) => return Some(listener),
            Err(error) => error!(%error, "cannot listen for HTTP, trying again"),
        }
        tokio::select! {
            () = stop.wait() => return None,
            () = sleep(backoff.pause()) => {}
        }
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream) {
    let settings = shared.settings.load_full();
    if shared.meter.connections_open() >= settings.connections_max || shared.phase() == Phase::Cut {
        shared.meter.refused();
        return;
    }
    // Delayed ACK would hold the second of two small writes for 40 ms. A connection that is gone already says so itself.
    let _gone = stream.set_nodelay(true);
    let open = OpenConnection::new(Arc::clone(shared));
    let shared = Arc::clone(shared);
    // It counts itself for as long as it lives, and ends when the phase is `Cut`.
    drop(task::spawn("http connection", async move {
        connection::run(stream, shared, settings).await;
        drop(open);
    }));
}

/// Whether accepting failed for the one connection that was next, and may succeed for the one after it.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
