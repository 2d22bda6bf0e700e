//! `[nats.scheduler]` and `[nats.data]`: the connections to NATS.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::config::path::join;
use crate::config::resolve::Resolver;
use crate::config::scalar::{FileDuration, FileUrl};

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

/// `[nats]`: the connections to NATS.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileNats {
    /// The control plane. Without this table the host is standalone.
    pub(super) scheduler: Option<FileScheduler>,
    /// The data plane; connected only when a plugin needs it.
    pub(super) data: FileDataConnection,
}

/// `[nats.scheduler]`: the control plane. Another connection is made beside the old one before it takes over.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileScheduler {
    /// Servers to try.
    #[schemars(extend("x-washlet-secret" = "user-info"))]
    pub(super) urls: Vec<FileUrl>,
    /// Time between two heartbeats.
    pub(super) heartbeat_interval: FileDuration,
    /// Commands worked on at once.
    #[schemars(range(min = 1))]
    pub(super) commands_in_flight_max: u32,
    /// Starts worked on at once. 0: cores - 1, at least 1.
    pub(super) starts_in_flight_max: u32,
    /// After it a start answers STARTING and goes on.
    pub(super) start_reply_wait: FileDuration,
    /// A `.creds` file.
    pub(super) creds_file: Option<PathBuf>,
    /// A file with an nkey seed.
    pub(super) nkey_seed_file: Option<PathBuf>,
    /// A token.
    pub(super) token: Option<Secret>,
    /// File with the token.
    pub(super) token_file: Option<PathBuf>,
    /// User name.
    pub(super) user: Option<String>,
    /// Password of the user.
    pub(super) password: Option<Secret>,
    /// File with the password.
    pub(super) password_file: Option<PathBuf>,
    /// Prefix of reply subjects. Unset: `_INBOX`.
    pub(super) inbox_prefix: Option<String>,
    /// How the connection is encrypted.
    pub(super) tls: FileNatsTls,
}

/// `[nats.data]`: the data plane.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileDataConnection {
    /// Servers to try.
    #[schemars(extend("x-washlet-secret" = "user-info"))]
    pub(super) urls: Vec<FileUrl>,
    /// A `.creds` file.
    pub(super) creds_file: Option<PathBuf>,
    /// A file with an nkey seed.
    pub(super) nkey_seed_file: Option<PathBuf>,
    /// A token.
    pub(super) token: Option<Secret>,
    /// File with the token.
    pub(super) token_file: Option<PathBuf>,
    /// User name.
    pub(super) user: Option<String>,
    /// Password of the user.
    pub(super) password: Option<Secret>,
    /// File with the password.
    pub(super) password_file: Option<PathBuf>,
    /// Prefix of reply subjects. Unset: `_INBOX`.
    pub(super) inbox_prefix: Option<String>,
    /// How the connection is encrypted.
    pub(super) tls: FileNatsTls,
}

/// How a connection is encrypted. The files are read again at each connect.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileNatsTls {
    /// PEM bundle of trusted authorities.
    pub(super) ca: Option<PathBuf>,
    /// PEM client certificate; needs `key`.
    pub(super) cert: Option<PathBuf>,
    /// PEM key of the client certificate.
    pub(super) key: Option<PathBuf>,
    /// TLS handshake before the server's INFO.
    pub(super) first: bool,
}

fn default_urls() -> Vec<FileUrl> {
    NatsConnection::default().urls.iter().map(|url| FileUrl(url.expose().to_owned())).collect()
}

impl Default for FileScheduler {
    fn default() -> Self {
        Self {
            urls: default_urls(),
            heartbeat_interval: FileDuration(Duration::from_secs(15)),
            commands_in_flight_max: 64,
            starts_in_flight_max: 0,
            start_reply_wait: FileDuration(Duration::from_secs(10)),
            creds_file: None,
            nkey_seed_file: None,
            token: None,
            token_file: None,
            user: None,
            password: None,
            password_file: None,
            inbox_prefix: None,
            tls: FileNatsTls::default(),
        }
    }
}

impl Default for FileDataConnection {
    fn default() -> Self {
        Self {
            urls: default_urls(),
            creds_file: None,
            nkey_seed_file: None,
            token: None,
            token_file: None,
            user: None,
            password: None,
            password_file: None,
            inbox_prefix: None,
            tls: FileNatsTls::default(),
        }
    }
}

impl FileNats {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Nats {
        let Self { scheduler, data } = self;
        Nats { scheduler: scheduler.map(|scheduler| scheduler.resolve(cx)), data: data.resolve(cx) }
    }
}

/// A reply must leave before the operator's request of 60 s is over.
const START_REPLY_WAIT_MAX: Duration = Duration::from_secs(55);

impl FileScheduler {
    fn resolve(self, cx: &mut Resolver<'_>) -> Scheduler {
        let Self {
            urls,
            heartbeat_interval,
            commands_in_flight_max,
            starts_in_flight_max,
            start_reply_wait,
            creds_file,
            nkey_seed_file,
            token,
            token_file,
            user,
            password,
            password_file,
            inbox_prefix,
            tls,
        } = self;
        let at = |key: &str| join("nats.scheduler", key);
        if start_reply_wait.0 >= START_REPLY_WAIT_MAX {
            cx.error(&at("start_reply_wait"), "expected less than 55s: the operator waits for 60s");
        }
        let connection = FileDataConnection {
            urls,
            creds_file,
            nkey_seed_file,
            token,
            token_file,
            user,
            password,
            password_file,
            inbox_prefix,
            tls,
        };
        let connection = connection.resolve_at("nats.scheduler", cx);
        let default = Scheduler::default();
        let count = |max: u32| usize::try_from(max).ok().and_then(NonZeroUsize::new);
        Scheduler {
            connection,
            heartbeat_interval: cx.positive(&at("heartbeat_interval"), heartbeat_interval),
            commands_in_flight_max: count(commands_in_flight_max).unwrap_or(default.commands_in_flight_max),
            starts_in_flight_max: count(starts_in_flight_max).unwrap_or(default.starts_in_flight_max),
            start_reply_wait: cx.positive(&at("start_reply_wait"), start_reply_wait),
        }
    }
}
