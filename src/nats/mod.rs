//! Connections to NATS: retried for ever, with authentication read anew at each connect.
//!
//! What a connection is doing is on a watch; whoever must act after each reconnect waits there for a higher session.

mod auth;
mod event;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use tokio::sync::watch;

use crate::config::{NatsConnection, NatsTls};
use auth::Authenticator;
use event::EventLog;
use servers::Servers;

/// The operator gives a silent host up after 60 s: three lost pings must be noticed well before.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// For one address: name lookup, TCP, TLS and greeting together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that connects, and reconnects, by itself.
#[derive(Debug, Clone)]
pub(crate) struct NatsClient {
    /// Takes commands even before it is connected: they wait in its queue.
    pub(crate) client: Client,
    /// What the connection is doing.
    pub(crate) state: watch::Receiver<ConnectionState>,
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
}

/// Makes a client that calls itself `name` at the server. Returns at once: connecting goes on in the background, on the
/// current runtime, for ever.
pub(crate) async fn connect(settings: &NatsConnection, name: &str) -> Result<NatsClient, NatsError> {
    let servers = Arc::new(Servers::parse(&settings.urls)?);
    let (state_tx, state) = watch::channel(ConnectionState::Connecting);
    let authenticator = Arc::new(Authenticator::new(settings.auth.clone(), Arc::clone(&servers)));
    let events = Arc::new(EventLog::new(name, state_tx, Arc::clone(&servers), authenticator.describe()));

    let addresses = servers.addresses();
    let picking = Arc::clone(&events);
    let in_use = Arc::new(InUse);
    let still_in_use = Arc::downgrade(&in_use);
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let authenticator = Arc::clone(&authenticator);
        async move { authenticator.answer(&nonce).await }
    })
    .name(name)
    .ping_interval(PING_INTERVAL)
    .connection_timeout(CONNECT_TIMEOUT)
    .retry_on_initial_connect()
    .reconnect_to_server_callback(move |pool, _last_server| {
        // The client by itself would try on for ever, even when nobody is left to use the connection.
        let next = (still_in_use.strong_count() > 0).then(|| picking.next_server(&pool));
        async move {
            match next {
                Some(next) => next,
                None => std::future::pending().await,
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
    let client = encrypted(options, &settings.tls).connect(addresses).await.map_err(NatsError::MakeClient)?;
    Ok(NatsClient { client, state, _in_use: in_use })
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
