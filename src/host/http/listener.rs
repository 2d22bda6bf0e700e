//! The listening socket: bound before anything is swapped, taking connections after, handed over between servers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

#[cfg(target_os = "linux")]
use socket2::SockFilter;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use crate::host::http::connection;
use crate::host::http::shared::{OpenConnection, Phase, Shared};
use crate::task::{self, Backoff, Shutdown};

/// Connections that the kernel completes for us while we are busy; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// A connection is asked for a sign of life after this long without one, and then every quarter of it.
const KEEPALIVE: Duration = Duration::from_secs(60);

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
}

/// Sockets of one server, before it takes connections.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) own: Arc<TcpListener>,
    /// Narrower addresses of the same port that an earlier server listens on: closing them would reset what is in
    /// their backlogs.
    pub(super) inherited: Vec<Arc<TcpListener>>,
    pub(super) address: SocketAddr,
    /// Whether `own` listens already.
    is_listening: bool,
    /// Those of the earlier server on the same port.
    neighbours: Vec<Arc<TcpListener>>,
}

impl Sockets {
    /// Binds `address`, or takes it over from `live`.
    pub(super) fn bind(address: SocketAddr, live: &[Arc<TcpListener>]) -> Result<Self, BindError> {
        let listens_on = |socket: &TcpListener, wanted: SocketAddr| {
            socket.local_addr().is_ok_and(|live| live.port() == wanted.port() && live.ip() == wanted.ip())
        };
        let is_same_port = |socket: &TcpListener| {
            address.port() != 0 && socket.local_addr().is_ok_and(|live| live.port() == address.port())
        };
        let neighbours: Vec<_> = live.iter().filter(|socket| is_same_port(socket)).map(Arc::clone).collect();
        let is_wide = address.ip().is_unspecified();
        let inherited =
            neighbours.iter().filter(|socket| is_wide && !listens_on(socket, address)).map(Arc::clone).collect();
        if let Some(same) = neighbours.iter().find(|socket| listens_on(socket, address)) {
            let own = Arc::clone(same);
            return Ok(Self { own, inherited, address, is_listening: true, neighbours: Vec::new() });
        }
        let own = bind(address, &neighbours)?;
        let address = own.local_addr().map_err(|error| BindError::Bind(address, error))?;
        Ok(Self { own: Arc::new(own), inherited, address, is_listening: false, neighbours })
    }

    /// From now on the kernel takes connections. Whether it does: see [`ready`].
    pub(super) fn listen(&self) -> bool {
        if self.is_listening {
            return true;
        }
        // Linux looks for conflicts again when a bound socket begins to listen.
        share_port(&self.own, &self.neighbours, true)
            .and_then(|()| listen(&self.own))
            .and(share_port(&self.own, &self.neighbours, false))
            .inspect(|()| info!(http.listen = %self.address, "listening for HTTP"))
            .inspect_err(|error| error!(%error, address = %self.address, "cannot listen for HTTP, trying again"))
            .is_ok()
    }
}

fn bind(address: SocketAddr, neighbours: &[Arc<TcpListener>]) -> Result<TcpListener, BindError> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            // Connections of an earlier process in TIME_WAIT do not hold the port.
            socket.set_reuse_address(true)?;
            // Accepted connections inherit it. A client that vanished during a call would otherwise hold its
            // connection, and its guest, for as long as neither has anything to send.
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
            Ok(TcpListener::from(socket))
        })
        .map_err(|error| BindError::MakeSocket(address, error))?;
    let bound = share_port(&socket, neighbours, true).and_then(|()| SockRef::from(&socket).bind(&address.into()));
    let unshared = share_port(&socket, neighbours, false);
    bound.and(unshared).map_err(|error| BindError::Bind(address, error))?;
    Ok(socket)
}

/// Lets `socket` overlap with its `neighbours`: for the moment of a bind or listen only, so that no other process ever
/// shares the port.
fn share_port(socket: &TcpListener, neighbours: &[Arc<TcpListener>], shared: bool) -> io::Result<()> {
    if neighbours.is_empty() {
        return Ok(());
    }
    SockRef::from(socket).set_reuse_port(shared)?;
    neighbours.iter().try_for_each(|neighbour| SockRef::from(&**neighbour).set_reuse_port(shared))
}

fn listen(socket: &TcpListener) -> io::Result<()> {
    SockRef::from(socket).listen(BACKLOG)
}

/// Lets the kernel ignore whoever wants to connect from now on, while connections that it has accepted already can
/// still be taken; says whether it does.
///
/// What arrives between the last accept and the close of a listening socket is reset, established connections
/// included. Ignored instead, it tries again, and is refused or finds the new listener.
#[cfg(target_os = "linux")]
pub(super) fn turn_away(socket: &TcpListener) -> bool {
    // Classic BPF over the TCP header: of its flags (byte 13), SYN without ACK is dropped, anything else kept.
    let filter = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    SockRef::from(socket)
        .attach_filter(&filter)
        .inspect_err(|error| debug!(%error, "connections cannot be turned away before the socket is closed"))
        .is_ok()
}

/// Elsewhere there is no such filter, and the moment between the last accept and the close remains.
#[cfg(not(target_os = "linux"))]
pub(super) fn turn_away(_socket: &TcpListener) -> bool {
    false
}

/// Takes connections from one socket until told to stop; then empties the socket's queue, because closing it would
/// reset what is in there.
pub(super) async fn accept(shared: Arc<Shared>, socket: Arc<TcpListener>, listens: bool, stop: Shutdown) {
    let Some(listener) = ready(&socket, listens, &stop).await else { return };
    let mut stopped = std::pin::pin!(stop.wait());
    let mut backoff = backoff();
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
    empty_backlog(&shared, &socket);
}

/// Takes what the kernel has completed already. Asks the kernel itself: the runtime's listener knows only of what it
/// was woken for.
fn empty_backlog(shared: &Arc<Shared>, socket: &TcpListener) {
    for _ in 0..=BACKLOG {
        match socket.accept() {
            Ok((stream, _peer)) => {
                let handed = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                match handed {
                    Ok(stream) => admit(shared, stream),
                    Err(error) => warn!(%error, "cannot serve an accepted HTTP connection"),
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(_would_block_or_worse) => return,
        }
    }
}

/// Hands the socket to the runtime, and makes it listen unless it does. Both fail only if another process took the
/// same address between our bind and now, or the system is out of something: then it is tried again.
async fn ready(socket: &TcpListener, listens: bool, stop: &Shutdown) -> Option<tokio::net::TcpListener> {
    let mut backoff = backoff();
    loop {
        let listening = if listens { Ok(()) } else { listen(socket) };
        match listening.and_then(|()| socket.try_clone()).and_then(tokio::net::TcpListener::from_std) {
            Ok(listener) => return Some(listener),
            Err(error) => error!(%error, "cannot listen for HTTP, trying again"),
        }
        tokio::select! {
            () = stop.wait() => return None,
            () = sleep(backoff.pause()) => {}
        }
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_turned_away_leaves_the_connections_before_it_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut before = std::net::TcpStream::connect(address).unwrap();
        assert!(turn_away(&listener));
        let late = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut accepted, _peer) = listener.accept().unwrap();
        drop(listener);
        io::Write::write_all(&mut before, b"still here").unwrap();
        let mut bytes = [0; 10];
        io::Read::read_exact(&mut accepted, &mut bytes).unwrap();
        assert_eq!(&bytes, b"still here");
        assert_eq!(std::net::TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
