//! What happens to a connection: published as its state, and logged so that nothing fails in silence.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{ClientError, Event, ReconnectToServer, ServerError};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::nats::servers::{Servers, name_of};
use crate::nats::{ConnectionState, Purpose, Standing};

/// A failure that goes on is said again after this long.
const REPEAT_AFTER: Duration = Duration::from_secs(30);
/// Of one connection; a refusal past it is logged each time.
const REFUSALS_MAX: usize = 64;

/// Watches over one connection.
#[derive(Debug)]
pub(super) struct EventLog {
    purpose: Purpose,
    /// Who we say we are.
    user: String,
    state: watch::Sender<ConnectionState>,
    standing: Mutex<Standing>,
    /// Subjects that the server refused since the last connect.
    refused: watch::Sender<BTreeSet<String>>,
    /// Refusals that were logged: the server repeats them at each connect.
    said: Mutex<BTreeSet<String>>,
    /// Whoever tries to connect reports by himself why he cannot.
    is_quiet: AtomicBool,
    sessions: AtomicU64,
    servers: Arc<Servers>,
    unreachable: Quiet,
    slow: Quiet,
}

/// Lets one report through, then none for a while, and counts those it kept.
#[derive(Debug, Default)]
struct Quiet(Mutex<(Option<Instant>, u64)>);

impl EventLog {
    pub(super) fn new(purpose: Purpose, servers: Arc<Servers>, user: String) -> Self {
        Self {
            purpose,
            user,
            state: watch::Sender::new(ConnectionState::Connecting),
            standing: Mutex::new(Standing::now(ConnectionState::Connecting, None)),
            refused: watch::Sender::default(),
            said: Mutex::default(),
            is_quiet: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            servers,
            unreachable: Quiet::default(),
            slow: Quiet::default(),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, state: ConnectionState, error: Option<String>) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Standing::now(state, error);
        self.state.send_replace(state);
    }

    pub(super) fn refused(&self) -> watch::Receiver<BTreeSet<String>> {
        self.refused.subscribe()
    }

    /// Whether attempts that fail go unsaid.
    pub(super) fn keep_quiet(&self, is_quiet: bool) {
        self.is_quiet.store(is_quiet, Ordering::Relaxed);
    }

    /// Picks the next server; says why the last one could not be had.
    pub(super) fn next_server(&self, pool: &[async_nats::Server]) -> Option<ReconnectToServer> {
        if !self.is_quiet.load(Ordering::Relaxed)
            && let Some(last) = self.servers.failing()
        {
            let server = pool.iter().find(|server| name_of(&server.addr) == last);
            // The client notes no error when the name cannot be looked up.
            let why = server.and_then(|server| server.last_error.as_deref()).unwrap_or("cannot look up its name");
            let error = format!("cannot connect to NATS at {last}: {why}");
            self.standing.lock().unwrap_or_else(PoisonError::into_inner).error = Some(error);
            if let Some(kept_quiet) = self.unreachable.may_speak() {
                self.unreachable(&last, why, kept_quiet);
            }
        }
        self.servers.next(pool)
    }

    fn unreachable(&self, server: &str, why: &str, kept_quiet: u64) {
        let (name, user) = (&self.purpose.name, &self.user);
        if why.contains("authorization violation") || why.contains("AuthError") {
            error!(connection = name, server, user, error = why, kept_quiet, "the NATS server does not let us in");
        } else {
            warn!(connection = name, server, error = why, kept_quiet, "cannot connect to NATS, trying on");
        }
    }

    /// Called for one event after the other; must not block.
    pub(super) fn handle(&self, event: Event) {
        let name = &self.purpose.name;
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
                self.publish(ConnectionState::Lost, Some(format!("lost the connection to NATS at {server}")));
            }
            Event::LameDuckMode => info!(connection = name, server, "the NATS server is about to shut down"),
            Event::Draining => debug!(connection = name, "draining the connection to NATS"),
            Event::Closed => {
                debug!(connection = name, "closed the connection to NATS");
                self.publish(ConnectionState::Closed, None);
            }
            Event::SlowConsumer(subscription) => {
                if let Some(kept_quiet) = self.slow.may_speak() {
                    error!(connection = name, subscription, kept_quiet, "messages were dropped: read too slowly");
                }
            }
            Event::ServerError(ServerError::SlowConsumer(_)) => {
                error!(connection = name, server, "the NATS server calls this connection a slow consumer");
            }
            Event::ServerError(refusal) => self.refused_by(&server, &refusal.to_string()),
            // Why is known to the next pick.
            Event::ClientError(ClientError::Other(kind)) => {
                debug!(connection = name, server, error = kind, "no connection")
            }
            Event::ClientError(failure) => warn!(connection = name, server, error = %failure, "the NATS client failed"),
        }
    }

    fn refused_by(&self, server: &str, refusal: &str) {
        let subject = refused_subject(refusal);
        if let Some(subject) = subject {
            self.refused.send_modify(|refused| {
                refused.insert(subject.to_owned());
            });
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.contains(refusal) {
            return;
        }
        if said.len() < REFUSALS_MAX {
            said.insert(refusal.to_owned());
        }
        drop(said);
        let (name, user) = (&self.purpose.name, &self.user);
        if subject.is_some_and(|subject| self.purpose.optional.contains(subject)) {
            warn!(connection = name, server, user, error = refusal, "the NATS server refused what we can do without");
        } else {
            error!(connection = name, server, user, error = refusal, "the NATS server refused something");
        }
    }

    fn connected(&self) {
        self.refused.send_modify(BTreeSet::clear);
        // Events come one by one, so nobody else counts at the same time.
        let session = self.sessions.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.publish(ConnectionState::Connected { session }, None);
    }
}

/// The subject of `Permissions Violation for Subscription to "a.b"`.
fn refused_subject(refusal: &str) -> Option<&str> {
    let (_, quoted) = refusal.split_once("for Subscription to \"")?;
    quoted.split_once('"').map(|(subject, _)| subject)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_subscription_is_known_by_its_subject() {
        let refusal = |text: &str| refused_subject(text).map(str::to_owned);
        let subject = Some("runtime.host.x.config.status".to_owned());
        assert_eq!(
            refusal("nats: Permissions Violation for Subscription to \"runtime.host.x.config.status\""),
            subject
        );
        assert_eq!(
            refusal(
                "nats: Permissions Violation for Subscription to \"runtime.host.x.config.status\" using queue \"q\""
            ),
            subject
        );
        assert_eq!(refusal("nats: Permissions Violation for Publish to \"a\""), None);
    }

    #[test]
    fn a_refusal_is_remembered_until_the_next_connect() {
        let servers = Arc::new(Servers::parse(&[crate::config::Secret::new("a")]).unwrap());
        let purpose = Purpose { name: "test".to_owned(), optional: BTreeSet::new() };
        let log = EventLog::new(purpose, servers, "me".to_owned());
        let refusal = "Permissions Violation for Subscription to \"a.b\"".to_owned();
        log.handle(Event::ServerError(ServerError::Other(refusal)));
        assert_eq!(log.refused().borrow().iter().collect::<Vec<_>>(), ["a.b"]);
        log.handle(Event::Connected);
        assert!(log.refused().borrow().is_empty());
        assert_eq!(*log.state().borrow(), ConnectionState::Connected { session: 1 });
    }
}
