//! One piece of work for all who want its result at the same time.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use crate::task;

type Outcome<V> = Shared<BoxFuture<'static, Option<V>>>;

/// The work under way, by key. Work runs as a task of its own: a waiter that is dropped does not end it.
pub(super) struct Flights<K, V> {
    name: &'static str,
    under_way: Arc<Mutex<HashMap<K, Outcome<V>>>>,
}

/// Whether a caller's own work ran or somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The work was this caller's.
    Led,
    /// It had begun before.
    Joined,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// `name` is that of the tasks.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, under_way: Arc::default() }
    }

    /// Joins the work for `key`, or begins `work`. `None`: it panicked, or the runtime is going down.
    pub(super) async fn run<F>(&self, key: K, work: impl FnOnce() -> F + Send) -> (Option<V>, Role)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (result, role) = self.join(key, work);
        (result.await, role)
    }

    fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> (Outcome<V>, Role)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (value_tx, value) = oneshot::channel();
        let result = {
            let mut under_way = lock(&self.under_way);
            if let Some(result) = under_way.get(&key) {
                return (result.clone(), Role::Joined);
            }
            let result = value.map(Result::ok).boxed().shared();
            under_way.insert(key.clone(), result.clone());
            result
        };
        // Listed before it begins, and begun without the lock: a runtime that is going down drops the work, and with
        // it `unlist`, inside of `spawn`.
        let unlist = Unlist { key, under_way: Arc::clone(&self.under_way) };
        let work = work();
        drop(task::spawn(self.name, async move {
            let value = work.await;
            drop(unlist);
            // Nobody waits any more: the work was for the cache.
            drop(value_tx.send(value));
        }));
        (result, Role::Led)
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Takes work off the list when it ends, well or not.
struct Unlist<K: Eq + Hash, V> {
    key: K,
    under_way: Arc<Mutex<HashMap<K, Outcome<V>>>>,
}

impl<K: Eq + Hash, V> Drop for Unlist<K, V> {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.key);
    }
}

/// A panic while the lock was held leaves a map that is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn many_callers_share_one_run_and_the_next_call_runs_again() {
        let flights = Flights::<&str, usize>::new("test");
        let runs = Arc::new(AtomicUsize::new(0));
        let work = || {
            let runs = Arc::clone(&runs);
            async move {
                tokio::task::yield_now().await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let calls = (0..20).map(|_| flights.run("key", work));
        let results = futures::future::join_all(calls).await;
        assert!(results.iter().all(|(result, _)| *result == Some(1)));
        assert_eq!(results.iter().filter(|(_, role)| *role == Role::Led).count(), 1);
        assert_eq!(flights.run("key", work).await, (Some(2), Role::Led));
    }

    #[tokio::test]
    async fn a_dropped_waiter_does_not_end_the_work() {
        let flights = Flights::<&str, u32>::new("test");
        let (go_tx, go_rx) = oneshot::channel::<u32>();
        let first = flights.join("key", || async { go_rx.await.unwrap() }).0;
        drop(first);
        let (second, role) = flights.join("key", || async { 0 });
        assert_eq!(role, Role::Joined);
        go_tx.send(5).unwrap();
        assert_eq!(second.await, Some(5));
    }

    #[test]
    fn a_runtime_that_goes_down_gives_no_result_and_lists_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let flights = Flights::<&str, u32>::new("test");
        let _entered = handle.enter();
        let (result, role) = flights.join("key", || async { 1 });
        assert_eq!((futures::executor::block_on(result), role), (None, Role::Led));
        assert!(lock(&flights.under_way).is_empty());
    }

    #[tokio::test]
    async fn work_that_panics_is_forgotten() {
        let flights = Flights::<&str, u32>::new("test");
        assert_eq!(flights.run("key", || async { panic!("boom") }).await.0, None);
        assert_eq!(flights.run("key", || async { 1 }).await, (Some(1), Role::Led));
    }
}
