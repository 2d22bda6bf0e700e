//! Keys and values in the host's memory, one store per workload.
//!
//! A store lives as long as someone holds its [`Tenancy`], which is what bindings do: it is gone with the workload.
//! A counter is 8 bytes, little-endian.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use bytes::Bytes;
use futures::future;

use super::backend::{Answer, Bucket, PAGE_KEYS, Page, Store, StoreError};
use crate::types::WorkloadId;

/// What all buckets of a workload may hold together, keys and overhead included: 16 workloads that fill theirs take
/// 1 GiB of the host. Who needs more has data that should outlive the process.
const WORKLOAD_BYTES_MAX: usize = 64 << 20;
/// Counted for each key and each bucket beside texts and values; a guess at what the maps spend on one.
const KEY_OVERHEAD_BYTES: usize = 128;

/// The backend `memory`.
#[derive(Default)]
pub(super) struct MemoryStore {
    tenants: RwLock<HashMap<WorkloadId, Weak<Contents>>>,
}

/// Keeps the contents of one workload alive.
#[derive(Debug)]
pub(super) struct Tenancy {
    _contents: Arc<Contents>,
}

#[derive(Default)]
struct Contents(Mutex<Buckets>);

/// Everything a workload keeps. A bucket without keys is not there.
#[derive(Default)]
pub(super) struct Buckets {
    by_name: BTreeMap<Arc<str>, BTreeMap<String, Bytes>>,
    bytes: usize,
    is_chosen: bool,
}

impl MemoryStore {
    /// The store of a workload, made if there is none.
    ///
    /// One that `chose` this backend keeps its contents whatever becomes of the host's settings.
    pub(super) fn join(&self, workload: &WorkloadId, chose: bool) -> Tenancy {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, contents| contents.strong_count() > 0);
        let known = tenants.get(workload).and_then(Weak::upgrade);
        let contents = known.unwrap_or_else(|| {
            let contents = Arc::new(Contents::default());
            tenants.insert(workload.clone(), Arc::downgrade(&contents));
            contents
        });
        contents.lock().is_chosen |= chose;
        Tenancy { _contents: contents }
    }

    /// Empties the stores of workloads that did not choose this backend: the host has left it. What was in them is to
    /// be dropped by whoever has time.
    pub(super) fn leave(&self) -> Vec<Buckets> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let contents = tenants.values().filter_map(Weak::upgrade);
        contents
            .filter_map(|contents| {
                let mut buckets = contents.lock();
                (!buckets.is_chosen).then(|| std::mem::take(&mut *buckets))
            })
            .collect()
    }

    /// Forgets the names of workloads that are gone.
    pub(super) fn sweep(&self) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, contents| contents.strong_count() > 0);
    }

    /// Runs `work`, which must be short, on what the bucket's workload keeps.
    fn with<T: Send + 'static>(
        &self,
        bucket: &Bucket,
        work: impl FnOnce(&mut Buckets) -> Result<T, StoreError>,
    ) -> Answer<'static, T> {
        let contents = {
            let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
            tenants.get(&bucket.workload).and_then(Weak::upgrade)
        };
        let result = match contents {
            Some(contents) => work(&mut contents.lock()),
            None => Err(StoreError::Other("the workload has stopped".to_owned())),
        };
        Box::pin(future::ready(result))
    }
}

impl Contents {
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    fn get(&self, bucket: &Bucket, key: &str) -> Option<&Bytes> {
        self.by_name.get(&bucket.name)?.get(key)
    }

    fn set(&mut self, bucket: &Bucket, key: &str, value: Bytes) -> Result<(), StoreError> {
        let freed = self.get(bucket, key).map_or(0, |old| cost(key, old));
        let opened = if self.by_name.contains_key(&bucket.name) { 0 } else { cost_of_bucket(bucket) };
        let bytes = self.bytes - freed + opened + cost(key, &value);
        if bytes > WORKLOAD_BYTES_MAX {
            let message = format!("the memory store of a workload holds at most {WORKLOAD_BYTES_MAX} bytes");
            return Err(StoreError::Other(message));
        }
        self.bytes = bytes;
        self.by_name.entry(Arc::clone(&bucket.name)).or_default().insert(key.to_owned(), value);
        Ok(())
    }

    fn delete(&mut self, bucket: &Bucket, key: &str) {
        let Some(keys) = self.by_name.get_mut(&bucket.name) else { return };
        if let Some(old) = keys.remove(key) {
            self.bytes -= cost(key, &old);
        }
        if keys.is_empty() {
            self.by_name.remove(&bucket.name);
            self.bytes -= cost_of_bucket(bucket);
        }
    }

    /// Walks over what it skips: microseconds for a page, some milliseconds at the end of a full store.
    fn list(&self, bucket: &Bucket, skip: u64) -> Page {
        let Some(keys) = self.by_name.get(&bucket.name) else { return Page { keys: Vec::new(), next: None } };
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(keys.len());
        let end = skipped.saturating_add(PAGE_KEYS).min(keys.len());
        let page = keys.keys().skip(skipped).take(PAGE_KEYS).cloned().collect();
        Page { keys: page, next: (end < keys.len()).then_some(end as u64) }
    }

    fn increment(&mut self, bucket: &Bucket, key: &str, delta: u64) -> Result<u64, StoreError> {
        let old = self.get(bucket, key).and_then(|value| <[u8; 8]>::try_from(value.as_ref()).ok());
        let new = old.map_or(0, u64::from_le_bytes).saturating_add(delta);
        self.set(bucket, key, Bytes::copy_from_slice(&new.to_le_bytes()))?;
        Ok(new)
    }
}

fn cost(key: &str, value: &Bytes) -> usize {
    KEY_OVERHEAD_BYTES + key.len() + value.len()
}

fn cost_of_bucket(bucket: &Bucket) -> usize {
    KEY_OVERHEAD_BYTES + bucket.name.len()
}

impl Store for MemoryStore {
    fn open<'a>(&'a self, bucket: &'a Bucket) -> Answer<'a, ()> {
        self.with(bucket, |_buckets| Ok(()))
    }

    fn get<'a>(&'a self, bucket: &'a Bucket, key: &'a str) -> Answer<'a, Option<Bytes>> {
        self.with(bucket, |buckets| Ok(buckets.get(bucket, key).cloned()))
    }

    fn set<'a>(&'a self, bucket: &'a Bucket, key: &'a str, value: Bytes) -> Answer<'a, ()> {
        self.with(bucket, |buckets| buckets.set(bucket, key, value))
    }

    fn delete<'a>(&'a self, bucket: &'a Bucket, key: &'a str) -> Answer<'a, ()> {
        self.with(bucket, |buckets| {
            buckets.delete(bucket, key);
            Ok(())
        })
    }

    fn exists<'a>(&'a self, bucket: &'a Bucket, key: &'a str) -> Answer<'a, bool> {
        self.with(bucket, |buckets| Ok(buckets.get(bucket, key).is_some()))
    }

    fn list<'a>(&'a self, bucket: &'a Bucket, skip: u64) -> Answer<'a, Page> {
        self.with(bucket, |buckets| Ok(buckets.list(bucket, skip)))
    }

    fn increment<'a>(self: Arc<Self>, bucket: &'a Bucket, key: &'a str, delta: u64) -> Answer<'a, u64> {
        self.with(bucket, |buckets| buckets.increment(bucket, key, delta))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contents({} bytes)", self.lock().bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::conformance;
    use super::*;

    fn bucket(workload: &WorkloadId) -> Bucket {
        Bucket { workload: workload.clone(), namespace: Arc::from("default"), name: Arc::from("bucket") }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn memory_conforms() {
        let store = Arc::new(MemoryStore::default());
        let workload = WorkloadId::from("workload");
        let _tenancy = store.join(&workload, false);
        conformance(Arc::<MemoryStore>::clone(&store), workload).await;
    }

    #[tokio::test]
    async fn a_store_belongs_to_one_workload_and_ends_with_its_last_binding() {
        let store = Arc::new(MemoryStore::default());
        let (one, two) = (WorkloadId::from("one"), WorkloadId::from("two"));
        let (first, _other) = (store.join(&one, false), store.join(&two, false));
        store.set(&bucket(&one), "key", Bytes::from_static(b"value")).await.unwrap();
        assert_eq!(store.get(&bucket(&two), "key").await, Ok(None));

        let second = store.join(&one, false);
        drop(first);
        assert!(store.exists(&bucket(&one), "key").await.unwrap(), "the second binding keeps it");

        drop(second);
        assert!(matches!(store.get(&bucket(&one), "key").await, Err(StoreError::Other(_))));
        let again = store.join(&one, false);
        assert_eq!(store.get(&bucket(&one), "key").await, Ok(None));
        drop(again);
        store.sweep();
        assert_eq!(store.tenants.read().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_full_store_refuses_and_takes_again_what_was_freed() {
        let store = Arc::new(MemoryStore::default());
        let workload = WorkloadId::from("workload");
        let tenancy = store.join(&workload, false);
        let bucket = bucket(&workload);
        let most = Bytes::from(vec![0; WORKLOAD_BYTES_MAX - cost_of_bucket(&bucket) - KEY_OVERHEAD_BYTES - 1]);
        store.set(&bucket, "a", most.clone()).await.unwrap();
        store.set(&bucket, "a", most.clone()).await.unwrap();
        assert!(matches!(store.set(&bucket, "b", Bytes::new()).await, Err(StoreError::Other(_))));
        assert!(matches!(Arc::clone(&store).increment(&bucket, "b", 1).await, Err(StoreError::Other(_))));
        assert!(matches!(store.get_many(&bucket, &["a".to_owned(), "a".to_owned()]).await, Err(StoreError::Other(_))));
        store.delete(&bucket, "a").await.unwrap();
        assert_eq!(tenancy._contents.lock().bytes, 0);
        store.set(&bucket, "b", Bytes::new()).await.unwrap();
    }

    #[tokio::test]
    async fn the_name_of_a_bucket_counts_as_long_as_the_bucket_has_keys() {
        let store = Arc::new(MemoryStore::default());
        let workload = WorkloadId::from("workload");
        let tenancy = store.join(&workload, false);
        let used = || tenancy._contents.lock().bytes;
        let bucket = Bucket { workload, name: Arc::from("x".repeat(1000)), namespace: Arc::from("default") };
        store.set(&bucket, "a", Bytes::new()).await.unwrap();
        let one_key = used();
        assert!(one_key > 1000, "{one_key}");
        store.set(&bucket, "b", Bytes::new()).await.unwrap();
        assert_eq!(used() - one_key, cost("b", &Bytes::new()));
        store.delete(&bucket, "a").await.unwrap();
        store.delete(&bucket, "b").await.unwrap();
        assert_eq!(used(), 0);
    }

    #[tokio::test]
    async fn a_counter_is_eight_bytes_little_endian() {
        let store = Arc::new(MemoryStore::default());
        let workload = WorkloadId::from("workload");
        let _tenancy = store.join(&workload, false);
        let bucket = bucket(&workload);
        Arc::clone(&store).increment(&bucket, "counter", 258).await.unwrap();
        assert_eq!(store.get(&bucket, "counter").await.unwrap().as_deref(), Some(&[2, 1, 0, 0, 0, 0, 0, 0][..]));
    }

    #[tokio::test]
    async fn leaving_the_backend_empties_it_but_for_those_who_chose_it() {
        let store = Arc::new(MemoryStore::default());
        let (one, two) = (WorkloadId::from("one"), WorkloadId::from("two"));
        let _tenancies = (store.join(&one, false), store.join(&two, true));
        for workload in [&one, &two] {
            store.set(&bucket(workload), "key", Bytes::from_static(b"value")).await.unwrap();
        }
        assert_eq!(store.leave().len(), 1);
        assert!(!store.exists(&bucket(&one), "key").await.unwrap());
        assert!(store.exists(&bucket(&two), "key").await.unwrap());
    }
}
