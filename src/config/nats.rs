//! `[nats.scheduler]` and `[nats.data]`: the connections to NATS.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Secret;

/// Both planes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Nats {
    /// The control plane; a standalone host if absent.
    pub scheduler: Option<Scheduler>,
    /// The data plane; connected only when a plugin needs it.
    pub data: NatsConnection,
}

/// The control plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduler {
    /// How to connect.
    pub connection: NatsConnection,
    /// Time between two heartbeats.
    pub heartbeat_interval: Duration,
    /// Commands worked on at once.
    pub commands_in_flight_max: NonZeroUsize,
    /// Starts worked on at once.
    pub starts_in_flight_max: NonZeroUsize,
    /// After it a start answers STARTING and goes on.
    pub start_reply_wait: Duration,
}

impl Default for Scheduler {
    fn default() -> Self {
        // One core is left for I/O while all the others compile.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            connection: NatsConnection::default(),
            heartbeat_interval: Duration::from_secs(15),
            commands_in_flight_max: NonZeroUsize::new(64).unwrap_or(NonZeroUsize::MIN),
            starts_in_flight_max: NonZeroUsize::new(cores.saturating_sub(1)).unwrap_or(NonZeroUsize::MIN),
            start_reply_wait: Duration::from_secs(10),
        }
    }
}

/// One connection to one NATS cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct NatsConnection {
    /// Servers to try. User information in a URL is a secret: print with care.
    pub urls: Vec<Secret>,
    /// How to authenticate.
    pub auth: NatsAuth,
    /// How to encrypt.
    pub tls: NatsTls,
    /// Prefix of reply subjects; `_INBOX` if absent.
    pub inbox_prefix: Option<String>,
}

impl Default for NatsConnection {
    fn default() -> Self {
        Self {
            urls: vec![Secret::new("nats://localhost:4222")],
            auth: NatsAuth::None,
            tls: NatsTls::default(),
            inbox_prefix: None,
        }
    }
}

/// How to authenticate. Files are read again at each connect.
#[derive(Debug, Clone, PartialEq)]
pub enum NatsAuth {
    /// Not at all, or by user information in the URL.
    None,
    /// A `.creds` file.
    CredsFile(PathBuf),
    /// A file with an nkey seed.
    NkeySeedFile(PathBuf),
    /// A token.
    Token(Secret),
    /// User and password.
    UserPassword {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
}

/// How to encrypt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatsTls {
    /// PEM bundle of trusted authorities.
    pub ca: Option<PathBuf>,
    /// PEM client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// TLS handshake before the server's INFO.
    pub first: bool,
}
