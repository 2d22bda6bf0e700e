//! The file as it is written: the root of all tables.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::engine::FileEngine;
use crate::config::host::FileHost;
use crate::config::http::FileHttp;
use crate::config::nats::FileNats;
use crate::config::observe::{FileAdmin, FileLog, FileTelemetry};
use crate::config::plugins::{FileComponentPlugin, FilePlugins};
use crate::config::policy::{FileDrain, FileEgress, FileLimits, FileVolumes};
use crate::config::registry::{FileArtifacts, FileRegistry};
use crate::config::reload::FileReload;
use crate::config::workloads::FileWorkload;

/// The configuration of a washlet host.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "washlet.toml")]
pub(crate) struct FileConfig {
    /// Who this host is.
    pub(super) host: FileHost,
    /// The connections to NATS.
    pub(super) nats: FileNats,
    /// Where and how requests are taken in.
    pub(super) http: FileHttp,
    /// How images are pulled.
    pub(super) registry: FileRegistry,
    /// Where artifacts are kept.
    pub(super) artifacts: FileArtifacts,
    /// How WebAssembly is executed.
    pub(super) engine: FileEngine,
    /// What workloads may mount.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) volumes: FileVolumes,
    /// Limits of workloads that set none themselves.
    pub(super) limits: FileLimits,
    /// What workloads may reach.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) egress: FileEgress,
    /// How long work in flight may take to end.
    pub(super) drain: FileDrain,
    /// The listener for probes, metrics and status.
    pub(super) admin: FileAdmin,
    /// What is written about what happens.
    pub(super) log: FileLog,
    /// Where traces and metrics are sent.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) telemetry: FileTelemetry,
    /// How changes of the file are noticed and applied.
    pub(super) reload: FileReload,
    /// Which interfaces the host serves, and with what behind them.
    pub(super) plugins: FilePlugins,
    /// Host interfaces served by components.
    #[schemars(extend("x-washlet-reload" = "live", "x-washlet-todo" = true))]
    pub(super) component_plugins: BTreeMap<String, FileComponentPlugin>,
    /// Workloads the host runs by itself.
    #[schemars(extend("x-washlet-reload" = "live"))]
    pub(super) workloads: Vec<FileWorkload>,
}
