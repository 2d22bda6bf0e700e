//! Whether the reload task can still be heard of: it promises when it will be, and a promise that is over was broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::millis;

/// Between two promises of a task that waits for something to do.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// For what is done at once, on a machine that is very busy.
const SLACK: Duration = Duration::from_secs(30);

/// The task's promise, shared with whoever watches it.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    since: Instant,
    until_ms: Arc<AtomicU64>,
}

impl Pulse {
    /// The first promise: to begin.
    pub(super) fn new() -> Self {
        let pulse = Self { since: Instant::now(), until_ms: Arc::default() };
        pulse.promise(Duration::ZERO);
        pulse
    }

    /// The next one will be made within `limit`, give or take some slack.
    pub(super) fn promise(&self, limit: Duration) {
        let until = self.since.elapsed().saturating_add(limit).saturating_add(SLACK);
        self.until_ms.store(millis(until), Ordering::Relaxed);
    }

    /// As if so much time had gone by since the last promise.
    #[cfg(test)]
    pub(super) fn age(&self, by: Duration) {
        let until = self.until_ms.load(Ordering::Relaxed);
        self.until_ms.store(until.saturating_sub(millis(by)), Ordering::Relaxed);
    }

    /// Whether the last promise still holds.
    pub(super) fn is_beating(&self) -> bool {
        millis(self.since.elapsed()) < self.until_ms.load(Ordering::Relaxed)
    }
}
