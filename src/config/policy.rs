//! `[limits]`, `[volumes]`, `[egress]` and `[drain]`: how much, how far and how long.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::resolve::Resolver;
use crate::config::scalar::{FileDuration, FileSize};

use crate::types::ByteSize;

/// For workloads that set none themselves. Reload class: next (start).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance; `None`: no limit but the engine's.
    pub memory: Option<ByteSize>,
    /// One call of a guest; over HTTP until the response's head.
    pub call_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: None, call_timeout: Duration::from_secs(600) }
    }
}

/// How long work in flight may take to end. Reload class: live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long a stopping workload still serves a route that nobody else holds.
    pub lame_duck: Duration,
    /// Work in flight at SIGTERM, at a stop, or in a retired part.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { lame_duck: Duration::from_secs(5), timeout: Duration::from_secs(12) }
    }
}

/// `[limits]`: for workloads that set none themselves.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "next"))]
pub(crate) struct FileLimits {
    /// Linear memory of one instance. 0B: no limit but the engine's.
    pub(super) memory: FileSize,
    /// Processor time of a workload, in millicores. 0: no limit.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) cpu: u32,
    /// One call of a guest; over HTTP until the head of the response.
    pub(super) call_timeout: FileDuration,
    /// Connections of all workloads, incoming and outgoing. 0: derived from the file-descriptor limit.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) connections: u32,
    /// Pooled outgoing HTTP connections of one workload.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) http_connections: u32,
    /// Outgoing sockets of one workload.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) socket_connections: u32,
    /// Connections to published ports of one workload.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) inbound_connections: u32,
    /// How long an outgoing HTTP connection waits for a slot.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) connection_wait: FileDuration,
}

/// `[volumes]`: what workloads may mount.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "next"))]
pub(crate) struct FileVolumes {
    /// Path prefixes that placed workloads may mount.
    pub(super) host_path_allow: Vec<PathBuf>,
    /// Bytes of one empty directory.
    pub(super) empty_dir_max_size: FileSize,
}

/// `[egress]`: what workloads may reach.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileEgress {
    /// Whether a denied connection fails, or is only counted and logged.
    pub(super) mode: FileEgressMode,
    /// Deny loopback, link-local, metadata and multicast addresses.
    pub(super) deny_special_ranges: bool,
    /// Deny private addresses.
    pub(super) deny_private_ranges: bool,
    /// Let workloads reach the loopback of the machine under a reserved name.
    pub(super) allow_host_loopback: bool,
    /// Which authorities outgoing HTTPS trusts.
    pub(super) trust_roots: FileTrustRoots,
    /// Further PEM bundles of trusted authorities.
    pub(super) ca: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileEgressMode {
    Enforce,
    Audit,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileTrustRoots {
    Webpki,
    Native,
    WebpkiAndNative,
    ExtraOnly,
}

/// `[drain]`: how long work in flight may take to end.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileDrain {
    /// How long a stopping workload still serves a route that nobody else holds.
    pub(super) lame_duck: FileDuration,
    /// Work in flight at SIGTERM, at a stop, or in a retired part.
    pub(super) timeout: FileDuration,
}

impl Default for FileLimits {
    fn default() -> Self {
        let Limits { memory, call_timeout } = Limits::default();
        Self {
            memory: FileSize(memory.unwrap_or_default()),
            cpu: 0,
            call_timeout: FileDuration(call_timeout),
            connections: 0,
            http_connections: 128,
            socket_connections: 256,
            inbound_connections: 256,
            connection_wait: FileDuration(Duration::from_secs(5)),
        }
    }
}

impl Default for FileVolumes {
    fn default() -> Self {
        Self { host_path_allow: Vec::new(), empty_dir_max_size: FileSize(ByteSize::mib(1024)) }
    }
}

impl Default for FileEgress {
    fn default() -> Self {
        Self {
            mode: FileEgressMode::Enforce,
            deny_special_ranges: true,
            deny_private_ranges: false,
            allow_host_loopback: false,
            trust_roots: FileTrustRoots::Webpki,
            ca: Vec::new(),
        }
    }
}

impl Default for FileDrain {
    fn default() -> Self {
        let Drain { lame_duck, timeout } = Drain::default();
        Self { lame_duck: FileDuration(lame_duck), timeout: FileDuration(timeout) }
    }
}

impl FileLimits {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Limits {
        let Self {
            memory,
            call_timeout,
            cpu: _,
            connections: _,
            http_connections: _,
            socket_connections: _,
            inbound_connections: _,
            connection_wait: _,
        } = self;
        Limits {
            memory: Some(memory.0).filter(|size| size.get() > 0),
            call_timeout: cx.positive("limits.call_timeout", call_timeout),
        }
    }
}

impl FileDrain {
    pub(super) fn resolve(self) -> Drain {
        let Self { lame_duck, timeout } = self;
        Drain { lame_duck: lame_duck.0, timeout: timeout.0 }
    }
}
