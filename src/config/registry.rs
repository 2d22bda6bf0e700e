//! `[registry]` and `[artifacts]`: where components come from and where they are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Secret;
use crate::types::ByteSize;

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
