//! Keys and values in JetStream buckets, named and encoded as other hosts do: they share them.
//!
//! A bucket is the stream `KV_<bucket>`, a key the subject `$KV.<bucket>.<key>` as it is. A counter is 8 bytes,
//! big-endian. Workloads share buckets by name, unless `bucket_prefix` keeps their namespaces apart.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{GetStreamErrorKind, KeyValueErrorKind, PublishErrorKind, RequestErrorKind};
use async_nats::jetstream::kv::{Config, Operation, Store as KvStore};
use async_nats::jetstream::stream::{DirectGetErrorKind, LastRawMessageErrorKind};
use async_nats::jetstream::{self, Context, ErrorCode, context};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, timeout, timeout_at};

use super::backend::{ANSWER_BYTES_MAX, Answer, Bucket, Page, Store, StoreError};
use super::counter::{Add, Counters};
use super::handles::Handles;
use super::listing::Listings;
use crate::error::Chain;
use crate::nats::{ConnectionState, DataClient};
use crate::plugin::NotReady;
use crate::task::Backoff;

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
    pub(super) fn new(data: DataClient, prefix: &str) -> Self {
        let mut jetstream = jetstream::new(data.client().clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        let (handles, counters, listings) = (Handles::default(), Arc::default(), Listings::default());
        Self { data, jetstream, prefix: prefix.to_owned(), handles, counters, listings }
    }

    pub(super) fn data(&self) -> &DataClient {
        &self.data
    }

    /// Whether the server has what is needed. One that may not be asked is not.
    pub(super) async fn probe(&self) -> Result<(), NotReady> {
        let message = || "nats.data has no JetStream, which keeps the buckets".to_owned();
        match timeout(PROBE_TIMEOUT, self.jetstream.query_account()).await {
            Ok(Err(error)) if matches!(error.kind(), context::AccountErrorKind::JetstreamUnavailable) => {
                Err(NotReady { message: message(), is_passing: true, source: Some(error.into()) })
            }
            Ok(Err(error)) if matches!(error.kind(), context::AccountErrorKind::JetStream(_)) => {
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
            Err(error) if is_missing(&error) => error,
            Err(error) => return Err(refused("open the bucket", &error)),
        };
        let config = Config { bucket: name.to_string(), history: 1, ..Config::default() };
        match self.jetstream.create_key_value(config).await {
            Ok(store) => Ok(store),
            // Someone else made it at the same time, with settings of their own.
            Err(error) => match self.jetstream.get_key_value(&**name).await {
                Ok(store) => Ok(store),
                Err(again) if is_missing(&again) => Err(refused("make the bucket", &error)),
                Err(_other) => Err(refused("open the bucket", &missing)),
            },
        }
    }

    /// Runs `work` on the bucket; on one that is gone a second time, after it was opened again.
    async fn with<T, W>(&self, bucket: &Bucket, work: W) -> Result<T, StoreError>
    where
        W: AsyncFn(&KvStore) -> Result<T, Failure>,
    {
        let name = self.name(bucket)?;
        let handle = self.handle(&name).await?;
        match work(&handle).await {
            Err(Failure::Gone) => {}
            other => return finished(other),
        }
        self.handles.forget(&name, &handle);
        let handle = self.handle(&name).await?;
        finished(work(&handle).await)
    }

    /// One key, which is checked first.
    async fn with_key<T, W>(&self, bucket: &Bucket, key: &str, work: W) -> Result<T, StoreError>
    where
        W: AsyncFn(&KvStore) -> Result<T, Failure>,
    {
        check_key(key)?;
        self.with(bucket, work).await
    }

    async fn write(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<(), StoreError> {
        let written = self.with_key(bucket, key, async |store| put(store, key, value.clone()).await).await;
        self.listings.changed(&self.name(bucket)?);
        written
    }

    async fn remove(&self, bucket: &Bucket, key: &str) -> Result<(), StoreError> {
        let removed = self
            .with_key(bucket, key, async |store| {
                store.delete(key).await.map_err(|error| match error.kind() {
                    _ if is_stream_gone(&error) => Failure::Gone,
                    _ => refused("delete the key", &error).into(),
                })
            })
            .await;
        self.listings.changed(&self.name(bucket)?);
        removed
    }

    /// All keys, sorted.
    async fn all_keys(&self, bucket: &Bucket) -> Result<Vec<String>, StoreError> {
        self.with(bucket, async |store| {
            let keys = store.keys().await.map_err(|error| Failure::from(refused("list the keys", &error)))?;
            let mut bytes = 0;
            let mut listed = Vec::new();
            let mut keys = std::pin::pin!(keys);
            while let Some(key) = keys.next().await {
                let key = key.map_err(|error| Failure::from(refused("list the keys", &error)))?;
                bytes += key.len();
                if bytes > ANSWER_BYTES_MAX {
                    let message = format!("the keys of the bucket are longer than {ANSWER_BYTES_MAX} bytes together");
                    return Err(StoreError::Other(message).into());
                }
                listed.push(key);
            }
            listed.sort_unstable();
            listed.dedup();
            Ok(listed)
        })
        .await
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
fn counter(entry: &jetstream::kv::Entry) -> u64 {
    let is_there = entry.operation == Operation::Put;
    entry.value.first_chunk::<8>().filter(|_| is_there).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

async fn read(store: &KvStore, key: &str) -> Result<Option<jetstream::kv::Entry>, Failure> {
    store.entry(key).await.map_err(|error| match cause::<DirectError>(&error).map(DirectError::kind) {
        Some(DirectGetErrorKind::Request) if is_unanswered(&error) => Failure::Gone,
        _ if is_stream_gone(&error) => Failure::Gone,
        _ => refused("read the key", &error).into(),
    })
}

type DirectError = jetstream::stream::DirectGetError;

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
        Err(error) if error.kind() == jetstream::kv::UpdateErrorKind::WrongLastRevision => Err(Failure::Conflict),
        Err(error) if is_stream_gone(&error) => Err(Failure::Gone),
        Err(error) => Err(refused("write the key", &error).into()),
    }
}
