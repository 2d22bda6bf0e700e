//! Keys and values in JetStream buckets, named and encoded as other hosts do: they share them.
//!
//! A bucket is the stream `KV_<bucket>`, a key the subject `$KV.<bucket>.<key>` as it is. A counter is 8 bytes,
//! big-endian. Workloads share buckets by name, unless `bucket_prefix` keeps their namespaces apart.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::kv::{Config, Operation, Store as KvStore};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use tokio::time::timeout;

use super::backend::{ANSWER_BYTES_MAX, Answer, Bucket, PAGE_KEYS, Page, Store, StoreError};
use super::counter::{Add, Counters};
use super::handles::Handles;
use super::listing::Listings;
use super::nats_key::{Failure, add, delete, is_stream_gone, keys, put, read, refused};
use crate::nats::{ConnectionState, DataClient};
use crate::plugin::NotReady;
use crate::task::Shutdown;

/// A connection that was lost is waited for so long, counted from the loss: a server that restarts is back by then.
const RECONNECT_WAIT: Duration = Duration::from_secs(2);
/// One question to JetStream. Two of them fit into what an operation may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
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
    /// Made at the first call: it has a task of its own, which belongs to where calls are made.
    jetstream: OnceLock<Context>,
    prefix: String,
    handles: Handles<KvStore>,
    counters: Arc<Counters>,
    listings: Listings,
    /// The time to finish is over.
    cut: Shutdown,
}

/// What JetStream says of the account.
#[derive(Deserialize)]
struct Info {
    error: Option<InfoError>,
}

#[derive(Deserialize)]
struct InfoError {
    #[serde(default)]
    description: String,
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

impl NatsStore {
    /// When `cut` is triggered, what is under way ends.
    pub(super) fn new(data: DataClient, prefix: &str, cut: Shutdown) -> Self {
        let jetstream = OnceLock::new();
        let (handles, counters, listings) = (Handles::default(), Arc::default(), Listings::default());
        Self { data, jetstream, prefix: prefix.to_owned(), handles, counters, listings, cut }
    }

    pub(super) fn data(&self) -> &DataClient {
        &self.data
    }

    /// Whether the server keeps streams for us. One that may not be asked says nothing.
    pub(super) async fn probe(&self) -> Result<(), NotReady> {
        let not_ready = |source: Box<dyn Error + Send + Sync>| NotReady {
            message: "nats.data has no JetStream, which keeps the buckets".to_owned(),
            is_passing: true,
            source: Some(source),
        };
        match timeout(PROBE_TIMEOUT, self.data.client().request("$JS.API.INFO", Bytes::new())).await {
            Ok(Ok(answer)) => match serde_json::from_slice::<Info>(&answer.payload) {
                Ok(Info { error: Some(error) }) => Err(not_ready(error.description.into())),
                Ok(Info { error: None }) | Err(_) => Ok(()),
            },
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Err(not_ready(error.into())),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    fn jetstream(&self) -> &Context {
        self.jetstream.get_or_init(|| {
            let mut jetstream = jetstream::new(self.data.client().clone());
            jetstream.set_timeout(REQUEST_TIMEOUT);
            jetstream
        })
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
        // Opening is rare and its future large.
        self.handles.get(name, session, || Box::pin(self.open_or_create(name))).await
    }

    async fn open_or_create(&self, name: &Arc<str>) -> Result<KvStore, StoreError> {
        let missing = match self.jetstream().get_key_value(&**name).await {
            Ok(store) => return Ok(store),
            Err(error) if is_stream_gone(&error) => error,
            Err(error) => return Err(refused("open the bucket", &error)),
        };
        let config = Config { bucket: name.to_string(), history: 1, ..Config::default() };
        match self.jetstream().create_key_value(config).await {
            Ok(store) => Ok(store),
            // Someone else made it at the same time, with settings of their own.
            Err(error) => match self.jetstream().get_key_value(&**name).await {
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
