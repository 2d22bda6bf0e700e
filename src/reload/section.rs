//! What a reloadable part of the host offers: prepare beside the live one, commit, retire the old one.
//!
//! Each step consumes the one before, so the compiler checks the order.

use std::error::Error;
use std::fmt;

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::error::{Blame, Chain};
use crate::reload::outcome::Reason;
use crate::reload::plan::Plan;

/// One part of the host that is applied as a whole. Sections are prepared and committed in a fixed order.
pub(crate) trait Section<D>: Send + Sync {
    /// The name under which its failures are reported: a table of the configuration.
    fn name(&self) -> &'static str;

    /// Builds the new part beside the live one and changes nothing that is visible; later sections find it in `draft`.
    ///
    /// `None`: the plan holds nothing for this section. The future is dropped when time runs out, when newer input
    /// arrives or at shutdown, and must then undo itself. It runs on the control thread: work goes elsewhere.
    fn prepare<'a>(&'a self, plan: &'a Plan, draft: &'a mut D) -> BoxFuture<'a, Prepare>;
}

/// What preparing a section yields.
pub(crate) type Prepare = Result<Option<Box<dyn Prepared>>, PrepareError>;

/// A part that is built and not yet live. Dropped instead of committed, it undoes itself.
pub(crate) trait Prepared: Send {
    /// Keys of what goes live as failed: at a start, where there is no older version to keep.
    fn failed(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes it live: pointer stores only, no I/O, no waiting, and it cannot fail.
    fn commit(self: Box<Self>) -> Box<dyn Retired>;
}

/// A part that was live until a moment ago.
pub(crate) trait Retired: Send {
    /// Lets work in flight end, and cuts what is left at `deadline`.
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers>;
}

/// For a section whose change replaces nothing that would have to be drained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NothingRetired;

impl Retired for NothingRetired {
    fn retire(self: Box<Self>, _deadline: Instant) -> BoxFuture<'static, Leftovers> {
        Box::pin(std::future::ready(Leftovers::default()))
    }
}

/// What did not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Leftovers {
    /// Calls, connections or tasks that were cut at the deadline.
    pub(crate) forced: usize,
}

/// Why a section could not be prepared.
#[derive(Debug)]
pub(crate) struct PrepareError {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    further: Vec<String>,
    /// Who has to act.
    pub(crate) blame: Blame,
    /// Whether trying again without a change may help: unreachable, timed out, address in use, pull failed.
    pub(crate) passing: bool,
    /// How the rejection is classed.
    pub(crate) reason: Reason,
}

impl PrepareError {
    /// `message` names step and thing, and the remedy where it is known.
    pub(crate) fn new(blame: Blame, message: impl Into<String>) -> Self {
        let (source, further) = (None, Vec::new());
        Self { message: message.into(), source, further, blame, passing: false, reason: Reason::Prepare }
    }

    /// Trying again may help.
    pub(crate) fn passing(self) -> Self {
        Self { passing: true, ..self }
    }

    /// The cause, printed after the message.
    pub(crate) fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// An interface would go away that workloads use.
    pub(crate) fn in_use(self) -> Self {
        Self { reason: Reason::InUse, ..self }
    }

    /// More errors of the same kind, one line each.
    pub(crate) fn and(self, further: Vec<String>) -> Self {
        Self { further, ..self }
    }

    /// This error and the further ones, a line each, with their causes.
    pub(crate) fn lines(&self) -> Vec<String> {
        std::iter::once(Chain(self).to_string()).chain(self.further.iter().cloned()).collect()
    }
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for PrepareError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
