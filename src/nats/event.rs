//! What happens to a connection: published as its state, and logged so that nothing fails in silence.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{ClientError, Event, ReconnectToServer, ServerError};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::nats::ConnectionState;
use crate::nats::servers::{Servers, name_of};

/// A failure that goes on is said again after this long.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// Watches over one connection.
#[derive(Debug)]
pub(super) struct EventLog {
    /// Name of the connection.
    name: String,
    /// Who we say we are.
    user: String,
    state: watch::Sender<ConnectionState>,
    sessions: AtomicU64,
    servers: Arc<Servers>,
    unreachable: Quiet,
    slow: Quiet,
}

/// Lets one report through, then none for a while, and counts those it kept.
#[derive(Debug, Default)]
struct Quiet(Mutex<(Option<Instant>, u64)>);

impl EventLog {
    pub(super) fn new(name: &str, state: watch::Sender<ConnectionState>, servers: Arc<Servers>, user: String) -> Self {
        let (sessions, unreachable, slow) = (AtomicU64::new(0), Quiet::default(), Quiet::default());
        Self { name: name.to_owned(), user, state, sessions, servers, unreachable, slow }
    }

    /// Picks the next server; says why the last one could not be had.
    pub(super) fn next_server(&self, pool: &[async_nats::Server]) -> Option<ReconnectToServer> {
        if let Some(last) = self.servers.failing()
            && let Some(kept_quiet) = self.unreachable.may_speak()
        {
            let server = pool.iter().find(|server| name_of(&server.addr) == last);
            // The client notes no error when the name cannot be looked up.
            let why = server.and_then(|server| server.last_error.as_deref()).unwrap_or("cannot look up its name");
            self.unreachable(&last, why, kept_quiet);
        }
        self.servers.next(pool)
    }

    fn unreachable(&self, server: &str, why: &str, kept_quiet: u64) {
        let (name, user) = (&self.name, &self.user);
        if why.contains("authorization violation") || why.contains("AuthError") {
            error!(connection = name, server, user, error = why, kept_quiet, "the NATS server does not let us in");
        } else {
            warn!(connection = name, server, error = why, kept_quiet, "cannot connect to NATS, trying on");
        }
    }

    /// Called for one event after the other; must not block.
    pub(super) fn handle(&self, event: Event) {
        let name = &self.name;
        let server = self.servers.current().unwrap_or_default();
        match event {
            Event::Connected => {
                self.servers.connected();
                self.unreachable.reset();
                info!(connection = name, server, "connected to NATS");
                self.connected();
            }
            Event::Disconnected => {
                warn!(connection = name, server, "lost the connection to NATS");
                self.state.send_replace(ConnectionState::Lost);
            }
            Event::LameDuckMode => info!(connection = name, server, "the NATS server is about to shut down"),
            Event::Draining => debug!(connection = name, "draining the connection to NATS"),
            Event::Closed => {
                debug!(connection = name, "closed the connection to NATS");
                self.state.send_replace(ConnectionState::Closed);
            }
            Event::SlowConsumer(subscription) => {
                if let Some(kept_quiet) = self.slow.may_speak() {
                    error!(connection = name, subscription, kept_quiet, "messages were dropped: read too slowly");
                }
            }
            Event::ServerError(ServerError::SlowConsumer(_)) => {
                error!(connection = name, server, "the NATS server calls this connection a slow consumer");
            }
            Event::ServerError(refusal) => {
                error!(connection = name, server, user = self.user, error = %refusal, "the NATS server refused something");
            }
            // Why is known to the next pick.
            Event::ClientError(ClientError::Other(kind)) => {
                debug!(connection = name, server, error = kind, "no connection")
            }
            Event::ClientError(failure) => warn!(connection = name, server, error = %failure, "the NATS client failed"),
        }
    }

    fn connected(&self) {
        // Events come one by one, so nobody else counts at the same time.
        let session = self.sessions.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.state.send_replace(ConnectionState::Connected { session });
    }
}

impl Quiet {
    /// How many reports were kept since the last one, if it is time for one.
    fn may_speak(&self) -> Option<u64> {
        let mut quiet = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (spoke_at, kept) = &mut *quiet;
        if spoke_at.is_some_and(|at| at.elapsed() < REPEAT_AFTER) {
            *kept = kept.saturating_add(1);
            return None;
        }
        *spoke_at = Some(Instant::now());
        Some(std::mem::take(kept))
    }

    /// The next report goes through.
    fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (None, 0);
    }
}
