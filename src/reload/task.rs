//! The one task that makes attempts: waits for a reason, makes one, answers, and keeps the history.
//!
//! In: requests and hints (bounded; held by `Reloader` handles and the hints task) and the retry timer. Out: `live`
//! and `status` on watches, an outcome to everyone who asked. It ends at shutdown, with the last handle, or after a
//! start that failed. A panic is logged, and the task goes on with the generation that runs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

use crate::reload::attempt::Pipeline;
use crate::reload::hints::{HintsTask, hangup};
use crate::reload::inbox::{Answer, Inbox, ReloadRequest, send};
use crate::reload::outcome::{Outcome, ReloadOutcome, Trigger};
use crate::reload::pulse::{BEAT, Pulse};
use crate::reload::status::ReloadStatus;
use crate::reload::{Live, ReloaderParts};
use crate::task::{Backoff, Shutdown, panic_text, spawn};

/// First pause before an attempt that failed for a passing reason is made again.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest pause between two such attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Spawned once by the owner of the [`Reloader`](crate::reload::Reloader).
pub(crate) struct ReloaderTask<D> {
    pipeline: Pipeline<D>,
    inbox: Inbox,
    hints: Option<HintsTask>,
    status_tx: watch::Sender<ReloadStatus>,
    retry: Backoff,
    retry_at: Option<Instant>,
    shutdown: Shutdown,
    pulse: Pulse,
    attempts: u64,
    /// Those who wait for the attempt under way; they outlive a panic.
    asking: Vec<Answer>,
}

impl<D: Default + Send + 'static> ReloaderTask<D> {
    pub(super) fn new(
        parts: ReloaderParts<D>,
        (requests_rx, hints_tx): (mpsc::Receiver<ReloadRequest>, mpsc::WeakSender<ReloadRequest>),
        live_tx: watch::Sender<Live>,
        status_tx: watch::Sender<ReloadStatus>,
        pulse: Pulse,
    ) -> Self {
        let ReloaderParts { source, sections, poll_seed, shutdown } = parts;
        let (watched_tx, hints) = HintsTask::new(hints_tx, source.writers(), poll_seed, status_tx.clone());
        // Each kind is counted from zero, and not from its first time.
        status_tx.send_modify(|status| status.forced.extend(sections.iter().map(|section| (section.name(), 0))));
        let ends = (shutdown.clone(), pulse.clone());
        let pipeline = Pipeline::new(source, sections, live_tx, status_tx.clone(), watched_tx, ends);
        Self {
            pipeline,
            inbox: Inbox::new(requests_rx),
            hints: Some(hints),
            status_tx,
            retry: Backoff::new(RETRY_FIRST, RETRY_MAX),
            retry_at: None,
            shutdown,
            pulse,
            attempts: 0,
            asking: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn without_inotify(mut self) -> Self {
        if let Some(hints) = &mut self.hints {
            hints.tries_inotify = false;
        }
        self
    }

    /// Starts the host, and if that succeeds reloads it until shutdown.
    pub(crate) async fn run(mut self) {
        // Taken before the first attempt: from now on SIGHUP is a hint and does not end the process.
        let hints = self.hints.take().map(|hints| AbortOnDropHandle::new(spawn("reload hints", hints.run(hangup()))));
        match AssertUnwindSafe(self.attempt(Trigger::Start)).catch_unwind().await {
            Ok(Some(Outcome::Applied)) => {}
            Ok(_) => return,
            Err(panic) => return error!(panic = panic_text(&*panic), "the reload task panicked at the start"),
        }
        let mut pause = Backoff::new(RETRY_FIRST, RETRY_MAX);
        while let Err(panic) = AssertUnwindSafe(self.serve()).catch_unwind().await {
            error!(panic = panic_text(&*panic), "the reload task panicked and starts again; the configuration runs on");
            self.status_tx.send_modify(|status| {
                status.restarts += 1;
                status.is_under_way = false;
            });
            // Nobody knows how far it came: it is tried again, for those who wait as well.
            let asking = std::mem::take(&mut self.asking);
            self.inbox.put_back(Trigger::Retry, asking);
            tokio::select! {
                () = self.shutdown.wait() => {}
                () = tokio::time::sleep(pause.pause()) => {}
            }
        }
        drop(hints);
    }

    async fn serve(&mut self) {
        while let Some((trigger, answers)) = self.next().await {
            if trigger == Trigger::Check {
                self.check(answers).await;
                continue;
            }
            self.asking = answers;
            match self.attempt(trigger).await {
                // Latest wins: they want what comes of the newest input.
                Some(Outcome::Superseded) if !self.shutdown.is_triggered() => {
                    let asking = std::mem::take(&mut self.asking);
                    self.inbox.put_back(trigger, asking);
                }
                Some(_) => self.answer(),
                // Only hints without anybody waiting end as a silent check.
                None => {}
            }
        }
    }

    /// Waits until there is a reason to look again.
    async fn next(&mut self) -> Option<(Trigger, Vec<Answer>)> {
        loop {
            if self.shutdown.is_triggered() {
                return None;
            }
            if let Some(next) = self.inbox.take() {
                return Some(next);
            }
            self.pulse.promise(BEAT);
            // Each arm may be dropped: the inbox keeps what it received, the others hold nothing.
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return None,
                more = self.inbox.receive() => if !more { return None },
                () = sleep_until(self.retry_at) => {
                    self.retry_at = None;
                    return Some((Trigger::Retry, Vec::new()));
                }
                () = tokio::time::sleep(BEAT) => {}
            }
        }
    }

    async fn attempt(&mut self, trigger: Trigger) -> Option<Outcome> {
        let Some(report) = self.pipeline.attempt(trigger, &mut self.inbox).await else {
            self.status_tx.send_modify(|status| {
                *status.checks.entry(trigger).or_default() += 1;
                status.is_under_way = false;
            });
            return None;
        };
        self.attempts += 1;
        let outcome = Arc::new(ReloadOutcome { n: self.attempts, ..report });
        self.schedule_retry(&outcome);
        self.status_tx.send_modify(|status| {
            status.restart_pending.clone_from(self.pipeline.restart_pending());
            status.push(Arc::clone(&outcome));
            status.is_under_way = false;
        });
        // Last: who reads it in the log finds it in the status.
        outcome.log();
        Some(outcome.outcome)
    }

    /// Prepares what the inputs say, drops it, and tells those who asked; not counted among the attempts.
    async fn check(&mut self, answers: Vec<Answer>) {
        let Some(outcome) = self.pipeline.attempt(Trigger::Check, &mut self.inbox).await else { return };
        if outcome.outcome == Outcome::Superseded && !self.shutdown.is_triggered() {
            self.inbox.put_back_checks(answers);
            return;
        }
        let outcome = Arc::new(outcome);
        for answer_tx in answers {
            send(answer_tx, Ok(Arc::clone(&outcome)));
        }
    }

    fn schedule_retry(&mut self, outcome: &ReloadOutcome) {
        let is_passing = outcome.rejection.as_ref().is_some_and(|rejection| rejection.passing);
        if !is_passing || outcome.input_is_new {
            self.retry.reset();
        }
        self.retry_at = is_passing.then(|| Instant::now() + self.retry.pause());
    }

    fn answer(&mut self) {
        let last = self.status_tx.borrow().attempts.back().map(Arc::clone);
        for answer_tx in std::mem::take(&mut self.asking) {
            send(answer_tx, last.clone().ok_or(crate::reload::TriggerError::TaskGone));
        }
    }
}

impl<D> std::fmt::Debug for ReloaderTask<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReloaderTask").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
