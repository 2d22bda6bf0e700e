//! Preparing section after section, and what happens to the prepared parts: all committed, or all dropped.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::{Instant, timeout_at};
use tracing::error;

use crate::error::Blame;
use crate::reload::outcome::Rejection;
use crate::reload::plan::Plan;
use crate::reload::section::{PrepareError, Prepared, Retired, Section};
use crate::task::panic_text;

/// Prepared parts in the order of their sections; dropped, the last one undoes itself first.
#[derive(Default)]
pub(super) struct Drafts(Vec<(&'static str, Box<dyn Prepared>)>);

impl Drafts {
    /// Keys of what goes live as failed.
    pub(super) fn failed(&self) -> Vec<String> {
        self.0.iter().flat_map(|(_section, part)| part.failed()).collect()
    }

    /// Makes everything live, in order and without an await. A part that panics has a bug: the others still go live,
    /// because the ones before it already are.
    pub(super) fn commit(mut self) -> Vec<(&'static str, Box<dyn Retired>)> {
        let parts = std::mem::take(&mut self.0);
        let commit = |(section, part): (&'static str, Box<dyn Prepared>)| {
            let committed = catch_unwind(AssertUnwindSafe(|| part.commit()));
            let logged = committed.inspect_err(|panic| {
                error!(section, panic = panic_text(&**panic), "a section panicked in its commit");
            });
            logged.ok().map(|retired| (section, retired))
        };
        parts.into_iter().filter_map(commit).collect()
    }
}

impl Drop for Drafts {
    fn drop(&mut self) {
        while let Some(part) = self.0.pop() {
            drop(part);
        }
    }
}

impl fmt::Debug for Drafts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(section, _part)| section)).finish()
    }
}

/// Asks every section in order, all of them within `limit`.
pub(super) async fn prepare_all<D>(
    sections: &[Box<dyn Section<D>>],
    plan: &Plan,
    draft: &mut D,
    limit: Duration,
) -> Result<Drafts, Rejection> {
    let deadline = Instant::now() + limit;
    let mut drafts = Drafts::default();
    for section in sections {
        let name = section.name();
        // The call itself may panic too, before there is a future.
        let prepare = AssertUnwindSafe(async { section.prepare(plan, draft).await }).catch_unwind();
        let prepared = match timeout_at(deadline, prepare).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(panic)) => Err(panicked(name, panic_text(&*panic))),
            Err(_elapsed) => {
                let message = format!("not ready within {}: see [reload] prepare_timeout", human(limit));
                Err(PrepareError::new(Blame::Remote, message).passing())
            }
        };
        match prepared {
            Ok(None) => {}
            Ok(Some(part)) => drafts.0.push((name, part)),
            Err(failed) => return Err(rejection(name, &failed)),
        }
    }
    Ok(drafts)
}

fn panicked(section: &'static str, panic: &str) -> PrepareError {
    error!(section, panic, "a section panicked while preparing");
    PrepareError::new(Blame::Host, "panicked while preparing: this is a bug")
}

fn rejection(section: &'static str, failed: &PrepareError) -> Rejection {
    let errors = failed.lines().into_iter().map(|line| format!("{section}: {line}").into()).collect();
    Rejection { reason: failed.reason, blame: failed.blame, passing: failed.passing, errors }
}

fn human(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}
