//! Watches directories through inotify and turns whatever happens in them into a bare "look again".
//!
//! Directories, never files: a watch on a file sees the first rename over it, and then nothing for ever.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::config::files::{FileStat, Writers};

/// A set of armed directories. It is never changed but replaced, the new one being armed before the old one goes:
/// removing one path from inotify would disarm every other path to the same directory.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    /// Ends its thread and its watches when dropped.
    watcher: Arc<Mutex<RecommendedWatcher>>,
    directories: Vec<Directory>,
    /// Whether one of them was removed or moved, or may have been while events were lost. Device and inode alone would not tell: a directory made in its place
    /// is often given the same inode.
    is_lost: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Device and inode of what is watched; `None` while there is nothing.
    id: Option<(u64, u64)>,
}

impl DirectoryWatch {
    /// Watches all that exist. `events_tx` needs a depth of 1: what finds it full is said already. Blocks.
    pub(super) fn arm(
        directories: &[PathBuf],
        events_tx: mpsc::Sender<()>,
        writers: Writers,
    ) -> Result<Self, notify::Error> {
        let is_lost = Arc::new(AtomicBool::new(false));
        let (lost, ours) = (Arc::clone(&is_lost), directories.to_vec());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Before the hint, so that who follows it finds it told.
            tell(&event, &writers);
            if event.as_ref().map_or(true, |event| event.need_rescan() || takes_away(event, &ours)) {
                lost.store(true, Ordering::Release);
            }
            if is_hint(&event) {
                // Full: a hint waits already. Closed: nobody looks any more.
                let _full_or_closed = events_tx.try_send(());
            }
        })?;
        let mut watched = BTreeSet::new();
        let mut armed = Vec::new();
        for path in directories {
            let before = id(path);
            let is_new = before.is_some_and(|id| watched.insert(id));
            if is_new && let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive) {
                match error.kind {
                    notify::ErrorKind::PathNotFound => {}
                    notify::ErrorKind::Io(ref error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    _ => return Err(error),
                }
            }
            // Replaced while it was armed: which of the two is watched is not known, so it is armed again.
            let id = before.filter(|before| id(path) == Some(*before));
            armed.push(Directory { path: path.clone(), id });
        }
        Ok(Self { watcher: Arc::new(Mutex::new(watcher)), directories: armed, is_lost })
    }

    /// Blocks until everything that happened before the call has been told.
    pub(super) fn catch_up(&self) -> impl Fn() + Send + Sync + 'static {
        let watcher = Arc::downgrade(&self.watcher);
        move || {
            let Some(watcher) = watcher.upgrade() else { return };
            let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
            // Changes nothing, and is answered by the thread that reads events: it may answer before it reads those
            // that were there when it woke up, but not before it slept again.
            for _ in 0..2 {
                let _gone = watcher.configure(notify::Config::default());
            }
        }
    }

    /// Which directories are not there. Empty: all is watched.
    pub(super) fn is_complete(&self) -> bool {
        self.directories.iter().all(|directory| directory.id.is_some())
    }

    /// Whether nothing was missing or lost since it was armed, as far as events tell.
    pub(super) fn is_whole(&self) -> bool {
        self.is_complete() && !self.is_lost.load(Ordering::Acquire)
    }

    /// Whether each path still leads to the directory that is watched. Blocks.
    pub(super) fn is_current(&self) -> bool {
        !self.is_lost.load(Ordering::Acquire)
            && self.directories.iter().all(|directory| id(&directory.path) == directory.id)
    }
}

fn id(path: &Path) -> Option<(u64, u64)> {
    FileStat::of(path).ok().map(|stat| stat.id())
}

/// Whether it is one of the watched directories itself that goes.
fn takes_away(event: &notify::Event, directories: &[PathBuf]) -> bool {
    let goes = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
    goes && event.paths.iter().any(|path| directories.contains(path))
}

/// Who writes, and who is done.
fn tell(event: &notify::Result<notify::Event>, writers: &Writers) {
    let Some(event) = event.as_ref().ok().filter(|event| !event.need_rescan()) else {
        return writers.forget(false);
    };
    let tell = match event.kind {
        EventKind::Modify(ModifyKind::Data(_)) => Writers::begun,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_)) => Writers::ended,
        _ => return,
    };
    event.paths.iter().for_each(|path| tell(writers, path));
}

/// Reading is an event too, and our own reads would never end; everything else may matter, errors and an overflown
/// queue included.
fn is_hint(event: &notify::Result<notify::Event>) -> bool {
    match event.as_ref().map(|event| event.kind) {
        Ok(EventKind::Access(AccessKind::Close(AccessMode::Write))) => true,
        Ok(EventKind::Access(_)) => false,
        Ok(_) | Err(_) => true,
    }
}
