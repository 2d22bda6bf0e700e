//! Who writes at the moment: the files that were written to and not closed, as far as a watcher of directories tells.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names that are remembered: every file of a directory that somebody else fills would be one. Whoever is beyond it
/// counts as closed, as everyone did who is not watched.
const PATHS_MAX: usize = 1024;

/// Shared by the watcher, which tells, and by [`Files`](super::Files), which asks. Without a watcher every file counts
/// as closed.
#[derive(Debug, Clone, Default)]
pub struct Writers {
    state: Arc<Mutex<State>>,
    watcher: Arc<Mutex<CatchUp>>,
}

/// Returns when the watcher has told everything that happened before the call.
type Fence = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone, Default)]
struct CatchUp(Option<Fence>);

impl fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CatchUp").field(&self.0.is_some()).finish()
    }
}

#[derive(Debug, Default)]
struct State {
    open: BTreeSet<PathBuf>,
    is_blind: bool,
}

/// What is known of the writers of a set of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writing {
    /// Nobody writes, or nobody would know.
    #[default]
    Over,
    /// One of them was written to and not closed since.
    UnderWay,
    /// Changes are noticed, writers are not.
    Unknown,
}

impl Writers {
    /// `path` was written to; its links are resolved.
    pub fn begun(&self, path: &Path) {
        let mut state = self.state();
        if state.open.len() < PATHS_MAX && !state.open.contains(path) {
            state.open.insert(path.to_owned());
        }
    }

    /// `path` was closed, or is another file now.
    pub fn ended(&self, path: &Path) {
        self.state().open.remove(path);
    }

    /// Events were lost, or are no longer seen: what is known is worth nothing. `is_blind`: changes will be noticed
    /// and closing will not.
    pub fn forget(&self, is_blind: bool) {
        *self.state() = State { open: BTreeSet::new(), is_blind };
    }

    /// Closing will be noticed from now on. `catch_up` returns when everything that happened before it has been told:
    /// a watcher on a busy machine may be late, and a cut-off file would look settled.
    pub fn watched_by(&self, catch_up: impl Fn() + Send + Sync + 'static) {
        self.state().is_blind = false;
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = CatchUp(Some(Arc::new(catch_up)));
    }

    /// Blocks until the watcher has caught up.
    pub(super) fn of<'a>(&self, mut paths: impl Iterator<Item = &'a Path>) -> Writing {
        let CatchUp(catch_up) = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(catch_up) = catch_up {
            catch_up();
        }
        let state = self.state();
        if state.is_blind {
            return Writing::Unknown;
        }
        if paths.any(|path| state.open.contains(path)) { Writing::UnderWay } else { Writing::Over }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
