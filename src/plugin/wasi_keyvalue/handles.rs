//! What a backend has opened, by name: opened once, whoever asks meanwhile waits for it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// Kept at once: guests choose the names. Past it all are opened again at their next use.
const OPEN_MAX: usize = 1024;

/// The handles of one session of a connection: with the next one they are opened again.
#[derive(Debug)]
pub(super) struct Handles<H>(Mutex<Open<H>>);

#[derive(Debug)]
struct Open<H> {
    session: u64,
    by_name: HashMap<Arc<str>, Arc<OnceCell<Arc<H>>>>,
}

impl<H> Default for Handles<H> {
    fn default() -> Self {
        Self(Mutex::new(Open { session: 0, by_name: HashMap::new() }))
    }
}

impl<H> Handles<H> {
    /// The handle called `name`; `open` is asked for it if there is none. A failure is not kept.
    pub(super) async fn get<E, F: Future<Output = Result<H, E>>>(
        &self,
        name: &Arc<str>,
        session: u64,
        open: impl FnOnce() -> F,
    ) -> Result<Arc<H>, E> {
        let cell = {
            let mut handles = self.lock();
            if handles.session != session || handles.by_name.len() >= OPEN_MAX {
                handles.by_name.clear();
                handles.session = session;
            }
            Arc::clone(handles.by_name.entry(Arc::clone(name)).or_default())
        };
        cell.get_or_try_init(|| async { open().await.map(Arc::new) }).await.map(Arc::clone)
    }

    /// It is of no use any more; another one of that name stays.
    pub(super) fn forget(&self, name: &Arc<str>, handle: &Arc<H>) {
        let mut handles = self.lock();
        let is_same = |cell: &Arc<OnceCell<Arc<H>>>| cell.get().is_some_and(|open| Arc::ptr_eq(open, handle));
        if handles.by_name.get(name).is_some_and(is_same) {
            handles.by_name.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open<H>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_handle_is_opened_once_until_it_is_forgotten_or_the_session_ends() {
        let handles = Handles::<u32>::default();
        let opened = AtomicU32::new(0);
        let open = || async {
            tokio::task::yield_now().await;
            Ok::<_, ()>(opened.fetch_add(1, Ordering::SeqCst))
        };
        let name: Arc<str> = Arc::from("a");
        let (one, two) = tokio::join!(handles.get(&name, 1, open), handles.get(&name, 1, open));
        assert_eq!((*one.unwrap(), *two.unwrap()), (0, 0));

        let first = handles.get(&name, 1, open).await.unwrap();
        handles.forget(&name, &first);
        let second = handles.get(&name, 1, open).await.unwrap();
        handles.forget(&name, &first);
        assert!(Arc::ptr_eq(&second, &handles.get(&name, 1, open).await.unwrap()), "the other one stays");
        assert_eq!(*handles.get(&name, 2, open).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let handles = Handles::<u32>::default();
        let name: Arc<str> = Arc::from("a");
        assert_eq!(handles.get(&name, 1, || async { Err("down") }).await.unwrap_err(), "down");
        assert_eq!(*handles.get(&name, 1, || async { Ok::<_, &str>(1) }).await.unwrap(), 1);
    }
}
