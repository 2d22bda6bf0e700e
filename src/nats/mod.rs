//! Connections to NATS: retried for ever, with authentication read anew at each connect.
//!
//! What a connection is doing is on a watch; whoever must act after each reconnect waits there for a higher session.

mod ask;
mod auth;
mod data;
mod event;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod handover;
mod servers;

pub(crate) use ask::AskError;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::{NatsConnection, NatsTls};
use auth::Authenticator;
pub(crate) use data::{DataClient, DataClientId};
use event::EventLog;
use servers::Servers;

/// The operator gives a silent host up after 60 s: three lost pings must be noticed well before.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// For one address: name lookup, TCP, TLS and greeting together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `PONG` and its line end.
const PONG_BYTES: u64 = 6;

/// How a connection presents itself, and what it can do without.
#[derive(Debug, Clone)]
pub(crate) struct Purpose {
    /// What it calls itself at the server, and in logs.
    pub(crate) name: String,
    /// Subjects whose refusal by the server costs a warning, not an error.
    pub(crate) optional: BTreeSet<String>,
}

/// A client that connects, and reconnects, by itself.
#[derive(Debug, Clone)]
pub(crate) struct NatsClient {
    /// Takes commands even before it is connected: they wait in its queue.
    pub(crate) client: Client,
    /// What the connection is doing.
    pub(crate) state: watch::Receiver<ConnectionState>,
    /// Subjects that the server does not let this connection subscribe to.
    refused: watch::Receiver<BTreeSet<String>>,
    events: Arc<EventLog>,
    /// Dropped with the last clone: from then on no server is tried any more.
    _in_use: Arc<InUse>,
}

#[derive(Debug)]
struct InUse;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// Not connected yet.
    Connecting,
    /// Connected for the `session`th time, counted from 1. Subscriptions were sent again.
    Connected {
        /// Which connection this is.
        session: u64,
    },
    /// Was connected; being connected again.
    Lost,
    /// Over, by our own doing.
    Closed,
}

/// How a connection has been doing.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// What it is doing.
    pub(crate) state: ConnectionState,
    /// Since when.
    pub(crate) since: SystemTime,
    /// Why there is none, as far as it is known. Holds no secret.
    pub(crate) error: Option<String>,
}

/// Why a connection cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NatsError {
    /// A URL cannot be read. It may hold a password and is not repeated.
    #[error("url {position} of the list is not the address of a NATS server")]
    ParseUrl {
        /// Counted from 1.
        position: usize,
        /// Why.
        source: std::io::Error,
    },
    /// There is none.
    #[error("no url of a NATS server is given")]
    NoUrl,
    /// The client cannot be made.
    #[error("cannot make a NATS client")]
    MakeClient(#[source] async_nats::ConnectError),
    /// No server of the list took the connection; this was the last one tried.
    #[error("cannot connect to NATS at {server} as {user}")]
    Connect {
        /// Its address.
        server: String,
        /// Who we said we are.
        user: String,
        /// Why not.
        source: async_nats::ConnectError,
    },
}

/// Makes a client for `purpose`. Returns at once: connecting goes on in the background, on the current runtime, for
/// ever.
pub(crate) async fn connect(settings: &NatsConnection, purpose: Purpose) -> Result<NatsClient, NatsError> {
    let dialer = Dialer::new(settings, purpose)?;
    let options = dialer.options(settings).retry_on_initial_connect();
    let client = options.connect(dialer.servers.addresses()).await.map_err(NatsError::MakeClient)?;
    Ok(dialer.into_client(client))
}

/// Makes a client that is connected, trying each server once. From then on it reconnects by itself, for ever. What
/// fails is told here, and not logged.
pub(crate) async fn connect_now(settings: &NatsConnection, purpose: Purpose) -> Result<NatsClient, NatsError> {
    let dialer = Dialer::new(settings, purpose)?;
    dialer.events.keep_quiet(true);
    let addresses = dialer.servers.addresses();
    let mut last = NatsError::NoUrl;
    for _server in &addresses {
        match dialer.options(settings).connect(addresses.clone()).await {
            Ok(client) => {
                dialer.events.keep_quiet(false);
                return Ok(dialer.into_client(client));
            }
            Err(source) => {
                let server = dialer.servers.current().unwrap_or_default();
                last = NatsError::Connect { server, user: dialer.user.clone(), source };
            }
        }
    }
    Err(last)
}

/// Makes the options of a client, and is told what becomes of it.
struct Dialer {
    name: String,
    user: String,
    servers: Arc<Servers>,
    authenticator: Arc<Authenticator>,
    events: Arc<EventLog>,
    state: watch::Receiver<ConnectionState>,
    refused: watch::Receiver<BTreeSet<String>>,
    in_use: Arc<InUse>,
}

impl Dialer {
    fn new(settings: &NatsConnection, purpose: Purpose) -> Result<Self, NatsError> {
        let servers = Arc::new(Servers::parse(&settings.urls)?);
        let authenticator = Arc::new(Authenticator::new(settings.auth.clone(), Arc::clone(&servers)));
        let (name, user) = (purpose.name.clone(), authenticator.describe());
        let events = Arc::new(EventLog::new(purpose, Arc::clone(&servers), user.clone()));
        let (state, refused) = (events.state(), events.refused());
        Ok(Self { name, user, servers, authenticator, events, state, refused, in_use: Arc::new(InUse) })
    }

    fn options(&self, settings: &NatsConnection) -> ConnectOptions {
        let authenticator = Arc::clone(&self.authenticator);
        let (picking, events) = (Arc::clone(&self.events), Arc::clone(&self.events));
        let still_in_use = Arc::downgrade(&self.in_use);
        let mut options = ConnectOptions::with_auth_callback(move |nonce| {
            let authenticator = Arc::clone(&authenticator);
            async move { authenticator.answer(&nonce).await }
        })
        .name(&self.name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .reconnect_to_server_callback(move |pool, _last_server| {
            let next = (still_in_use.strong_count() > 0).then(|| picking.next_server(&pool));
            async move {
                match next {
                    Some(next) => next,
                    // The client by itself would try on for ever, even when nobody is left to use the connection, and
                    // has no way to be told. Unwinding ends its task; it is no panic, so nothing is reported.
                    None => std::panic::resume_unwind(Box::new("nobody uses this connection any more")),
                }
            }
        })
        .event_callback(move |event| {
            events.handle(event);
            std::future::ready(())
        });
        if let Some(prefix) = &settings.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        encrypted(options, &settings.tls)
    }

    fn into_client(self, client: Client) -> NatsClient {
        let Self { state, refused, events, in_use, .. } = self;
        NatsClient { client, state, refused, events, _in_use: in_use }
    }
}

impl NatsClient {
    /// Whether there is a connection now.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// What it is doing, since when, and why if it is not connected.
    pub(crate) fn standing(&self) -> Standing {
        self.events.standing()
    }

    /// Those of `subjects` that the server does not let this connection subscribe to, as far as it has said so.
    pub(crate) fn refused_of(&self, subjects: &[String]) -> Vec<String> {
        let refused = self.refused.borrow();
        subjects.iter().filter(|subject| refused.contains(*subject)).cloned().collect()
    }

    /// PING, PONG: the server handles what it is sent in order, so after PONG it has handled our SUBs.
    ///
    /// The client has no call for that. Draining a subscription sends a PING and ends the subscription at the client's
    /// next turn, which is PONG's unless something else comes first; hence the look at the bytes received. A second
    /// subscription to a `subject` that we are allowed anyway costs no permission, and nobody reads what it gets.
    pub(crate) async fn barrier(&self, subject: &str) {
        let statistics = self.client.statistics();
        let before = statistics.in_bytes.load(Ordering::Relaxed);
        loop {
            let Ok(mut probe) = self.client.subscribe(subject.to_owned()).await else {
                return;
            };
            if probe.drain().await.is_err() {
                return;
            }
            while probe.next().await.is_some() {}
            if statistics.in_bytes.load(Ordering::Relaxed) >= before.saturating_add(PONG_BYTES) {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Certificates are read from their files at each connect, by the client itself.
fn encrypted(mut options: ConnectOptions, tls: &NatsTls) -> ConnectOptions {
    let NatsTls { ca, client, first } = tls;
    // Who names certificates wants them used: a server that asks for no TLS is then refused.
    if let Some(ca) = ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = client {
        options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    if *first {
        options = options.tls_first();
    }
    options
}
