//! Increments of one key put together: one group at a time is at the server, and whoever comes meanwhile is in the next.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::backend::StoreError;
use crate::task;

/// Callers that wait for one key. Each is a guest that waits, so that more of them is a host far over its limits.
const WAITING_MAX: usize = 65_536;

/// A key in a bucket.
pub(super) type CounterKey = (Arc<str>, String);

/// Adds to a counter, and yields what it was before.
pub(super) type Add = Arc<dyn Fn(u64) -> BoxFuture<'static, Result<u64, StoreError>> + Send + Sync>;

/// The increments under way.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// A key is here as long as a task works on it.
    waiting: Mutex<HashMap<CounterKey, Vec<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    delta: u64,
    answer: oneshot::Sender<Result<u64, StoreError>>,
}

/// Lets the key go, however its task ends: who waits then is told so by the end of the channel.
struct Working {
    counters: Arc<Counters>,
    key: CounterKey,
}

impl Counters {
    /// Adds `delta` together with whoever else adds to the key, and returns the new value.
    pub(super) async fn add(self: &Arc<Self>, key: CounterKey, delta: u64, add: Add) -> Result<u64, StoreError> {
        let (answer, answered) = oneshot::channel();
        let is_first = self.join(&key, Waiting { delta, answer })?;
        if is_first {
            let working = Working { counters: Arc::clone(self), key };
            drop(task::spawn("increment", working.run(add)));
        }
        let ended = |_gone| Err(StoreError::Other("the increment was given up".to_owned()));
        answered.await.unwrap_or_else(ended)
    }

    /// Whether nobody works on the key yet.
    fn join(&self, key: &CounterKey, waiting: Waiting) -> Result<bool, StoreError> {
        match self.lock().entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(vec![waiting]);
                Ok(true)
            }
            Entry::Occupied(occupied) if occupied.get().len() >= WAITING_MAX => {
                Err(StoreError::Other("too many increments of this key are under way".to_owned()))
            }
            Entry::Occupied(mut occupied) => {
                occupied.get_mut().push(waiting);
                Ok(false)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CounterKey, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next group; none means that the key is let go.
    fn next(&self, key: &CounterKey) -> Option<Vec<Waiting>> {
        let mut waiting = self.lock();
        let group = waiting.get_mut(key).map(std::mem::take).filter(|group| !group.is_empty());
        if group.is_none() {
            waiting.remove(key);
        }
        group
    }
}

impl Working {
    async fn run(self, add: Add) {
        while let Some(mut group) = self.counters.next(&self.key) {
            // Who has gone before anything was sent does not count.
            group.retain(|waiting| !waiting.answer.is_closed());
            if group.is_empty() {
                continue;
            }
            let sum = group.iter().fold(0_u64, |sum, waiting| sum.saturating_add(waiting.delta));
            let mut value = add(sum).await;
            for Waiting { delta, answer } in group {
                if let Ok(value) = &mut value {
                    *value = value.saturating_add(delta);
                }
                // Who has gone does not want to know.
                let _gone = answer.send(value.clone());
            }
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.counters.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    fn key() -> CounterKey {
        (Arc::from("bucket"), "key".to_owned())
    }

    #[tokio::test]
    async fn who_comes_while_a_group_is_under_way_shares_the_next_one() {
        let counters = Arc::new(Counters::default());
        let (total, rounds) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (begun, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let add: Add = {
            let (total, rounds, gate) = (Arc::clone(&total), Arc::clone(&rounds), Arc::clone(&gate));
            let begun = Arc::clone(&begun);
            Arc::new(move |sum| {
                let (total, rounds, gate) = (Arc::clone(&total), Arc::clone(&rounds), Arc::clone(&gate));
                begun.fetch_add(1, Ordering::SeqCst);
                Box::pin(async move {
                    gate.acquire().await.unwrap().forget();
                    rounds.fetch_add(1, Ordering::SeqCst);
                    Ok(total.fetch_add(sum, Ordering::SeqCst))
                })
            })
        };
        let call = || {
            let (counters, add) = (Arc::clone(&counters), Arc::clone(&add));
            task::spawn("caller", async move { counters.add(key(), 1, add).await })
        };
        let mut callers = vec![call()];
        while begun.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        callers.extend((0..99).map(|_| call()));
        while counters.lock().values().map(Vec::len).sum::<usize>() < 99 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        let mut values = Vec::new();
        for caller in callers {
            values.push(caller.await.unwrap().unwrap().unwrap());
        }
        values.sort_unstable();
        assert_eq!(values, (1..=100).collect::<Vec<u64>>(), "each its own value");
        assert_eq!(rounds.load(Ordering::SeqCst), 2);
        assert!(counters.lock().is_empty());
    }

    #[tokio::test]
    async fn a_failure_is_that_of_its_group_only() {
        let counters = Arc::new(Counters::default());
        let fail: Add = Arc::new(|_| Box::pin(async { Err(StoreError::AccessDenied) }));
        assert_eq!(counters.add(key(), 1, fail).await, Err(StoreError::AccessDenied));
        let full: Add = Arc::new(|_| Box::pin(async { Ok(u64::MAX - 1) }));
        assert_eq!(counters.add(key(), 5, full).await, Ok(u64::MAX), "saturates");
        let panics: Add = Arc::new(|_| Box::pin(async { panic!("a bug") }));
        assert!(matches!(counters.add(key(), 1, panics).await, Err(StoreError::Other(_))));
        assert!(counters.lock().is_empty());
    }
}
