//! Lets replaced parts end behind an attempt: the next one does not wait for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::reload::generations::GenerationHandle;
use crate::reload::section::{Leftovers, Retired};
use crate::reload::status::{ReloadStatus, Retirement};
use crate::task::spawn;

/// What retired parts get beyond their deadline to cut what is left, before they are dropped.
const RETIRE_GRACE: Duration = Duration::from_secs(1);

/// What each part of one attempt is counted in.
pub(super) struct Retiring {
    pub(super) status_tx: watch::Sender<ReloadStatus>,
    pub(super) retirement: Arc<Retirement>,
    /// Of the generation that the parts belonged to.
    pub(super) handle: Option<Arc<GenerationHandle>>,
}

impl Retiring {
    pub(super) fn begin(&self, parts: Vec<(&'static str, Box<dyn Retired>)>, deadline: Instant) {
        for (section, part) in parts {
            let counted = Counted::new(self);
            // Nobody waits for it: it ends by its deadline, and the status counts it.
            drop(spawn("retire", async move {
                let left = timeout_at(deadline + RETIRE_GRACE, part.retire(deadline)).await;
                let overran = left.is_err();
                let Leftovers { forced } = left.unwrap_or(Leftovers { forced: 1 });
                if forced > 0 {
                    warn!(section, forced, overran, "work in flight of a replaced part was cut at its deadline");
                    counted.force(section, forced);
                }
            }));
        }
    }
}

/// Counts a part that retires, however it ends.
struct Counted {
    status_tx: watch::Sender<ReloadStatus>,
    retirement: Arc<Retirement>,
    /// Dropped before the status is told, which then tells one less.
    handle: Option<Arc<GenerationHandle>>,
}

impl Counted {
    fn new(Retiring { status_tx, retirement, handle }: &Retiring) -> Self {
        retirement.begin_part();
        status_tx.send_modify(|status| status.retiring += 1);
        Self { status_tx: status_tx.clone(), retirement: Arc::clone(retirement), handle: handle.clone() }
    }

    fn force(&self, section: &'static str, forced: usize) {
        self.retirement.force(forced);
        self.status_tx.send_modify(|status| {
            let total = status.forced.entry(section).or_default();
            *total = total.saturating_add(forced);
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.retirement.end_part();
        drop(self.handle.take());
        self.status_tx.send_modify(|status| status.retiring = status.retiring.saturating_sub(1));
    }
}
