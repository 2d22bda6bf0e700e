//! The live configuration: notices that the file changed, and applies it whole or not at all.
//!
//! ```text
//!  directories, SIGHUP, poll --hint--> +----------+   read, load, diff, guard, prepare    +---------+
//!  Reloader::trigger ------request---> | one      | ------ dropped: nothing happened ---> | outcome |
//!  a passing failure -------retry----> | attempt  | --> commit (no await) --> retire ---> +---------+
//!                                      +----------+      `live` moves last     behind
//! ```
//!
//! One task owns the live `Config` and its [`Generation`](crate::types::Generation) and makes one attempt at a time,
//! on the control thread; a second one only turns directory events, SIGHUP and the clock into hints. Hints say "look
//! again" and nothing about contents: the hash of the inputs decides. Starting is attempt 1, from the empty
//! configuration. Absent on purpose: this room names no other room of the host; what is reloaded are `Section`s.

mod attempt;
mod generations;
mod hints;
mod inbox;
mod notes;
mod outcome;
mod plan;
mod prepare;
mod pulse;
mod retire;
mod said;
mod section;
mod settled;
mod source;
mod status;
mod task;
mod trigger;

#[cfg(test)]
mod tests;

pub(crate) use outcome::{Fault, Outcome, Reason, Rejection, ReloadOutcome, Trigger};
pub(crate) use plan::{Change, Pending, Plan, guard};
pub(crate) use said::Said;
pub(crate) use section::{Leftovers, NothingRetired, Prepare, PrepareError, Prepared, Retired, Section};
pub(crate) use settled::SettledFiles;
pub(crate) use source::{ConfigSource, Hashes, Loaded};
pub(crate) use status::ReloadStatus;
pub(crate) use task::ReloaderTask;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::reload::generations::GenerationHandle;
use crate::reload::inbox::{REQUESTS_MAX, ReloadRequest};
use crate::reload::pulse::Pulse;
use crate::task::Shutdown;
use crate::types::Generation;

/// What is live: published as one value, after everything else of a commit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    /// The effective configuration.
    pub(crate) config: Arc<Config>,
    /// Its number; 0 before the first one is applied.
    pub(crate) generation: Generation,
    /// The text that says it.
    pub(crate) said: Arc<Said>,
    /// Counted for as long as it, or an old part of it that drains, is held; `None` before the first one.
    handle: Option<Arc<GenerationHandle>>,
}

/// What a reloader is made of. `D` is the draft: what sections prepare for later ones to build on, made anew for each
/// attempt and dropped after its commit, or instead of it.
pub(crate) struct ReloaderParts<D> {
    /// Where configurations come from.
    pub(crate) source: Box<dyn ConfigSource>,
    /// In the order of prepare and commit.
    pub(crate) sections: Vec<Box<dyn Section<D>>>,
    /// Spreads the polls of a fleet: the host id.
    pub(crate) poll_seed: String,
    /// Ends the task; an attempt under way is dropped unless it commits.
    pub(crate) shutdown: Shutdown,
}

/// The handle; cheap to clone. The task ends when the last one is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Reloader {
    requests_tx: mpsc::Sender<ReloadRequest>,
    live_rx: watch::Receiver<Live>,
    status_rx: watch::Receiver<ReloadStatus>,
    pulse: Pulse,
}

/// Why a request got no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TriggerError {
    /// Too many ask at once.
    #[error("too many reload requests wait already: ask again later")]
    Busy,
    /// The host is stopping.
    #[error("the reload task has ended")]
    TaskGone,
}

impl Reloader {
    /// The handle, and the task for the caller to spawn: its first act is the start.
    pub(crate) fn new<D: Default + Send + 'static>(parts: ReloaderParts<D>) -> (Self, ReloaderTask<D>) {
        let (requests_tx, requests_rx) = mpsc::channel(REQUESTS_MAX);
        let (live_tx, live_rx) = watch::channel(Live::default());
        let (status_tx, status_rx) = watch::channel(ReloadStatus::default());
        let hints_tx = requests_tx.downgrade();
        let pulse = Pulse::new();
        let task = ReloaderTask::new(parts, (requests_rx, hints_tx), live_tx, status_tx, pulse.clone());
        (Self { requests_tx, live_rx, status_rx, pulse }, task)
    }

    /// The outcome of the start. Unless it is `Applied` the task has ended and the process should.
    pub(crate) async fn first(&self) -> Result<Arc<ReloadOutcome>, TriggerError> {
        let mut status_rx = self.status_rx.clone();
        let status = status_rx.wait_for(|status| !status.attempts.is_empty()).await;
        let status = status.map_err(|_closed| TriggerError::TaskGone)?;
        status.attempts.front().map(Arc::clone).ok_or(TriggerError::TaskGone)
    }

    /// Makes an attempt that reads after this call, and waits for its end. Those who ask meanwhile share one.
    pub(crate) async fn trigger(&self, trigger: Trigger) -> Result<Arc<ReloadOutcome>, TriggerError> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let request = ReloadRequest { trigger, answer_tx: Some(answer_tx) };
        self.requests_tx.try_send(request).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => TriggerError::Busy,
            mpsc::error::TrySendError::Closed(_) => TriggerError::TaskGone,
        })?;
        answer_rx.await.map_err(|_closed| TriggerError::TaskGone)?
    }

    /// Whether the task still takes requests, and was heard of when it had said it would be.
    pub(crate) fn is_alive(&self) -> bool {
        !self.requests_tx.is_closed() && self.pulse.is_beating()
    }

    /// As if so much time had gone by since the task was heard of.
    #[cfg(test)]
    pub(crate) fn age(&self, by: std::time::Duration) {
        self.pulse.age(by);
    }

    /// What is live. Wait for a value (`generation >= n`), not for a change.
    pub(crate) fn live(&self) -> watch::Receiver<Live> {
        self.live_rx.clone()
    }

    /// What became of the last attempts.
    pub(crate) fn status(&self) -> watch::Receiver<ReloadStatus> {
        self.status_rx.clone()
    }
}

impl<D> std::fmt::Debug for ReloaderParts<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sections: Vec<_> = self.sections.iter().map(|section| section.name()).collect();
        f.debug_struct("ReloaderParts").field("sections", &sections).finish_non_exhaustive()
    }
}
