//! What keeps keys and values: the trait that every backend of `wasi:keyvalue` implements.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::types::WorkloadId;

/// Keys in one page of [`Store::list`].
pub(crate) const PAGE_KEYS: usize = 1000;
/// Bytes of values in one answer of [`Store::get_many`]: a guest may name one large key a million times.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// An operation under way. Dropping it gives it up; whether it took effect is then unknown.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Keeps buckets of keys and values. Contains no wasmtime; one conformance suite holds for every implementation.
///
/// A bucket is named in every call, so that a backend can be swapped between two calls; what is costly to open, a
/// backend keeps by name.
pub(crate) trait Store: fmt::Debug + Send + Sync + 'static {
    /// Makes sure that the bucket can be used; where buckets are made on demand, it is made.
    fn open<'a>(&'a self, bucket: &'a Bucket) -> Answer<'a, ()>;

    /// The value, `None` if the key is missing; an empty value is a value.
    fn get<'a>(&'a self, bucket: &'a Bucket, key: &'a str) -> Answer<'a, Option<Bytes>>;

    /// Creates or replaces.
    fn set<'a>(&'a self, bucket: &'a Bucket, key: &'a str, value: Bytes) -> Answer<'a, ()>;

    /// Deletes; a missing key is no error.
    fn delete<'a>(&'a self, bucket: &'a Bucket, key: &'a str) -> Answer<'a, ()>;

    /// Whether the key has a value.
    fn exists<'a>(&'a self, bucket: &'a Bucket, key: &'a str) -> Answer<'a, bool>;

    /// At most [`PAGE_KEYS`] keys in ascending order, behind the first `skip`.
    fn list<'a>(&'a self, bucket: &'a Bucket, skip: u64) -> Answer<'a, Page>;

    /// Adds to a counter and returns its new value, saturating at `u64::MAX`. Atomic under any concurrency. A key
    /// that is missing, or whose value is no counter, counts as 0.
    ///
    /// It may outlive the call: callers share what they ask of a server.
    fn increment<'a>(self: Arc<Self>, bucket: &'a Bucket, key: &'a str, delta: u64) -> Answer<'a, u64>;

    /// The values in the order of the keys. Not one moment's picture.
    fn get_many<'a>(&'a self, bucket: &'a Bucket, keys: &'a [String]) -> Answer<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            let mut bytes = 0;
            let mut values = Vec::new();
            for key in keys {
                let value = self.get(bucket, key).await?;
                bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
                if bytes > ANSWER_BYTES_MAX {
                    return Err(StoreError::Other(format!("the values are larger than {ANSWER_BYTES_MAX} bytes")));
                }
                values.push(value);
            }
            Ok(values)
        })
    }

    /// Not atomic: all are attempted, and the first error is returned.
    fn set_many<'a>(&'a self, bucket: &'a Bucket, pairs: Vec<(String, Bytes)>) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut outcome = Ok(());
            for (key, value) in pairs {
                outcome = outcome.and(self.set(bucket, &key, value).await);
            }
            outcome
        })
    }

    /// Not atomic: all are attempted, and the first error is returned.
    fn delete_many<'a>(&'a self, bucket: &'a Bucket, keys: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut outcome = Ok(());
            for key in keys {
                outcome = outcome.and(self.delete(bucket, key).await);
            }
            outcome
        })
    }
}

/// A bucket as it was opened: which backends share it between workloads is theirs to say.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Who opened it.
    pub(crate) workload: WorkloadId,
    /// Its namespace.
    pub(crate) namespace: Arc<str>,
    /// The argument of `open`.
    pub(crate) name: Arc<str>,
}

/// A part of the keys of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// In ascending order.
    pub(crate) keys: Vec<String>,
    /// How many keys were returned up to here, if there are more.
    pub(crate) next: Option<u64>,
}

/// Why an operation failed; guests see it as the interface's own error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The bucket does not exist and is not made on demand, or cannot bear this name.
    #[error("no such store")]
    NoSuchStore,
    /// The host or the workload's entry does not allow it.
    #[error("access denied")]
    AccessDenied,
    /// Anything else, in words for whoever wrote the guest.
    #[error("{0}")]
    Other(String),
}
