//! What is told about an attempt, gathered on the way, and how its steps end.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use crate::error::Blame;
use crate::reload::inbox::Inbox;
use crate::reload::outcome::{Reason, Rejection};
use crate::reload::plan::{Change, Pending};
use crate::reload::status::Retirement;
use crate::task::{Shutdown, panic_text};

/// Why the steps ended before the commit.
pub(super) enum Ended {
    /// The input of the last attempt, and nobody insists.
    Nothing,
    Unchanged,
    Superseded,
    /// Only a check, and it could be prepared.
    Accepted,
    Rejected(Rejection),
}

/// What is told about an attempt, gathered on the way.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) input_is_new: bool,
    /// Not told of a check.
    pub(super) is_told: bool,
    pub(super) file_hash: Option<String>,
    pub(super) changed: Vec<Change>,
    /// Keys that would wait for a restart if this were applied.
    pub(super) restart_pending: Option<Vec<Pending>>,
    pub(super) phases: Vec<(&'static str, Duration)>,
    pub(super) retirement: Arc<Retirement>,
}

impl Notes {
    pub(super) async fn timed<F: Future>(&mut self, phase: &'static str, step: F) -> F::Output {
        let begun = Instant::now();
        let output = step.await;
        self.phases.push((phase, begun.elapsed()));
        output
    }
}

/// Waits for `step` while requests are taken in; shutdown ends it.
pub(super) async fn attended<T>(
    shutdown: &Shutdown,
    inbox: &mut Inbox,
    step: impl Future<Output = T>,
) -> Result<T, Ended> {
    tokio::select! {
        biased;
        () = shutdown.wait() => Err(Ended::Superseded),
        output = step => Ok(output),
        never = inbox.collect() => match never {},
    }
}

/// The task lives on, and so does what is live; the input is tried again.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> Rejection {
    error!(panic = panic_text(panic), "an attempt to reload panicked; the configuration runs on");
    let errors = vec!["the attempt to reload panicked: this is a bug".to_owned()];
    Rejection { blame: Blame::Host, passing: true, ..Rejection::content(Reason::Panic, errors) }
}
