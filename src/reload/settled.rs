//! Reads files until they have settled: the waiting that `config::files` leaves to its caller.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use crate::config::files::{Files, ReadFailure, Settle, Snapshot, Urgency, Verdict, Writers};
use crate::task;

/// What a `ConfigSource` over files reads through. May be dropped half way: the next read starts over.
#[derive(Debug)]
pub(crate) struct SettledFiles {
    files: Arc<Files>,
    previous: Option<Snapshot>,
}

impl SettledFiles {
    /// Nothing is read yet.
    pub(crate) fn new(files: Files) -> Self {
        Self { files: Arc::new(files), previous: None }
    }

    /// Where to tell who writes.
    pub(crate) fn writers(&self) -> Writers {
        self.files.writers().clone()
    }

    /// A set of files that belong together and hold still.
    pub(crate) async fn read(&mut self, urgency: Urgency) -> Result<Snapshot, ReadFailure> {
        let begun = Instant::now();
        let mut settle = Settle::new(urgency, self.files.path(), self.previous.clone());
        loop {
            let files = Arc::clone(&self.files);
            let Some(seen) = task::blocking("read configuration", move || files.read_once()).await else {
                let path = self.files.path().map(ToOwned::to_owned).unwrap_or_default();
                return Err(ReadFailure::Unreadable { path, cause: "reading panicked, which is a bug".to_owned() });
            };
            match settle.observe(seen, begun.elapsed()) {
                Verdict::Settled(Ok(snapshot)) => {
                    self.previous = Some(snapshot.clone());
                    return Ok(snapshot);
                }
                Verdict::Settled(Err(failure)) => return Err(failure),
                Verdict::Again(pause) => sleep(pause).await,
            }
        }
    }
}
