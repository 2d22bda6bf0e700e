//! `[registry]` and `[artifacts]`: where components come from and where they are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::config::path::join;
use crate::config::resolve::Resolver;
use crate::config::scalar::{FileDuration, FileSize};
use crate::types::ByteSize;
use crate::types::reference::parse_registry;

/// How images are pulled. Reload class: next (pull).
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    /// For one artifact: manifest, token and layer together, retries included.
    pub pull_timeout: Duration,
    /// Further attempts after a passing failure.
    pub pull_retries: u32,
    /// How long a checked tag counts as current.
    pub tag_ttl: Duration,
    /// Larger artifacts are refused.
    pub max_artifact_size: ByteSize,
    /// Plain HTTP for every registry.
    pub allow_insecure: bool,
    /// Settings per registry (`host[:port]`).
    pub hosts: BTreeMap<String, RegistryHost>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            pull_timeout: Duration::from_secs(30),
            pull_retries: 3,
            tag_ttl: Duration::from_secs(60),
            max_artifact_size: ByteSize::mib(256),
            allow_insecure: false,
            hosts: BTreeMap::new(),
        }
    }
}

/// Settings of one registry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegistryHost {
    /// Plain HTTP for this registry.
    pub insecure: bool,
    /// User and password for it.
    pub login: Option<(String, Secret)>,
}

/// Where artifacts are kept. Reload class: restart for now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Artifacts {
    /// Directory of the cache; a private temporary one, removed at exit, if absent.
    pub cache_dir: Option<PathBuf>,
}

/// `[registry]`: how images are pulled.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "next"))]
pub(crate) struct FileRegistry {
    /// For one artifact: manifest, token and layer together, retries included.
    pub(super) pull_timeout: FileDuration,
    /// Further attempts after a passing failure.
    pub(super) pull_retries: u32,
    /// How long a checked tag counts as current, if the pull policy does not say.
    pub(super) tag_ttl: FileDuration,
    /// Larger artifacts are refused.
    pub(super) max_artifact_size: FileSize,
    /// Plain HTTP for every registry.
    pub(super) allow_insecure: bool,
    /// Further PEM bundles of trusted authorities.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) ca: Vec<PathBuf>,
    /// Settings of one registry, by `host` or `host:port`.
    pub(super) hosts: BTreeMap<String, FileRegistryHost>,
}

/// `[registry.hosts."<registry>"]`: settings of one registry.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "next"))]
pub(crate) struct FileRegistryHost {
    /// Plain HTTP for this registry.
    pub(super) insecure: bool,
    /// Further PEM bundle of trusted authorities.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) ca: Option<PathBuf>,
    /// Registry that is asked first.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) mirror: Option<String>,
    /// User name.
    pub(super) user: Option<String>,
    /// Password or token of the user.
    pub(super) password: Option<Secret>,
    /// File with the password.
    pub(super) password_file: Option<PathBuf>,
}

/// `[artifacts]`: where artifacts are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "restart"))]
pub(crate) struct FileArtifacts {
    /// Directory of the cache. Unset: a private temporary one.
    pub(super) cache_dir: Option<PathBuf>,
    /// What is removed from the cache, and when.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) cleaner: FileCleaner,
}

/// `[artifacts.cleaner]`: what is removed from the cache, and when. Artifacts in use are kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileCleaner {
    /// Time between two runs.
    pub(super) interval: FileDuration,
    /// Since the last use, never since the download.
    pub(super) max_age: FileDuration,
    /// Of the whole cache. 0B: no limit.
    pub(super) max_size: FileSize,
}

impl Default for FileRegistry {
    fn default() -> Self {
        let Registry { pull_timeout, pull_retries, tag_ttl, max_artifact_size, allow_insecure, hosts: _ } =
            Registry::default();
        Self {
            pull_timeout: FileDuration(pull_timeout),
            pull_retries,
            tag_ttl: FileDuration(tag_ttl),
            max_artifact_size: FileSize(max_artifact_size),
            allow_insecure,
            ca: Vec::new(),
            hosts: BTreeMap::new(),
        }
    }
}

impl Default for FileCleaner {
    fn default() -> Self {
        Self {
            interval: FileDuration(Duration::from_secs(300)),
            max_age: FileDuration(Duration::from_secs(3600)),
            max_size: FileSize(ByteSize::bytes(0)),
        }
    }
}

impl FileRegistry {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Registry {
        let Self { pull_timeout, pull_retries, tag_ttl, max_artifact_size, allow_insecure, ca: _, hosts } = self;
        if max_artifact_size.0.get() == 0 {
            cx.error("registry.max_artifact_size", "expected more than 0B");
        }
        let hosts = hosts.into_iter().map(|(registry, host)| {
            let path = join("registry.hosts", &registry);
            if parse_registry(&registry).is_err() {
                cx.error_at_key(&path, "expected a registry such as \"localhost:5000\"");
            }
            let host = host.resolve(&path, cx);
            (registry, host)
        });
        let hosts = hosts.collect();
        Registry {
            pull_timeout: cx.positive("registry.pull_timeout", pull_timeout),
            pull_retries,
            tag_ttl: tag_ttl.0,
            max_artifact_size: max_artifact_size.0,
            allow_insecure,
            hosts,
        }
    }
}

impl FileRegistryHost {
    fn resolve(self, path: &str, cx: &mut Resolver<'_>) -> RegistryHost {
        let Self { insecure, ca: _, mirror: _, user, password, password_file } = self;
        let has_password = password.is_some() || password_file.is_some();
        if user.as_deref() == Some("") {
            cx.error(&join(path, "user"), "expected a user name, found an empty text");
        }
        let password = cx.secret(&join(path, "password"), password, password_file);
        let login = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (Some(_user), None) => {
                if !has_password && !cx.is_tainted(&join(path, "password")) {
                    cx.error(&join(path, "user"), "`user` needs `password` or `password_file` beside it");
                }
                None
            }
            (None, Some(_password)) => {
                let password = cx.present(&join(path, "password"));
                if !cx.is_tainted(&join(path, "user")) {
                    cx.error(&password, "`password` needs `user` beside it");
                }
                None
            }
            (None, None) => None,
        };
        RegistryHost { insecure, login }
    }
}

impl FileArtifacts {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Artifacts {
        let Self { cache_dir, cleaner: FileCleaner { interval: _, max_age: _, max_size: _ } } = self;
        Artifacts { cache_dir: cache_dir.map(|dir| cx.path("artifacts.cache_dir", dir)) }
    }
}
