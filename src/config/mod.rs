//! The configuration: bytes -> `FileConfig` -> `Config`. Opens no socket and spawns nothing.

mod base;
mod check;
mod connection;
pub mod diff;
mod document;
pub mod engine;
pub mod env;
pub mod example;
mod file;
pub mod files;
mod hash;
mod hint;
pub mod host;
pub mod http;
mod kind;
mod load;
pub mod messaging;
pub mod nats;
pub mod observe;
mod path;
pub mod pem;
pub mod plugins;
pub mod policy;
pub(crate) mod port;
mod print;
pub mod problem;
pub mod reference;
pub mod registry;
pub mod reload;
mod report;
mod resolve;
pub mod rules;
mod scalar;
pub mod schema;
pub mod secret;
mod server_url;
mod snippet;
mod source;
mod syntax;
mod table;
mod variables;
mod workload_rules;
pub mod workloads;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use base::Base;
pub use diff::{Change, ConfigDiff, Verb};
pub use engine::Engine;
pub use host::Host;
pub use http::{Http, HttpTls};
pub use load::{FILE_BYTES_MAX, Loaded, Pinned, load, log_of};
pub use messaging::{MessagingBackend, MessagingPlugin, QueueGroup};
pub use nats::{Nats, NatsAuth, NatsConnection, NatsTls, Scheduler};
pub use observe::{Admin, Log, LogFormat};
pub use pem::PemFile;
pub use plugins::{ConfigPlugin, KeyvalueBackend, KeyvaluePlugin, LoggingPlugin, Plugins};
pub use policy::{Drain, Limits};
pub use print::ShownValue;
pub use problem::{Place, Problem, Problems, Severity};
pub use registry::{Artifacts, Registry, RegistryHost};
pub use reload::{InUse, Reload};
pub use report::Origin;
pub use resolve::ReadFile;
pub use secret::Secret;
pub use snippet::Snippet;
pub use source::{FileInput, FlagValue, Sources};
pub use table::Class;
pub use workloads::StaticWorkload;

#[cfg(test)]
mod tests;

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
    /// `[admin]`
    pub admin: Admin,
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
    /// Digests of the credentials and certificates that are handed on as paths, by key: a rotated one is a change.
    pub file_digests: BTreeMap<String, Secret>,
}
