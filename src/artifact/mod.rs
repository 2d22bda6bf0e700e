//! Component bytes by reference: `file:` paths and images of OCI registries, cached by content.
//!
//! [`Artifacts`] is the door. There is one pull per content at a time, as a task of its own that its waiters may leave;
//! all of a pull's requests and retries share one deadline. What is handed out has just been hashed, or was read from a
//! file that is never cached. The cache only saves work: a start survives a cache that cannot be written to.
//!
//! Absent on purpose: compiling, and compiled code in any form; whatever needs to know what is inside a component.

mod cache;
mod content;
mod credentials;
mod digest;
mod download;
mod error;
mod file;
mod flight;
mod image;
mod manifest;
mod policy;
mod pull;
mod reference;
mod registry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{debug, info};

pub(crate) use digest::Digest;
pub(crate) use error::ArtifactError;

use self::image::Images;
use crate::config;
use crate::telemetry::millis;
use crate::types::{ArtifactSource, PullPolicy, PullSecret};

/// Gets artifacts. Cheap to clone; the cache directory, if it is a private one, goes with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct Artifacts {
    images: Arc<Images>,
}

/// What to get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArtifactRequest<'a> {
    /// Where it is.
    pub(crate) source: &'a ArtifactSource,
    /// When to ask the registry; means nothing for files.
    pub(crate) policy: PullPolicy,
    /// The login to use instead of the configured ones.
    pub(crate) secret: Option<&'a PullSecret>,
}

/// The bytes of a component, at least well-formed on the outside.
#[derive(Clone)]
pub(crate) struct Artifact {
    /// Of `bytes`.
    pub(crate) digest: Digest,
    /// The component in binary form.
    pub(crate) bytes: Bytes,
    /// Where `bytes` came from this time.
    pub(crate) origin: ArtifactOrigin,
    /// How long getting them took.
    pub(crate) took: Duration,
}

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArtifactOrigin {
    /// The cache, whether or not the registry was asked for a manifest.
    Cache,
    /// A registry, just now.
    Registry,
    /// A file of the machine.
    File,
}

impl Artifacts {
    /// Opens the cache directory, or makes a private one. Blocks on the disk for a moment.
    pub(crate) fn open(artifacts: &config::Artifacts, registry: config::Registry) -> Result<Self, ArtifactError> {
        Ok(Self { images: Arc::new(Images::open(artifacts.cache_dir.as_deref(), registry)?) })
    }

    /// Pulls begun from now on use `registry`.
    pub(crate) fn apply(&self, registry: config::Registry) {
        self.images.apply(registry);
    }

    /// Gets an artifact. May be dropped at any time; a pull under way goes on for others, and for the cache.
    pub(crate) async fn get(&self, request: ArtifactRequest<'_>) -> Result<Artifact, ArtifactError> {
        let begin = Instant::now();
        let (digest, bytes, origin) = match request.source {
            ArtifactSource::File(path) => {
                let (digest, bytes) = file::read(path, self.images.size_max()).await?;
                (digest, bytes, ArtifactOrigin::File)
            }
            ArtifactSource::Oci(text) => {
                let found = self.images.get(text, request.policy, request.secret).await?;
                (found.digest, found.bytes, found.origin)
            }
        };
        let artifact = Artifact { digest, bytes, origin, took: begin.elapsed() };
        artifact.log(request.source);
        Ok(artifact)
    }
}

impl Artifact {
    fn log(&self, source: &ArtifactSource) {
        let Self { digest, bytes, origin, took } = self;
        let (bytes, took_ms) = (bytes.len(), millis(*took));
        match origin {
            ArtifactOrigin::Registry => {
                info!(artifact = %source, %digest, %origin, bytes, took_ms, "artifact pulled");
            }
            ArtifactOrigin::Cache | ArtifactOrigin::File => {
                debug!(artifact = %source, %digest, %origin, bytes, took_ms, "artifact read");
            }
        }
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact")
            .field("digest", &self.digest)
            .field("bytes", &self.bytes.len())
            .field("origin", &self.origin)
            .field("took", &self.took)
            .finish()
    }
}

impl fmt::Display for ArtifactOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cache => "cache",
            Self::Registry => "registry",
            Self::File => "file",
        })
    }
}
