//! What the reload task knows, published whole after each change of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::reload::generations::Generations;
use crate::reload::outcome::{Outcome, Reason, ReloadOutcome, Trigger};
use crate::reload::plan::Pending;
use crate::telemetry::metrics::Histogram;

/// How many attempts are remembered: as many as a person would scroll through.
const ATTEMPTS_MAX: usize = 20;

/// How changes are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum WatchMode {
    /// Only by SIGHUP, requests and the slow poll.
    #[default]
    Off,
    /// By events of the watched directories.
    Inotify,
    /// By comparing files every two seconds, because events cannot be had.
    Poll,
}

impl WatchMode {
    /// As in metrics and status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Inotify => "inotify",
            Self::Poll => "poll",
        }
    }
}

/// The parts that one attempt replaced.
#[derive(Debug, Default)]
pub(crate) struct Retirement {
    parts: AtomicUsize,
    left: AtomicUsize,
    forced: AtomicUsize,
}

impl Retirement {
    pub(super) fn begin_part(&self) {
        self.parts.fetch_add(1, Ordering::Relaxed);
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_part(&self) {
        self.left.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn force(&self, forced: usize) {
        self.forced.fetch_add(forced, Ordering::Relaxed);
    }

    /// `none`, `draining` or `done`.
    pub(crate) fn state(&self) -> &'static str {
        match (self.parts.load(Ordering::Relaxed), self.left.load(Ordering::Relaxed)) {
            (0, _) => "none",
            (_, 0) => "done",
            (_, _) => "draining",
        }
    }

    /// Calls, connections or tasks that were cut at the deadline.
    pub(crate) fn forced(&self) -> usize {
        self.forced.load(Ordering::Relaxed)
    }
}

/// What the reload task knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReloadStatus {
    /// The last attempts, oldest first.
    pub(crate) attempts: VecDeque<Arc<ReloadOutcome>>,
    /// Keys that wait for a restart.
    pub(crate) restart_pending: Vec<Pending>,
    /// Looks that found the input of the last attempt, by what made them.
    pub(crate) checks: BTreeMap<Trigger, u64>,
    /// Attempts so far, by why and how they ended.
    pub(crate) totals: BTreeMap<(Trigger, Outcome, Option<Reason>), u64>,
    /// How long the steps of attempts took, by step.
    pub(crate) phases: BTreeMap<&'static str, Histogram>,
    /// Old parts that still drain.
    pub(crate) retiring: usize,
    /// Old parts' calls and connections that were cut at the deadline, over all attempts, by section.
    pub(crate) forced: BTreeMap<&'static str, usize>,
    /// Generations that are held.
    pub(crate) generations: Generations,
    /// How changes are noticed.
    pub(crate) watch_mode: WatchMode,
    /// Attempts that were worth telling a service manager when they began: somebody asked, or there was new input.
    pub(crate) begun: u64,
    /// Whether such an attempt is under way.
    pub(crate) is_under_way: bool,
}

impl ReloadStatus {
    /// Whether what is live is what the last attempt read.
    pub(crate) fn last_ok(&self) -> bool {
        self.attempts.back().is_some_and(|last| match last.outcome {
            Outcome::Applied | Outcome::Unchanged => true,
            Outcome::Rejected | Outcome::Superseded | Outcome::Accepted => false,
        })
    }

    /// Remembers `outcome` and forgets the oldest.
    pub(super) fn push(&mut self, outcome: Arc<ReloadOutcome>) {
        let reason = outcome.rejection.as_ref().map(|rejection| rejection.reason);
        *self.totals.entry((outcome.trigger, outcome.outcome, reason)).or_default() += 1;
        for (phase, took) in &outcome.phases {
            self.phases.entry(phase).or_default().observe(*took);
        }
        if self.attempts.len() == ATTEMPTS_MAX {
            self.attempts.pop_front();
        }
        self.attempts.push_back(outcome);
    }
}
