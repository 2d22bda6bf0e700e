//! One step each at a bucket of JetStream: a key read or written, a counter added to, all keys listed; and what went wrong.

use std::error::Error;
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, PublishError, PublishErrorKind};
use async_nats::jetstream::kv::{Entry, Operation, Store as KvStore, UpdateErrorKind};
use async_nats::jetstream::stream::{
    ConsumerError, ConsumerErrorKind, DirectGetError, DirectGetErrorKind, LastRawMessageError, LastRawMessageErrorKind,
};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::backend::{ANSWER_BYTES_MAX, StoreError};
use crate::task::Backoff;

/// All attempts at one increment.
const INCREMENT_TIME_MAX: Duration = Duration::from_secs(9);

/// Why something could not be done with a bucket.
#[derive(Debug)]
pub(super) enum Failure {
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

/// Adds to a counter by writing it only if nobody else has since it was read; returns what it was before. What may have
/// been written is not written again: a lost answer is an error, and no increment counts twice.
pub(super) async fn add(store: &KvStore, key: &str, sum: u64) -> Result<u64, Failure> {
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

pub(super) async fn read(store: &KvStore, key: &str) -> Result<Option<Entry>, Failure> {
    match store.entry(key).await {
        Ok(entry) => Ok(entry),
        Err(error) if is_stream_gone(&error) => Err(Failure::Gone),
        Err(error) => Err(refused("read the key", &error).into()),
    }
}

pub(super) async fn delete(store: &KvStore, key: &str) -> Result<(), Failure> {
    match store.delete(key).await {
        Ok(()) => Ok(()),
        Err(error) if is_stream_gone(&error) => Err(Failure::Gone),
        Err(error) => Err(refused("delete the key", &error).into()),
    }
}

/// All keys, sorted.
pub(super) async fn keys(store: &KvStore) -> Result<Vec<String>, Failure> {
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

pub(super) async fn put(store: &KvStore, key: &str, value: Bytes) -> Result<(), Failure> {
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

/// What the guest is told of a failure: the server's words hold nothing but names that the guest gave.
pub(super) fn refused(step: &str, error: &(dyn Error + 'static)) -> StoreError {
    StoreError::Other(format!("cannot {step}: {error}"))
}

/// Whether an error says that there is no such stream: each operation has its own way to.
pub(super) fn is_stream_gone(error: &(dyn Error + 'static)) -> bool {
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
