//! One pull: from a reference to a layer, and from a layer to its bytes, with retries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tracing::debug;

use super::cache::Cache;
use super::download::Download;
use super::error::{Again, PullError};
use super::manifest::{self, Layer, Manifest, ManifestError};
use super::registry::{Access, Repository};
use crate::error::Chain;
use crate::task::Backoff;
use crate::types::ByteSize;
use crate::types::digest::Digest;
use crate::types::reference::ImageReference;

/// The first pause after a hiccup, and the first after "too many requests": the client underneath drops Retry-After.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_FIRST_WHEN_TOLD: Duration = Duration::from_secs(1);
/// No pause is longer; the pull's deadline usually comes first.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Where a reference leads, and the connection that found out.
#[derive(Clone)]
pub(super) struct Resolved {
    pub(super) repository: Arc<Repository>,
    pub(super) manifest_digest: Digest,
    pub(super) layer: Layer,
}

/// The bounds of one pull.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) retries: u32,
    pub(super) size_max: ByteSize,
}

/// Asks the registry where `reference` leads.
pub(super) async fn resolve(reference: ImageReference, access: Access, bounds: Bounds) -> Result<Resolved, PullError> {
    let repository = Repository::open(&reference, access).await?;
    let mut retries = Retries::new(bounds.retries);
    retry(&mut retries, || repository.log_in()).await?;
    let body = retry(&mut retries, || repository.manifest(None)).await?;
    let manifest_digest = Digest::of(&body);
    let layer = match read(&body)? {
        Manifest::Image(layer) => layer,
        Manifest::Index(chosen) => {
            let body = retry(&mut retries, || repository.manifest(Some(&chosen))).await?;
            match read(&body)? {
                Manifest::Image(layer) => layer,
                Manifest::Index(digest) => {
                    return Err(PullError::Manifest { digest, source: ManifestError::NestedIndex });
                }
            }
        }
    };
    if layer.size > bounds.size_max.get() {
        return Err(PullError::TooLarge { size: layer.size, max: bounds.size_max });
    }
    Ok(Resolved { repository: Arc::new(repository), manifest_digest, layer })
}

/// Asks what the tag of `reference` points to, once.
pub(super) async fn ask_digest(reference: ImageReference, access: Access) -> Result<String, PullError> {
    let repository = Repository::open(&reference, access).await?;
    repository.log_in().await?;
    repository.digest().await
}

/// Downloads and checks what `resolved` leads to, and puts it into `cache`.
pub(super) async fn fetch(resolved: Resolved, cache: Arc<Cache>, bounds: Bounds) -> Result<Bytes, PullError> {
    let mut retries = Retries::new(bounds.retries);
    let mut download = Download::begin(&cache).await;
    while let Err(error) = attempt(&resolved, &mut download).await {
        retries.pause_after(error).await?;
    }
    download.finish(resolved.layer.digest, resolved.repository.registry()).await
}

/// Goes on where the last attempt broke off, if the registry can do that.
async fn attempt(resolved: &Resolved, download: &mut Download) -> Result<(), PullError> {
    let Layer { digest, size } = resolved.layer;
    if size > 0 && download.length() == size {
        return Ok(()); // the connection broke after the last byte: there is no rest to ask for
    }
    let mut stream = resolved.repository.layer(&digest, download.length()).await?;
    if stream.begins_at != download.length() {
        download.restart().await;
    }
    while let Some(chunk) = stream.chunks.next().await {
        let chunk = chunk?;
        if download.length() + chunk.len() as u64 > size {
            return Err(PullError::Size { what: "more", size });
        }
        download.write(&chunk).await?;
    }
    if download.length() < size {
        return Err(PullError::Size { what: "fewer", size });
    }
    Ok(())
}

fn read(body: &[u8]) -> Result<Manifest, PullError> {
    manifest::read(body).map_err(|source| PullError::Manifest { digest: Digest::of(body), source })
}

/// Runs `attempt` until it succeeds, fails for good, or the retries are used up.
async fn retry<T, F>(retries: &mut Retries, mut attempt: impl FnMut() -> F) -> Result<T, PullError>
where
    F: Future<Output = Result<T, PullError>>,
{
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => retries.pause_after(error).await?,
        }
    }
}

/// The retries that a pull has left.
struct Retries {
    left: u32,
    soon: Backoff,
    later: Backoff,
}

impl Retries {
    fn new(left: u32) -> Self {
        let later = Backoff::new(PAUSE_FIRST_WHEN_TOLD, PAUSE_MAX);
        Self { left, soon: Backoff::new(PAUSE_FIRST, PAUSE_MAX), later }
    }

    /// Waits, or gives the error back if trying again is of no use.
    async fn pause_after(&mut self, error: PullError) -> Result<(), PullError> {
        let pause = match error.again() {
            Again::No => return Err(error),
            _ if self.left == 0 => return Err(error),
            Again::Soon => self.soon.pause(),
            Again::Later => self.later.pause(),
        };
        self.left -= 1;
        debug!(error = %Chain(&error), ?pause, "pull failed, trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
