//! Hints and requests that arrived and were not served yet: however many, they are one more attempt.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::reload::TriggerError;
use crate::reload::outcome::{ReloadOutcome, Trigger};

/// Depth of the queue. The task empties it even during an attempt, so it only fills within one poll of the task; a
/// hint that finds it full is not needed, since what fills it leads to an attempt.
pub(super) const REQUESTS_MAX: usize = 32;

/// How many may wait for an outcome: a person, a rollout script and a few retries of theirs, with room to spare.
const WAITING_MAX: usize = 1024;

/// Where the outcome goes.
pub(super) type Answer = oneshot::Sender<Result<Arc<ReloadOutcome>, TriggerError>>;

/// "Look again", and perhaps somebody who waits for what comes of it.
#[derive(Debug)]
pub(crate) struct ReloadRequest {
    pub(super) trigger: Trigger,
    pub(super) answer_tx: Option<Answer>,
}

/// The task's end of the queue.
#[derive(Debug)]
pub(super) struct Inbox {
    requests_rx: mpsc::Receiver<ReloadRequest>,
    pending: Option<Trigger>,
    waiting: Vec<Answer>,
    /// Those who ask what a reload would do.
    checks: Vec<Answer>,
}

impl Inbox {
    pub(super) fn new(requests_rx: mpsc::Receiver<ReloadRequest>) -> Self {
        Self { requests_rx, pending: None, waiting: Vec::new(), checks: Vec::new() }
    }

    /// Waits for one more and remembers it; `false` if there will be none. Safe to drop: `recv` is, and what it
    /// yields is stored without a further await.
    pub(super) async fn receive(&mut self) -> bool {
        let Some(request) = self.requests_rx.recv().await else { return false };
        self.remember(request);
        true
    }

    /// Waits for something newer than what was received before, however much of it there is.
    pub(super) async fn hinted(&mut self) -> bool {
        let more = self.receive().await;
        while let Ok(request) = self.requests_rx.try_recv() {
            self.remember(request);
        }
        more
    }

    /// Remembers what arrives for as long as it is polled.
    pub(super) async fn collect(&mut self) -> Infallible {
        while self.receive().await {}
        std::future::pending().await
    }

    /// What the next attempt is for and whom it answers. Whatever comes later needs another read.
    pub(super) fn take(&mut self) -> Option<(Trigger, Vec<Answer>)> {
        while let Ok(request) = self.requests_rx.try_recv() {
            self.remember(request);
        }
        if let Some(trigger) = self.pending.take() {
            return Some((trigger, std::mem::take(&mut self.waiting)));
        }
        // A check is made of what is left to attempt, hence after the attempts.
        (!self.checks.is_empty()).then(|| (Trigger::Check, std::mem::take(&mut self.checks)))
    }

    /// Those whom a superseded attempt left without an answer wait for the next one.
    pub(super) fn put_back(&mut self, answers: Vec<Answer>) {
        self.waiting.extend(answers);
    }

    /// As [`put_back`](Self::put_back), for a check.
    pub(super) fn put_back_checks(&mut self, answers: Vec<Answer>) {
        self.checks.extend(answers);
    }

    fn remember(&mut self, request: ReloadRequest) {
        let ReloadRequest { trigger, answer_tx } = request;
        if trigger == Trigger::Check {
            if let Some(answer_tx) = answer_tx {
                wait_in(&mut self.checks, answer_tx);
            }
            return;
        }
        // The first hint names the attempt, unless a later one says more.
        if self.pending.is_none_or(|pending| trigger.rank() > pending.rank()) {
            self.pending = Some(trigger);
        }
        if let Some(answer_tx) = answer_tx {
            wait_in(&mut self.waiting, answer_tx);
        }
    }
}

fn wait_in(waiting: &mut Vec<Answer>, answer_tx: Answer) {
    if waiting.len() >= WAITING_MAX {
        waiting.retain(|answer_tx| !answer_tx.is_closed());
    }
    if waiting.len() >= WAITING_MAX {
        send(answer_tx, Err(TriggerError::Busy));
    } else {
        waiting.push(answer_tx);
    }
}

/// Answers one who may have stopped waiting, which is theirs to do.
pub(super) fn send(answer_tx: Answer, answer: Result<Arc<ReloadOutcome>, TriggerError>) {
    drop(answer_tx.send(answer));
}
