//! What every backend of `wasi:keyvalue` must do, whatever it keeps its values in.

use std::sync::Arc;

use bytes::Bytes;

use super::backend::{Bucket, PAGE_KEYS, Store, StoreError};
use crate::task;
use crate::types::WorkloadId;

/// Runs the whole suite on buckets of `workload` that nobody used before.
pub(super) async fn conformance(store: Arc<dyn Store>, workload: WorkloadId) {
    let bucket =
        |name: &str| Bucket { workload: workload.clone(), namespace: Arc::from("default"), name: Arc::from(name) };
    for name in ["values", "others", "pages", "counters", "batches", "crowd"] {
        store.open(&bucket(name)).await.unwrap();
        store.open(&bucket(name)).await.unwrap();
    }
    values(&*store, &bucket("values"), &bucket("others")).await.unwrap();
    pages(&*store, &bucket("pages")).await.unwrap();
    counters(&store, &bucket("counters")).await.unwrap();
    batches(&*store, &bucket("batches")).await.unwrap();
    crowd(&store, &bucket("crowd")).await;
}

async fn values(store: &dyn Store, bucket: &Bucket, other: &Bucket) -> Result<(), StoreError> {
    assert_eq!(store.get(bucket, "missing").await?, None);
    assert!(!store.exists(bucket, "missing").await?);
    store.delete(bucket, "missing").await?;

    store.set(bucket, "key", Bytes::from_static(b"one")).await?;
    store.set(bucket, "key", Bytes::from_static(b"\x00\xff")).await?;
    store.set(bucket, "empty", Bytes::new()).await?;
    assert_eq!(store.get(bucket, "key").await?.as_deref(), Some(&b"\x00\xff"[..]));
    assert_eq!(store.get(bucket, "empty").await?, Some(Bytes::new()));
    assert!(store.exists(bucket, "empty").await?);
    assert_eq!(store.get(other, "key").await?, None, "buckets are separate");

    store.delete(bucket, "key").await?;
    assert_eq!(store.get(bucket, "key").await?, None);
    assert!(!store.exists(bucket, "key").await?);
    assert_eq!(store.list(bucket, 0).await?.keys, ["empty"]);
    Ok(())
}

async fn pages(store: &dyn Store, bucket: &Bucket) -> Result<(), StoreError> {
    let nothing = store.list(bucket, 0).await?;
    assert_eq!((nothing.keys.len(), nothing.next), (0, None));

    let expected: Vec<String> = (0..2 * PAGE_KEYS + 1).map(|n| format!("key-{n:05}")).collect();
    for key in expected.iter().rev() {
        store.set(bucket, key, Bytes::from_static(b"x")).await?;
    }
    let mut keys = Vec::new();
    let mut lengths = Vec::new();
    let mut cursor = Some(0);
    while let Some(skip) = cursor {
        assert_eq!(skip, keys.len() as u64, "the cursor counts the keys returned");
        let page = store.list(bucket, skip).await?;
        lengths.push(page.keys.len());
        keys.extend(page.keys);
        cursor = page.next;
    }
    assert_eq!(lengths, [PAGE_KEYS, PAGE_KEYS, 1]);
    assert_eq!(keys, expected, "sorted, each once");

    store.delete(bucket, &expected[0]).await?;
    assert_eq!(store.list(bucket, PAGE_KEYS as u64).await?.next, None, "a full last page has no cursor");
    let behind = store.list(bucket, u64::MAX).await?;
    assert_eq!((behind.keys.len(), behind.next), (0, None));
    Ok(())
}

async fn counters(store: &Arc<dyn Store>, bucket: &Bucket) -> Result<(), StoreError> {
    assert_eq!(Arc::clone(store).increment(bucket, "counter", 0).await?, 0);
    assert!(store.exists(bucket, "counter").await?);
    assert_eq!(Arc::clone(store).increment(bucket, "counter", 5).await?, 5);
    assert_eq!(Arc::clone(store).increment(bucket, "counter", u64::MAX - 6).await?, u64::MAX - 1);
    assert_eq!(Arc::clone(store).increment(bucket, "counter", 7).await?, u64::MAX, "saturates");
    store.set(bucket, "text", Bytes::from_static(b"abc")).await?;
    assert_eq!(Arc::clone(store).increment(bucket, "text", 2).await?, 2, "what is no counter counts as 0");
    Ok(())
}

async fn batches(store: &dyn Store, bucket: &Bucket) -> Result<(), StoreError> {
    let pairs = [("a", "1"), ("b", ""), ("a", "2")].map(|(key, value)| (key.to_owned(), Bytes::from(value)));
    store.set_many(bucket, pairs.into()).await?;
    let keys = ["b", "missing", "a", "b"].map(str::to_owned);
    let found = store.get_many(bucket, &keys).await?;
    assert_eq!(found, [Some(Bytes::new()), None, Some(Bytes::from("2")), Some(Bytes::new())]);
    store.delete_many(bucket, &keys).await?;
    assert!(store.list(bucket, 0).await?.keys.is_empty());
    assert!(store.get_many(bucket, &[]).await?.is_empty());
    Ok(())
}

/// 32 tasks that count to 1000 together count to 32 000.
async fn crowd(store: &Arc<dyn Store>, bucket: &Bucket) {
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (store, bucket) = (Arc::clone(store), bucket.clone());
            task::spawn("count", async move {
                for _ in 0..1000 {
                    Arc::clone(&store).increment(&bucket, "total", 1).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().expect("a task that counts does not panic");
    }
    assert_eq!(Arc::clone(store).increment(bucket, "total", 0).await, Ok(32_000));
}
