//! The configuration: bytes -> `FileConfig` -> `Config`. Opens no socket and spawns nothing.

pub mod engine;
pub mod files;
pub mod host;
pub mod http;
pub mod nats;
pub mod observe;
pub mod plugins;
pub mod policy;
pub mod registry;
pub mod reload;
pub mod secret;
mod settle;
pub mod workloads;

use std::path::PathBuf;

pub use engine::Engine;
pub use host::Host;
pub use http::Http;
pub use nats::{Nats, NatsAuth, NatsConnection, NatsTls, Scheduler};
pub use observe::{Log, LogFormat};
pub use plugins::{ConfigPlugin, KeyvalueBackend, KeyvaluePlugin, LoggingPlugin, Plugins};
pub use policy::{Drain, Limits};
pub use registry::{Artifacts, Registry, RegistryHost};
pub use reload::Reload;
pub use secret::Secret;
pub use workloads::StaticWorkload;

/// Everything the host is told, checked: no field here is wrong, and no `Option` means "default".
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[host]`
    pub host: Host,
    /// `[nats.scheduler]` and `[nats.data]`
    pub nats: Nats,
    /// `[http]`
    pub http: Http,
    /// `[registry]`
    pub registry: Registry,
    /// `[artifacts]`
    pub artifacts: Artifacts,
    /// `[engine]`
    pub engine: Engine,
    /// `[limits]`
    pub limits: Limits,
    /// `[drain]`
    pub drain: Drain,
    /// `[log]`
    pub log: Log,
    /// `[reload]`
    pub reload: Reload,
    /// `[plugins.*]`
    pub plugins: Plugins,
    /// `[[workloads]]`, in the order of the file; (namespace, name) is unique.
    pub workloads: Vec<StaticWorkload>,
    /// Files whose content is part of this configuration (secrets, certificates, `file:` images): watched.
    pub referenced_files: Vec<PathBuf>,
}
