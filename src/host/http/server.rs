//! A server: one address, its settings, its connections, and their orderly end.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::config;
use crate::host::http::listener::{self, BindError, Sockets};
#[cfg(test)]
use crate::host::http::meter::Totals;
use crate::host::http::router::HttpRouter;
use crate::host::http::settings::Settings;
use crate::host::http::shared::{Phase, Shared};
use crate::host::http::tls::Tls;
use crate::task::{self, Shutdown};

/// How long a client whose connection is half established gets to complete it: a round trip on most networks.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// How long connections may take to notice that they are cut.
const CUT_WAIT: Duration = Duration::from_secs(1);

/// An address that is ours and takes no connections yet. Dropped, it is as if it had never been.
#[derive(Debug)]
pub(crate) struct BoundListener {
    sockets: Sockets,
    tls: Option<Tls>,
}

/// Takes connections and serves them. Dropped, it cuts them all; [`HttpServer::drain`] is the gentle end.
#[derive(Debug)]
pub(crate) struct HttpServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Kept for a later server of the same port; empty once this one accepts no more.
    sockets: Mutex<Vec<Arc<TcpListener>>>,
    acceptors: Mutex<Vec<JoinHandle<Option<()>>>>,
    stop_accepting: Shutdown,
}

impl HttpServer {
    /// Binds the address of `settings`, sharing it with the running server `live` where the two overlap.
    pub(crate) fn bind(settings: &config::Http, live: Option<&Self>) -> Result<BoundListener, BindError> {
        let address = settings.listen.ok_or(BindError::NoAddress)?;
        let live = live.map(|live| live.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        let sockets = Sockets::bind(address, live.as_deref().map_or(&[], Vec::as_slice))?;
        Ok(BoundListener { sockets, tls: None })
    }

    /// What it listens on, for a server that takes its place while this one drains; `None` once it drains.
    pub(crate) fn successor(&self) -> Option<BoundListener> {
        let live = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        Sockets::of(&live, self.address).map(|sockets| BoundListener { sockets, tls: None })
    }

    /// Whether with `tls` someone could be kept out who has a connection now: then those connections are to end.
    pub(crate) fn closes_door(&self, tls: Option<&Tls>) -> bool {
        Tls::closes_door(self.shared.settings.load().tls.as_ref(), tls)
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Uses `settings` from the next connection on; the address stays as it is.
    pub(crate) fn apply(&self, settings: config::Http, tls: Option<Tls>) {
        self.shared.router.set_cluster_domain(&settings.cluster_domain);
        let tls = tls.map(|tls| tls.succeed(self.shared.settings.load().tls.as_ref()));
        self.shared.settings.store(Arc::new(Settings::new(settings, tls)));
    }

    /// When the certificate of new connections expires; `None` without TLS.
    pub(crate) fn tls_not_after(&self) -> Option<SystemTime> {
        self.shared.settings.load().tls.as_ref().and_then(Tls::not_after)
    }

    /// Goes on serving, and tells clients to leave with each response. Idle connections are closed.
    pub(crate) fn begin_drain(&self) {
        self.shared.enter(Phase::Draining);
    }

    /// Takes no more connections, and waits until the open ones have ended; cuts those that have not by `deadline`.
    ///
    /// Returns how many were cut. A second call waits as the first one does.
    pub(crate) async fn drain(&self, deadline: Instant) -> usize {
        let sockets = std::mem::take(&mut *self.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        // What a later server took over stays open as it is; what only this list and its acceptor hold is closed.
        let closing = sockets.iter().filter(|socket| Arc::strong_count(socket) <= 2);
        if closing.map(|socket| listener::turn_away(socket)).fold(false, |any, turned| any | turned) {
            sleep_until(deadline.min(Instant::now() + HANDSHAKE)).await;
        }
        self.stop_accepting.trigger();
        let acceptors = std::mem::take(&mut *self.acceptors.lock().unwrap_or_else(PoisonError::into_inner));
        for acceptor in acceptors {
            // A panic in it was logged where it happened.
            let _ended = acceptor.await;
        }
        self.shared.enter(Phase::Draining);
        let forced = self.shared.wait_until_empty(deadline).await;
        self.shared.enter(Phase::Cut);
        if forced > 0 {
            self.shared.wait_until_empty(Instant::now() + CUT_WAIT).await;
        }
        forced
    }
}

impl HttpServer {
    /// Connections open now.
    pub(crate) fn connections(&self) -> usize {
        self.shared.meter.connections_open()
    }

    /// Whether the next connection would be refused.
    pub(crate) fn is_full(&self) -> bool {
        self.connections() >= self.shared.settings.load().connections_max
    }

    /// What it and all servers of its router count.
    #[cfg(test)]
    pub(crate) fn totals(&self) -> Arc<Totals> {
        self.shared.router.totals()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop_accepting.trigger();
        self.shared.enter(Phase::Cut);
    }
}

impl BoundListener {
    /// What was bound; the port is a real one.
    #[cfg(test)]
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.sockets.address
    }

    /// Encrypts the connections.
    pub(crate) fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Starts taking connections, on `runtime`, for what `router` knows.
    pub(crate) fn serve(self, router: Arc<HttpRouter>, settings: config::Http, runtime: &Handle) -> HttpServer {
        router.set_cluster_domain(&settings.cluster_domain);
        let shared = Arc::new(Shared::new(router, Settings::new(settings, self.tls)));
        let is_listening = self.sockets.listen();
        let Sockets { own, inherited, address, .. } = self.sockets;
        let stop = Shutdown::default();
        let (mut sockets, mut acceptors) = (Vec::new(), Vec::new());
        for (socket, listens) in [(own, is_listening)].into_iter().chain(inherited.into_iter().map(|it| (it, true))) {
            let accept = listener::accept(Arc::clone(&shared), Arc::clone(&socket), listens, stop.clone());
            acceptors.push(task::spawn_on(runtime, "http accept", accept));
            sockets.push(socket);
        }
        HttpServer {
            shared,
            address,
            sockets: Mutex::new(sockets),
            acceptors: Mutex::new(acceptors),
            stop_accepting: stop,
        }
    }
}
