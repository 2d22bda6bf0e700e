//! Images: what the pull policy, the cache and the login come to for one request.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tracing::warn;

use super::ArtifactOrigin;
use super::cache::{Cache, Lookup, Record};
use super::credentials::{Fingerprint, Login, Logins};
use super::error::{ArtifactError, PullError};
use super::flight::{Flights, Role};
use super::policy::{Decision, Known, decide};
use super::pull::{self, Bounds, Resolved};
use super::registry::Access;
use crate::config::Registry;
use crate::error::Chain;
use crate::task;
use crate::types::digest::Digest;
use crate::types::reference::ImageReference;
use crate::types::{ByteSize, PullPolicy, PullSecret};

/// Layers downloaded at once: each holds a connection, a file and a buffer. Asking for manifests is not counted, so
/// registries that hang there hold up nobody.
const DOWNLOADS_MAX: usize = 8;
/// How long a start waits to learn whether a tag has moved when it could do without.
const DIGEST_PATIENCE: Duration = Duration::from_secs(2);

type Shared<T> = Result<T, Arc<PullError>>;

/// Everything that outlives a request for an image.
#[derive(Debug)]
pub(super) struct Images {
    settings: ArcSwap<Settings>,
    revisions: AtomicU64,
    cache: Arc<Cache>,
    logins: Logins,
    resolving: Flights<AskKey, Shared<Resolved>>,
    asking: Flights<AskKey, Shared<String>>,
    fetching: Flights<Digest, Shared<Bytes>>,
    downloads: Arc<Semaphore>,
    /// When the registry was last asked, in vain or not, where a tag points.
    asked: Mutex<HashMap<ImageReference, Instant>>,
}

/// `[registry]`, and how often it was changed: a pull under other settings is not joined.
#[derive(Debug)]
pub(super) struct Settings {
    revision: u64,
    registry: Registry,
}

/// One manifest request at a time for each of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct AskKey {
    reference: ImageReference,
    fingerprint: Fingerprint,
    revision: u64,
}

/// One request on its way.
struct Attempt<'a> {
    /// As the user wrote it.
    text: &'a str,
    reference: ImageReference,
    policy: PullPolicy,
    settings: Arc<Settings>,
    login: Login,
    fingerprint: Fingerprint,
    deadline: tokio::time::Instant,
}

/// What was found for a request.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
    pub(super) origin: ArtifactOrigin,
}

impl Settings {
    /// The size beyond which an artifact is refused.
    pub(super) fn size_max(&self) -> ByteSize {
        self.registry.max_artifact_size
    }
}

impl Images {
    pub(super) fn open(cache_dir: Option<&Path>, registry: Registry) -> Result<Self, ArtifactError> {
        let cache = Cache::open(cache_dir).map_err(|source| {
            let path = cache_dir.unwrap_or_else(|| Path::new("a temporary directory")).to_owned();
            ArtifactError::OpenCache { path, source }
        })?;
        Ok(Self {
            settings: ArcSwap::from_pointee(Settings { revision: 0, registry }),
            revisions: AtomicU64::new(1),
            cache: Arc::new(cache),
            logins: Logins::new(),
            resolving: Flights::new("artifact manifest"),
            asking: Flights::new("artifact digest"),
            fetching: Flights::new("artifact layer"),
            downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
            asked: Mutex::default(),
        })
    }

    pub(super) fn apply(&self, registry: Registry) {
        self.settings.store(self.settings_of(registry));
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Settings for pulls before they are those of everyone.
    pub(super) fn settings_of(&self, registry: Registry) -> Arc<Settings> {
        let live = self.settings.load_full();
        if live.registry == registry {
            return live;
        }
        Arc::new(Settings { revision: self.revisions.fetch_add(1, Ordering::Relaxed), registry })
    }

    pub(super) async fn get(
        &self,
        text: &str,
        policy: PullPolicy,
        secret: Option<&PullSecret>,
        settings: Arc<Settings>,
    ) -> Result<Found, ArtifactError> {
        let reference = ImageReference::parse(text)
            .map_err(|source| ArtifactError::ParseReference { text: text.to_owned(), source })?;
        let deadline = tokio::time::Instant::now() + settings.registry.pull_timeout;
        let login = self.logins.find(reference.registry(), secret, &settings.registry).await;
        let fingerprint = login.fingerprint(reference.registry(), self.cache.key());
        let attempt = Attempt { text, reference, policy, settings, login, fingerprint, deadline };
        let record = self.record(&attempt.reference).await;
        let known = record.as_ref().map(|record| self.known(&attempt, record));
        match (decide(policy, attempt.reference.is_by_digest(), known), record) {
            (Decision::Refuse, _) => Err(ArtifactError::NotCached),
            (Decision::Use, Some(record)) => self.use_cached(&attempt, &record).await,
            (Decision::AskAccess, Some(mut record)) => {
                self.resolve(&attempt).await?;
                record.grant(&attempt.fingerprint);
                self.save(record.clone()).await;
                self.use_cached(&attempt, &record).await
            }
            (Decision::AskDigest, Some(record)) => self.use_unless_moved(&attempt, record).await,
            (Decision::Pull, _) | (Decision::Use | Decision::AskAccess | Decision::AskDigest, None) => {
                self.pull(&attempt).await
            }
        }
    }

    fn known(&self, attempt: &Attempt<'_>, record: &Record) -> Known {
        let ttl = attempt.settings.registry.tag_ttl;
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let asked_lately = asked.get(&attempt.reference).is_some_and(|at| at.elapsed() < ttl);
        // A clock that went backwards makes it not fresh, which costs a request.
        let age = now().checked_sub(Duration::from_secs(record.checked_at));
        Known {
            is_granted: record.grants(&attempt.fingerprint),
            is_fresh: asked_lately || age.is_some_and(|age| age < ttl),
        }
    }

    /// The cached copy; if it is gone or damaged, a fresh one where the policy allows it.
    async fn use_cached(&self, attempt: &Attempt<'_>, record: &Record) -> Result<Found, ArtifactError> {
        let lookup = match record.layer_digest.parse() {
            Ok(digest) => found(digest, self.read(digest, record.size).await?),
            Err(_reason) => Err(Lookup::Damaged),
        };
        match lookup {
            Ok(found) => Ok(found),
            Err(problem) if attempt.policy == PullPolicy::Never => Err(match problem {
                Lookup::Damaged => ArtifactError::CacheDamaged { reference: attempt.text.to_owned() },
                Lookup::Missing | Lookup::Found(_) => ArtifactError::NotCached,
            }),
            Err(_problem) => self.pull(attempt).await,
        }
    }

    /// The cached copy, unless the registry says within [`DIGEST_PATIENCE`] that the tag points elsewhere.
    async fn use_unless_moved(&self, attempt: &Attempt<'_>, mut record: Record) -> Result<Found, ArtifactError> {
        let (reference, access) = (attempt.reference.clone(), attempt.access());
        let ask = || async move {
            match tokio::time::timeout(DIGEST_PATIENCE, pull::ask_digest(reference, access)).await {
                Ok(answer) => answer.map_err(Arc::new),
                Err(_elapsed) => Err(Arc::new(PullError::Deadline)),
            }
        };
        let answer = self.asking.run(attempt.ask_key(), ask).await.0.unwrap_or_else(gone);
        self.remember_asking(&attempt.reference, attempt.settings.registry.tag_ttl);
        match answer {
            Ok(digest) if digest != record.manifest_digest => return self.pull(attempt).await,
            Ok(_unmoved) => {
                record.checked_at = now().as_secs();
                self.save(record.clone()).await;
            }
            Err(error) => {
                let artifact = attempt.text;
                warn!(artifact, error = %Chain(&*error), "cannot learn whether the tag has moved, using the cached copy");
            }
        }
        self.use_cached(attempt, &record).await
    }

    /// Asks for the manifest, and takes the layer from the cache or the registry.
    async fn pull(&self, attempt: &Attempt<'_>) -> Result<Found, ArtifactError> {
        let resolved = self.resolve(attempt).await?;
        let digest = resolved.layer.digest;
        let found = match found(digest, self.read(digest, resolved.layer.size).await?) {
            Ok(found) => found,
            Err(_problem) => {
                let bytes = self.fetch(attempt, &resolved).await?;
                Found { digest, bytes, origin: ArtifactOrigin::Registry }
            }
        };
        let manifest_digest = resolved.manifest_digest.to_string();
        let previous = self.record(&attempt.reference).await.filter(|old| old.manifest_digest == manifest_digest);
        let mut record = Record {
            reference: attempt.reference.to_string(),
            manifest_digest,
            layer_digest: digest.to_string(),
            size: resolved.layer.size,
            checked_at: now().as_secs(),
            fingerprints: previous.map(|old| old.fingerprints).unwrap_or_default(),
        };
        record.grant(&attempt.fingerprint);
        self.save(record).await;
        Ok(found)
    }

    async fn resolve(&self, attempt: &Attempt<'_>) -> Result<Resolved, ArtifactError> {
        loop {
            let (reference, access, bounds) = (attempt.reference.clone(), attempt.access(), attempt.bounds());
            let deadline = attempt.deadline;
            let work = || until(deadline, pull::resolve(reference, access, bounds));
            let (result, role) = self.resolving.run(attempt.ask_key(), work).await;
            match result.unwrap_or_else(gone) {
                // The one who began it ran out of time; we may have some left.
                Err(error) if role == Role::Joined && is_timeout(&error) && attempt.has_time() => {}
                result => return result.map_err(|error| attempt.failed(error)),
            }
        }
    }

    async fn fetch(&self, attempt: &Attempt<'_>, resolved: &Resolved) -> Result<Bytes, ArtifactError> {
        let mut is_first = true;
        loop {
            let (resolved, cache, bounds) = (resolved.clone(), Arc::clone(&self.cache), attempt.bounds());
            let (downloads, deadline) = (Arc::clone(&self.downloads), attempt.deadline);
            let (key, work) = (resolved.layer.digest, async move {
                let _permit = downloads.acquire_owned().await.map_err(|_closed| PullError::Gone)?;
                pull::fetch(resolved, cache, bounds).await
            });
            let (result, role) = self.fetching.run(key, || until(deadline, work)).await;
            match result.unwrap_or_else(gone) {
                // It may have come from another repository or with another login: what failed there may work here.
                Err(_theirs) if role == Role::Joined && is_first && attempt.has_time() => is_first = false,
                result => return result.map_err(|error| attempt.failed(error)),
            }
        }
    }

    fn remember_asking(&self, reference: &ImageReference, ttl: Duration) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_reference, at| at.elapsed() < ttl);
        asked.insert(reference.clone(), Instant::now());
    }

    async fn record(&self, reference: &ImageReference) -> Option<Record> {
        let (cache, reference) = (Arc::clone(&self.cache), reference.clone());
        task::blocking("artifact cache", move || cache.record(&reference)).await.flatten()
    }

    async fn save(&self, record: Record) {
        let cache = Arc::clone(&self.cache);
        // A panic was logged; the cache only saves work.
        let _saved = task::blocking("artifact cache", move || cache.save_record(&record)).await;
    }

    async fn read(&self, digest: Digest, size: u64) -> Result<Lookup, ArtifactError> {
        let cache = Arc::clone(&self.cache);
        task::blocking("artifact cache", move || cache.read(&digest, size)).await.ok_or(ArtifactError::Task)
    }
}

impl Attempt<'_> {
    fn ask_key(&self) -> AskKey {
        let Self { reference, fingerprint, settings, .. } = self;
        AskKey { reference: reference.clone(), fingerprint: fingerprint.clone(), revision: settings.revision }
    }

    fn access(&self) -> Access {
        Access::new(&self.settings.registry, self.reference.registry(), self.login.clone())
    }

    fn bounds(&self) -> Bounds {
        let Registry { pull_retries, max_artifact_size, .. } = self.settings.registry;
        Bounds { retries: pull_retries, size_max: max_artifact_size }
    }

    fn has_time(&self) -> bool {
        tokio::time::Instant::now() < self.deadline
    }

    fn failed(&self, error: Arc<PullError>) -> ArtifactError {
        let reference = self.text.to_owned();
        if is_timeout(&error) {
            return ArtifactError::PullTimeout { reference, timeout: self.settings.registry.pull_timeout };
        }
        ArtifactError::Pull { reference, source: error }
    }
}

/// Ends `work` at `deadline`.
async fn until<T>(deadline: tokio::time::Instant, work: impl Future<Output = Result<T, PullError>>) -> Shared<T> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(PullError::Deadline)).map_err(Arc::new)
}

fn is_timeout(error: &PullError) -> bool {
    matches!(error, PullError::Deadline)
}

fn gone<T>() -> Shared<T> {
    Err(Arc::new(PullError::Gone))
}

fn found(digest: Digest, lookup: Lookup) -> Result<Found, Lookup> {
    match lookup {
        Lookup::Found(bytes) => Ok(Found { digest, bytes, origin: ArtifactOrigin::Cache }),
        problem @ (Lookup::Missing | Lookup::Damaged) => Err(problem),
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}
