//! Who writes at the moment: the files that were written to and not closed, as far as a watcher of directories tells.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::snapshot::FileStat;

/// Names that are remembered: every file of a directory that somebody else fills would be one. Whoever is beyond it
/// counts as closed, as everyone did who is not watched.
const PATHS_MAX: usize = 1024;

/// A file that nobody wrote to for so long is not being written.
const YOUNG: Duration = Duration::from_secs(1);

/// The times of files tick in steps of some milliseconds, and so lag behind the clock.
const TICK: Duration = Duration::from_millis(20);

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
    /// Since when there is a watcher, if there was none before.
    watched_since: Option<SystemTime>,
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
        let mut state = self.state();
        state.open.clear();
        state.is_blind = is_blind;
    }

    /// Closing will be noticed from now on, of what is written from now on. `is_first`: nobody watched until now, or not
    /// everything. `catch_up` returns when everything that happened before it has been told:
    /// a watcher on a busy machine may be late, and a cut-off file would look settled.
    pub fn watched_by(&self, is_first: bool, catch_up: impl Fn() + Send + Sync + 'static) {
        let mut state = self.state();
        state.is_blind = false;
        if is_first {
            state.watched_since = Some(SystemTime::now());
        }
        drop(state);
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = CatchUp(Some(Arc::new(catch_up)));
    }

    /// Blocks until the watcher has caught up.
    pub(super) fn of(&self, files: &[(PathBuf, FileStat)]) -> Writing {
        let CatchUp(catch_up) = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(catch_up) = catch_up {
            catch_up();
        }
        let state = self.state();
        if files.iter().any(|(path, _stat)| state.open.contains(path)) {
            return Writing::UnderWay;
        }
        // A writer who began before the watcher was there is known by his next write; until then the file is young.
        let now = SystemTime::now();
        let was_missed = |(_path, stat): &(PathBuf, FileStat)| {
            let is_young = !stat.is_older_than(YOUNG, now);
            is_young && state.watched_since.is_some_and(|since| !stat.was_modified_after(since + TICK))
        };
        if state.is_blind || files.iter().any(was_missed) { Writing::Unknown } else { Writing::Over }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
