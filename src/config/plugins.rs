//! `[plugins.*]`: which interfaces the host serves, and with what behind them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::config::messaging::{FileMessaging, MessagingPlugin};
use crate::config::path::index;
use crate::config::resolve::Resolver;

/// `None` is a plugin that is off: no table, or `enabled = false`. Reload class: live.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plugins {
    /// `[plugins.wasi-config]`
    pub wasi_config: Option<ConfigPlugin>,
    /// `[plugins.wasi-logging]`
    pub wasi_logging: Option<LoggingPlugin>,
    /// `[plugins.wasi-keyvalue]`
    pub wasi_keyvalue: Option<KeyvaluePlugin>,
    /// `[plugins.wasmcloud-messaging]`
    pub wasmcloud_messaging: Option<MessagingPlugin>,
}

/// `[plugins.wasi-config]`: memory is the one backend so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigPlugin {}

/// `[plugins.wasi-logging]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoggingPlugin {}

/// `[plugins.wasi-keyvalue]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyvaluePlugin {
    /// Where values are kept.
    pub backend: KeyvalueBackend,
    /// Buckets that may be opened: `*` alone, or names with `*` at the end.
    pub allow_buckets: Vec<String>,
    /// Put before the names of buckets that workloads share; `{namespace}` stands for that of the workload.
    pub bucket_prefix: String,
}

impl Default for KeyvaluePlugin {
    fn default() -> Self {
        Self { backend: KeyvalueBackend::Memory, allow_buckets: vec!["*".to_owned()], bucket_prefix: String::new() }
    }
}

/// Where values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyvalueBackend {
    /// In the host's memory, one store per workload.
    Memory,
    /// In JetStream buckets, over the connection of the data plane.
    Nats,
}

/// `[plugins]`: a plugin is on by its table; `enabled = false` switches it off and keeps the settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FilePlugins {
    /// Settings that components read.
    pub(super) wasi_config: Option<FileConfigPlugin>,
    /// Log lines that components write.
    pub(super) wasi_logging: Option<FileSwitch>,
    /// Buckets of keys and values.
    pub(super) wasi_keyvalue: Option<FileKeyvalue>,
    /// Containers of objects.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) wasi_blobstore: Option<FileBlobstore>,
    /// Messages by subject.
    pub(super) wasmcloud_messaging: Option<FileMessaging>,
    /// Queries to PostgreSQL.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) wasmcloud_postgres: Option<FilePostgres>,
    /// Secrets that components read.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) wasmcloud_secrets: Option<FileSwitch>,
    /// Traces, metrics and logs of components.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) wasi_otel: Option<FileSwitch>,
    /// GPU access.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) wasi_webgpu: Option<FileSwitch>,
}

/// A plugin without settings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileSwitch {
    /// Whether the plugin is on.
    pub(super) enabled: bool,
}

/// `[plugins.wasi-config]`: settings that components read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileConfigPlugin {
    /// Whether the plugin is on.
    pub(super) enabled: bool,
    /// Where settings come from.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) backend: FileConfigBackend,
    /// Bucket that the NATS backend watches.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) bucket: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileConfigBackend {
    Memory,
    Nats,
}

/// `[plugins.wasi-keyvalue]`: buckets of keys and values.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileKeyvalue {
    /// Whether the plugin is on.
    pub(super) enabled: bool,
    /// Where values are kept; filesystem, redis and postgres are not implemented yet.
    pub(super) backend: FileKeyvalueBackend,
    /// Directory of the filesystem backend.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) root: Option<PathBuf>,
    /// URL of the Redis or PostgreSQL backend.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) url: Option<Secret>,
    /// File with the URL.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) url_file: Option<PathBuf>,
    /// Prefix of keys in Redis.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) prefix: Option<String>,
    /// Put before bucket names, for example `{namespace}-`. Empty: names as they are.
    pub(super) bucket_prefix: String,
    /// Buckets that may be opened: `*`, or names with `*` at the end.
    pub(super) allow_buckets: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileKeyvalueBackend {
    Memory,
    Filesystem,
    Nats,
    Redis,
    Postgres,
}

/// `[plugins.wasi-blobstore]`: containers of objects.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileBlobstore {
    /// Whether the plugin is on.
    pub(super) enabled: bool,
    /// Where objects are kept.
    pub(super) backend: FileBlobstoreBackend,
    /// Directory of the filesystem backend.
    pub(super) root: Option<PathBuf>,
    /// URL of the PostgreSQL backend.
    pub(super) url: Option<Secret>,
    /// File with the URL.
    pub(super) url_file: Option<PathBuf>,
    /// Address of the S3 backend.
    pub(super) endpoint: Option<String>,
    /// Region of the S3 backend.
    pub(super) region: Option<String>,
    /// Bucket of the S3 backend.
    pub(super) bucket: Option<String>,
    /// Access key of the S3 backend.
    pub(super) access_key_id: Option<String>,
    /// Secret key of the S3 backend.
    pub(super) secret_access_key: Option<Secret>,
    /// File with the secret key.
    pub(super) secret_access_key_file: Option<PathBuf>,
    /// Put before container names. Empty: names as they are.
    pub(super) container_prefix: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileBlobstoreBackend {
    Memory,
    Filesystem,
    Nats,
    Postgres,
    S3,
}

/// `[plugins.wasmcloud-postgres]`: queries to PostgreSQL.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FilePostgres {
    /// Whether the plugin is on.
    pub(super) enabled: bool,
    /// URL of the database.
    pub(super) url: Option<Secret>,
    /// File with the URL.
    pub(super) url_file: Option<PathBuf>,
}

/// `[component_plugins.<id>]`: a host interface served by a component.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileComponentPlugin {
    /// Whether the plugin is on.
    pub(super) enabled: bool,
    /// OCI reference or `file:` path.
    #[schemars(extend("x-washlet-required" = true))]
    pub(super) image: String,
    /// Digest that the image must have.
    pub(super) digest: Option<String>,
    /// Settings of the component.
    #[schemars(extend("x-washlet-secret" = "by-name"))]
    pub(super) config: BTreeMap<String, String>,
    /// Secrets of the component.
    #[schemars(extend("x-washlet-secret" = true))]
    pub(super) secrets: BTreeMap<String, String>,
    /// Hosts it may connect to. Empty: none.
    pub(super) allowed_hosts: Vec<String>,
    /// Failures after which it is given up.
    pub(super) max_restarts: u32,
}

impl Default for FileSwitch {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Default for FileConfigPlugin {
    fn default() -> Self {
        Self { enabled: true, backend: FileConfigBackend::Memory, bucket: "washlet-config".to_owned() }
    }
}

impl Default for FileKeyvalue {
    fn default() -> Self {
        Self {
            enabled: true,
            backend: FileKeyvalueBackend::Memory,
            root: None,
            url: None,
            url_file: None,
            prefix: None,
            bucket_prefix: String::new(),
            allow_buckets: KeyvaluePlugin::default().allow_buckets,
        }
    }
}

impl Default for FileBlobstore {
    fn default() -> Self {
        Self {
            enabled: true,
            backend: FileBlobstoreBackend::Memory,
            root: None,
            url: None,
            url_file: None,
            endpoint: None,
            region: None,
            bucket: None,
            access_key_id: None,
            secret_access_key: None,
            secret_access_key_file: None,
            container_prefix: String::new(),
        }
    }
}

impl Default for FilePostgres {
    fn default() -> Self {
        Self { enabled: true, url: None, url_file: None }
    }
}

impl Default for FileComponentPlugin {
    fn default() -> Self {
        Self {
            enabled: true,
            image: String::new(),
            digest: None,
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            allowed_hosts: Vec::new(),
            max_restarts: 5,
        }
    }
}

impl FilePlugins {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Plugins {
        let Self {
            wasi_config,
            wasi_logging,
            wasi_keyvalue,
            wasi_blobstore: _,
            wasmcloud_messaging,
            wasmcloud_postgres: _,
            wasmcloud_secrets: _,
            wasi_otel: _,
            wasi_webgpu: _,
        } = self;
        Plugins {
            wasi_config: wasi_config.filter(|plugin| plugin.enabled).map(|_defaults_only| ConfigPlugin {}),
            wasi_logging: wasi_logging.filter(|plugin| plugin.enabled).map(|_no_settings| LoggingPlugin {}),
            wasi_keyvalue: wasi_keyvalue.and_then(|plugin| plugin.resolve(cx)),
            wasmcloud_messaging: wasmcloud_messaging.and_then(|plugin| plugin.resolve(cx)),
        }
    }
}

impl FileKeyvalue {
    fn resolve(self, cx: &mut Resolver<'_>) -> Option<KeyvaluePlugin> {
        let Self { enabled, allow_buckets, backend, root: _, url: _, url_file: _, prefix: _, bucket_prefix } = self;
        let backend = match backend {
            FileKeyvalueBackend::Memory => KeyvalueBackend::Memory,
            FileKeyvalueBackend::Nats => KeyvalueBackend::Nats,
            FileKeyvalueBackend::Filesystem | FileKeyvalueBackend::Redis | FileKeyvalueBackend::Postgres => {
                cx.error_at_key("plugins.wasi-keyvalue.backend", "not implemented yet");
                KeyvalueBackend::Memory
            }
        };
        let is_of_names = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !bucket_prefix.replace("{namespace}", "").chars().all(is_of_names) {
            let message = "expected letters, digits, `-`, `_` and `{namespace}`";
            cx.error("plugins.wasi-keyvalue.bucket_prefix", message);
        }
        for (i, pattern) in allow_buckets.iter().enumerate() {
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            if pattern.is_empty() || name.contains('*') {
                let path = index("plugins.wasi-keyvalue.allow_buckets", i);
                cx.error(&path, "expected a bucket name, with `*` at most at the end");
            }
        }
        enabled.then_some(KeyvaluePlugin { backend, allow_buckets, bucket_prefix })
    }
}
