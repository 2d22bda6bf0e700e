//! Keys and values in JetStream buckets, named and encoded as other hosts do: they share them.
//!
//! A bucket is the stream `KV_<bucket>`, a key the subject `$KV.<bucket>.<key>` as it is. A counter is 8 bytes,
//! big-endian. Workloads share buckets by name, unless `bucket_prefix` keeps their namespaces apart.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::jetstream::context::{
    AccountErrorKind, GetStreamError, GetStreamErrorKind, PublishError, PublishErrorKind,
};
use async_nats::jetstream::kv::{Config, Entry, Operation, Store as KvStore, UpdateErrorKind};
use async_nats::jetstream::stream::{
    ConsumerError, ConsumerErrorKind, DirectGetError, DirectGetErrorKind, LastRawMessageError, LastRawMessageErrorKind,
};
use async_nats::jetstream::{self, Context, ErrorCode};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout, timeout_at};

use super::backend::{ANSWER_BYTES_MAX, Answer, Bucket, PAGE_KEYS, Page, Store, StoreError};
use super::counter::{Add, Counters};
use super::handles::Handles;
use super::listing::Listings;
use crate::nats::{ConnectionState, DataClient};
use crate::plugin::NotReady;
use crate::task::{Backoff, Shutdown};

/// A connection that was lost is waited for so long, counted from the loss: a server that restarts is back by then.
const RECONNECT_WAIT: Duration = Duration::from_secs(2);
/// One question to JetStream. Two of them fit into what an operation may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// All attempts at one increment.
const INCREMENT_TIME_MAX: Duration = Duration::from_secs(9);
/// For finding out whether the server has JetStream.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Operations of one batch under way at once.
const BATCH_AT_ONCE: usize = 64;
/// Subjects are part of one line of the protocol, of which servers take 4 KiB; one that is longer ends the connection
/// of everybody. A bucket may be in it twice, with [`BUCKET_BYTES_MAX`].
const KEY_BYTES_MAX: usize = 2 << 10;
/// A stream has at most 255 bytes in its name, three of which are `KV_`.
const BUCKET_BYTES_MAX: usize = 252;

/// The backend `nats`, over one connection.
pub(super) struct NatsStore {
    data: DataClient,
    jetstream: Context,
    prefix: String,
    handles: Handles<KvStore>,
    counters: Arc<Counters>,
    listings: Listings,
    /// The time to finish is over.
    cut: Shutdown,
}

/// Runs `work` on the bucket; if its stream is gone, once more on the bucket as it is then.
macro_rules! on_bucket {
    ($this:ident, $bucket:expr, |$store:ident| $work:expr) => {
        async {
            let name = $this.name($bucket)?;
            let $store = $this.handle(&name).await?;
            match $work.await {
                Err(Failure::Gone) => {}
                other => return finished(other),
            }
            $this.handles.forget(&name, &$store);
            let $store = $this.handle(&name).await?;
            finished($work.await)
        }
        .await
    };
}

/// Why something could not be done with a bucket.
#[derive(Debug)]
enum Failure {
    /// Its stream is not there (any more).
    Gone,
    /// Someone else has written the key.
    Conflict,
    /// For the guest.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl NatsStore {
    /// When `cut` is triggered, what is under way ends.
    pub(super) fn new(data: DataClient, prefix: &str, cut: Shutdown) -> Self {
        let mut jetstream = jetstream::new(data.client().clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        let (handles, counters, listings) = (Handles::default(), Arc::default(), Listings::default());
        Self { data, jetstream, prefix: prefix.to_owned(), handles, counters, listings, cut }
    }

    pub(super) fn data(&self) -> &DataClient {
        &self.data
    }

    /// Whether the server has what is needed. One that may not be asked is not.
    pub(super) async fn probe(&self) -> Result<(), NotReady> {
        let message = || "nats.data has no JetStream, which keeps the buckets".to_owned();
        match timeout(PROBE_TIMEOUT, self.jetstream.query_account()).await {
            Ok(Err(error))
                if matches!(error.kind(), AccountErrorKind::JetStreamUnavailable | AccountErrorKind::JetStream(_)) =>
            {
                Err(NotReady { message: message(), is_passing: true, source: Some(error.into()) })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What the bucket is called at the server.
    fn name(&self, bucket: &Bucket) -> Result<Arc<str>, StoreError> {
        let name = if self.prefix.is_empty() {
            Arc::clone(&bucket.name)
        } else {
            Arc::from(self.prefix.replace("{namespace}", &bucket.namespace) + &bucket.name)
        };
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_valid = !name.is_empty() && name.len() <= BUCKET_BYTES_MAX && name.bytes().all(is_known);
        if is_valid { Ok(name) } else { Err(StoreError::NoSuchStore) }
    }

    /// Which connection this is, once there is one: one that was just lost may come back.
    async fn session(&self) -> Result<u64, StoreError> {
        let mut state = self.data.nats().state.clone();
        if let ConnectionState::Connected { session } = *state.borrow() {
            return Ok(session);
        }
        let for_long = self.data.standing().since.elapsed().unwrap_or_default();
        let connected = state.wait_for(|state| matches!(state, ConnectionState::Connected { .. }));
        let connected = timeout(RECONNECT_WAIT.saturating_sub(for_long), connected).await;
        match connected.ok().and_then(Result::ok).map(|state| *state) {
            Some(ConnectionState::Connected { session }) => Ok(session),
            _ => Err(StoreError::Other("there is no connection to the store".to_owned())),
        }
    }

    /// The bucket as the server knows it; made if there is none.
    async fn handle(&self, name: &Arc<str>) -> Result<Arc<KvStore>, StoreError> {
        let session = self.session().await?;
        self.handles.get(name, session, self.open_or_create(name)).await
    }

    async fn open_or_create(&self, name: &Arc<str>) -> Result<KvStore, StoreError> {
        let missing = match self.jetstream.get_key_value(&**name).await {
            Ok(store) => return Ok(store),
            Err(error) if is_stream_gone(&error) => error,
            Err(error) => return Err(refused("open the bucket", &error)),
        };
        let config = Config { bucket: name.to_string(), history: 1, ..Config::default() };
        match self.jetstream.create_key_value(config).await {
            Ok(store) => Ok(store),
            // Someone else made it at the same time, with settings of their own.
            Err(error) => match self.jetstream.get_key_value(&**name).await {
                Ok(store) => Ok(store),
                Err(again) if is_stream_gone(&again) => Err(refused("make the bucket", &error)),
                Err(_other) => Err(refused("open the bucket", &missing)),
            },
        }
    }

    async fn write(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<(), StoreError> {
        check_key(key)?;
        let written = on_bucket!(self, bucket, |store| put(&store, key, value.clone()));
        self.listings.changed(&self.name(bucket)?);
        written
    }

    async fn remove(&self, bucket: &Bucket, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        let removed = on_bucket!(self, bucket, |store| delete(&store, key));
        self.listings.changed(&self.name(bucket)?);
        removed
    }

    async fn value(&self, bucket: &Bucket, key: &str) -> Result<Option<Bytes>, StoreError> {
        check_key(key)?;
        let entry = on_bucket!(self, bucket, |store| read(&store, key))?;
        Ok(entry.filter(|entry| entry.operation == Operation::Put).map(|entry| entry.value))
    }

    /// Further pages come from the listing that the first one was taken from, as long as nothing was written here.
    async fn page(&self, bucket: &Bucket, skip: u64) -> Result<Page, StoreError> {
        let name = self.name(bucket)?;
        let kept = if skip > 0 { self.listings.kept(&name) } else { None };
        let keys = match kept {
            Some(keys) => keys,
            None => {
                let version = self.listings.version();
                let keys = Arc::new(on_bucket!(self, bucket, |store| keys(&store))?);
                self.listings.keep(&name, &keys, version);
                keys
            }
        };
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(keys.len());
        let end = skipped.saturating_add(PAGE_KEYS).min(keys.len());
        let page = keys.get(skipped..end).unwrap_or_default().to_vec();
        Ok(Page { keys: page, next: (end < keys.len()).then_some(end as u64) })
    }

    /// Together with whoever else adds to the same counter here.
    async fn count(self: Arc<Self>, bucket: Bucket, key: String, delta: u64) -> Result<u64, StoreError> {
        check_key(&key)?;
        let name = self.name(&bucket)?;
        let counters = Arc::clone(&self.counters);
        let add_to: Add = {
            let (store, key) = (self, key.clone());
            Arc::new(move |sum| {
                let (this, bucket, key) = (Arc::clone(&store), bucket.clone(), key.clone());
                Box::pin(async move {
                    let adding = async { on_bucket!(this, &bucket, |store| add(&store, &key, sum)) };
                    let before = tokio::select! {
                        before = adding => before,
                        () = this.cut.wait() => Err(StoreError::Other("the connection was replaced".to_owned())),
                        () = this.data.cut() => Err(StoreError::Other("the connection was replaced".to_owned())),
                    };
                    this.listings.changed(&this.name(&bucket)?);
                    before
                })
            })
        };
        counters.add((name, key), delta, add_to).await
    }
}

/// Adds to a counter by writing it only if nobody else has since it was read; returns what it was before. What may have
/// been written is not written again: a lost answer is an error, and no increment counts twice.
async fn add(store: &KvStore, key: &str, sum: u64) -> Result<u64, Failure> {
    let deadline = Instant::now() + INCREMENT_TIME_MAX;
    let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(100));
    let attempts = async {
        loop {
            let (revision, before) = match read(store, key).await? {
                Some(entry) => (entry.revision, counter(&entry)),
                None => (0, 0),
            };
            let after = Bytes::copy_from_slice(&before.saturating_add(sum).to_be_bytes());
            match update(store, key, after, revision).await {
                Ok(()) => return Ok(before),
                Err(Failure::Conflict) => tokio::time::sleep(backoff.pause()).await,
                Err(other) => return Err(other),
            }
        }
    };
    let too_slow = || StoreError::Other("others kept writing this key: the increment was given up".to_owned());
    timeout_at(deadline, attempts).await.unwrap_or_else(|_elapsed| Err(too_slow().into()))
}

/// The first 8 bytes; a shorter value, or none, counts as 0.
fn counter(entry: &Entry) -> u64 {
    let is_there = entry.operation == Operation::Put;
    entry.value.first_chunk::<8>().filter(|_| is_there).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

async fn read(store: &KvStore, key: &str) -> Result<Option<Entry>, Failure> {
    match store.entry(key).await {
        Ok(entry) => Ok(entry),
        Err(error) if is_stream_gone(&error) => Err(Failure::Gone),
        Err(error) => Err(refused("read the key", &error).into()),
    }
}

async fn delete(store: &KvStore, key: &str) -> Result<(), Failure> {
    match store.delete(key).await {
        Ok(()) => Ok(()),
        Err(error) if is_stream_gone(&error) => Err(Failure::Gone),
        Err(error) => Err(refused("delete the key", &error).into()),
    }
}

/// All keys, sorted.
async fn keys(store: &KvStore) -> Result<Vec<String>, Failure> {
    let failure = |error: &(dyn Error + 'static)| match is_stream_gone(error) {
        true => Failure::Gone,
        false => refused("list the keys", error).into(),
    };
    let mut listing = store.keys().await.map_err(|error| failure(&error))?;
    let mut bytes = 0;
    let mut keys = Vec::new();
    while let Some(key) = listing.next().await {
        let key = key.map_err(|error| failure(&error))?;
        bytes += key.len();
        if bytes > ANSWER_BYTES_MAX {
            let message = format!("the keys of the bucket are longer than {ANSWER_BYTES_MAX} bytes together");
            return Err(StoreError::Other(message).into());
        }
        keys.push(key);
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

async fn put(store: &KvStore, key: &str, value: Bytes) -> Result<(), Failure> {
    match store.put(key, value).await {
        Ok(_revision) => Ok(()),
        Err(error) if is_stream_gone(&error) => Err(Failure::Gone),
        Err(error) => Err(refused("write the key", &error).into()),
    }
}

async fn update(store: &KvStore, key: &str, value: Bytes, revision: u64) -> Result<(), Failure> {
    match store.update(key, value, revision).await {
        Ok(_revision) => Ok(()),
        Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Err(Failure::Conflict),
        Err(error) if is_stream_gone(&error) => Err(Failure::Gone),
        Err(error) => Err(refused("write the key", &error).into()),
    }
}

fn finished<T>(result: Result<T, Failure>) -> Result<T, StoreError> {
    result.map_err(|failure| match failure {
        Failure::Gone => StoreError::NoSuchStore,
        Failure::Conflict => StoreError::Other("others keep writing this key".to_owned()),
        Failure::Store(error) => error,
    })
}

fn check_key(key: &str) -> Result<(), StoreError> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_=.".contains(&byte);
    let is_valid = !key.is_empty() && key.bytes().all(is_known) && key.split('.').all(|part| !part.is_empty());
    if !is_valid {
        let shown: String = key.chars().take(64).collect();
        let message =
            format!("invalid key {shown:?}: expected letters, digits and -/_=. with no dot at an end or twice");
        return Err(StoreError::Other(message));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(StoreError::Other(format!("invalid key: it is longer than {KEY_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// What the guest is told of a failure: the server's words hold nothing but names that the guest gave.
fn refused(step: &str, error: &(dyn Error + 'static)) -> StoreError {
    StoreError::Other(format!("cannot {step}: {error}"))
}

/// Whether an error says that there is no such stream: each operation has its own way to.
fn is_stream_gone(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let code = if let Some(error) = error.downcast_ref::<PublishError>() {
            return error.kind() == PublishErrorKind::StreamNotFound;
        } else if let Some(error) = error.downcast_ref::<DirectGetError>() {
            return matches!(error.kind(), DirectGetErrorKind::ErrorResponse(StatusCode::NO_RESPONDERS, _));
        } else if let Some(error) = error.downcast_ref::<GetStreamError>() {
            match error.kind() {
                GetStreamErrorKind::JetStream(error) => Some(error.error_code()),
                _ => None,
            }
        } else if let Some(error) = error.downcast_ref::<LastRawMessageError>() {
            match error.kind() {
                LastRawMessageErrorKind::JetStream(error) => Some(error.error_code()),
                _ => None,
            }
        } else if let Some(error) = error.downcast_ref::<ConsumerError>() {
            match error.kind() {
                ConsumerErrorKind::JetStream(error) => Some(error.error_code()),
                _ => None,
            }
        } else {
            None
        };
        if code == Some(ErrorCode::STREAM_NOT_FOUND) {
            return true;
        }
        next = error.source();
    }
    false
}

impl Store for NatsStore {
    fn open<'a>(&'a self, bucket: &'a Bucket) -> Answer<'a, ()> {
        Box::pin(async move { self.handle(&self.name(bucket)?).await.map(drop) })
    }

    fn get<'a>(&'a self, bucket: &'a Bucket, key: &'a str) -> Answer<'a, Option<Bytes>> {
        Box::pin(self.value(bucket, key))
    }

    fn set<'a>(&'a self, bucket: &'a Bucket, key: &'a str, value: Bytes) -> Answer<'a, ()> {
        Box::pin(self.write(bucket, key, value))
    }

    fn delete<'a>(&'a self, bucket: &'a Bucket, key: &'a str) -> Answer<'a, ()> {
        Box::pin(self.remove(bucket, key))
    }

    fn exists<'a>(&'a self, bucket: &'a Bucket, key: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { Ok(self.value(bucket, key).await?.is_some()) })
    }

    fn list<'a>(&'a self, bucket: &'a Bucket, skip: u64) -> Answer<'a, Page> {
        Box::pin(self.page(bucket, skip))
    }

    fn increment<'a>(self: Arc<Self>, bucket: &'a Bucket, key: &'a str, delta: u64) -> Answer<'a, u64> {
        Box::pin(self.count(bucket.clone(), key.to_owned(), delta))
    }

    fn get_many<'a>(&'a self, bucket: &'a Bucket, keys: &'a [String]) -> Answer<'a, Vec<Option<Bytes>>> {
        gathered(keys.iter().map(move |key| -> Answer<'a, Option<Bytes>> { Box::pin(self.value(bucket, key)) }))
    }

    fn set_many<'a>(&'a self, bucket: &'a Bucket, pairs: Vec<(String, Bytes)>) -> Answer<'a, ()> {
        // They are under way at once, so of two values of one key only the last one is written.
        let mut last: HashMap<String, usize> = HashMap::new();
        for (place, (key, _value)) in pairs.iter().enumerate() {
            last.insert(key.clone(), place);
        }
        let pairs: Vec<_> = pairs.into_iter().enumerate().filter(|(n, (key, _))| last.get(key) == Some(n)).collect();
        let writes = pairs.into_iter().map(move |(_, (key, value))| -> Answer<'a, ()> {
            Box::pin(async move { self.write(bucket, &key, value).await })
        });
        all(writes)
    }

    fn delete_many<'a>(&'a self, bucket: &'a Bucket, keys: &'a [String]) -> Answer<'a, ()> {
        all(keys.iter().map(move |key| -> Answer<'a, ()> { Box::pin(self.remove(bucket, key)) }))
    }
}

/// The values in order, read some at once.
fn gathered<'a>(reads: impl Iterator<Item = Answer<'a, Option<Bytes>>> + Send + 'a) -> Answer<'a, Vec<Option<Bytes>>> {
    Box::pin(async move {
        let mut bytes = 0;
        let mut values = Vec::new();
        let mut answers = stream::iter(reads).buffered(BATCH_AT_ONCE);
        while let Some(value) = answers.next().await {
            let value = value?;
            bytes += value.as_ref().map_or(0, Bytes::len);
            if bytes > ANSWER_BYTES_MAX {
                return Err(StoreError::Other(format!("the values are larger than {ANSWER_BYTES_MAX} bytes")));
            }
            values.push(value);
        }
        Ok(values)
    })
}

/// All are attempted, some at once; the first error is returned.
fn all<'a>(steps: impl Iterator<Item = Answer<'a, ()>> + Send + 'a) -> Answer<'a, ()> {
    Box::pin(async move {
        let mut outcome = Ok(());
        let mut answers = stream::iter(steps).buffered(BATCH_AT_ONCE);
        while let Some(next) = answers.next().await {
            outcome = outcome.and(next);
        }
        outcome
    })
}

impl fmt::Debug for NatsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_would_break_the_protocol_or_match_nothing_is_refused() {
        for key in ["a", "a.b", "A-/_=0", &"x".repeat(KEY_BYTES_MAX)] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        for key in ["", ".", ".a", "a.", "a..b", "a b", "a*", ">", "ä", "a\r\nPUB x 0", &"x".repeat(KEY_BYTES_MAX + 1)]
        {
            assert!(matches!(check_key(key), Err(StoreError::Other(text)) if text.starts_with("invalid key")), "{key}");
        }
    }
}
