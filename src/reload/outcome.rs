//! What became of an attempt, and the line that the log says about it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tracing::{debug, error, info};

use crate::config::files::ReadFailure;
use crate::error::Blame;
use crate::reload::plan::{Change, Pending};
use crate::reload::status::Retirement;
use crate::telemetry::millis;
use crate::types::Generation;

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Trigger {
    /// The process starts.
    Start,
    /// A watched directory changed.
    Watch,
    /// The slow poll.
    Poll,
    /// SIGHUP.
    Sighup,
    /// Somebody asked and waits for the answer.
    Request,
    /// The last attempt failed for a reason that may have passed.
    Retry,
    /// Somebody asks what a reload would do: it is prepared, and dropped.
    Check,
}

impl Trigger {
    /// As in logs, metrics and status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Watch => "watch",
            Self::Poll => "poll",
            Self::Sighup => "sighup",
            Self::Request => "request",
            Self::Retry => "retry",
            Self::Check => "check",
        }
    }

    /// Of two that lead to the same attempt, the higher one names it.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Self::Watch | Self::Poll => 0,
            // Whoever sent it may wait to be told that the reload is over.
            Self::Sighup => 1,
            Self::Start | Self::Request | Self::Retry | Self::Check => 2,
        }
    }

    /// Whether an attempt is made even if the input is the one of the last attempt.
    pub(crate) fn insists(self) -> bool {
        match self {
            Self::Start | Self::Request | Self::Retry | Self::Check => true,
            Self::Watch | Self::Poll | Self::Sighup => false,
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    /// A new generation is live.
    Applied,
    /// The input says what is live already.
    Unchanged,
    /// The last good generation keeps running.
    Rejected,
    /// Newer input, or shutdown, came before the commit.
    Superseded,
    /// Only a check: it could be prepared, and nothing of it is live.
    Accepted,
}

impl Outcome {
    /// As in logs, metrics and status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
            Self::Accepted => "accepted",
        }
    }
}

/// The step at which an attempt was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reason {
    /// A file would not hold still.
    Unsettled,
    /// A file is absent or unreadable.
    Missing,
    /// Not TOML, or wrong keys, types, values or references.
    Invalid,
    /// Too much would go away at once.
    Guard,
    /// An interface would go away that workloads use.
    InUse,
    /// A part could not be built.
    Prepare,
    /// The attempt panicked outside of its parts: a bug.
    Panic,
}

impl Reason {
    /// As in logs, metrics and status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unsettled => "unsettled",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Guard => "guard",
            Self::InUse => "in_use",
            Self::Prepare => "prepare",
            Self::Panic => "panic",
        }
    }
}

/// Why an attempt was rejected: everything that is wrong, never only the first thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// The step.
    pub(crate) reason: Reason,
    /// Who has to act; decides the exit code if this was the start.
    pub(crate) blame: Blame,
    /// Whether trying again without a change may help.
    pub(crate) passing: bool,
    /// At least one; values of secret keys never.
    pub(crate) errors: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// On one line, with its place.
    pub(crate) line: String,
    /// In parts, if it is in the configuration: file, line, column, key, source, message and hint.
    pub(crate) parts: Option<Value>,
}

impl From<String> for Fault {
    fn from(line: String) -> Self {
        Self { line, parts: None }
    }
}

impl Fault {
    /// For tools: always the same keys, and the line as `text`.
    pub(crate) fn json(&self) -> Value {
        let Self { line, parts } = self;
        let mut json = parts.clone().unwrap_or_else(|| {
            let none = Value::Null;
            json!({
                "severity": "error", "file": none, "line": none, "column": none, "key": "", "source": none,
                "message": line, "hint": none,
            })
        });
        if let Some(object) = json.as_object_mut() {
            object.insert("text".to_owned(), line.as_str().into());
        }
        json
    }
}

impl Rejection {
    /// The content is wrong: only new content helps.
    pub(crate) fn content(reason: Reason, errors: Vec<String>) -> Self {
        let errors = errors.into_iter().map(Fault::from).collect();
        Self { reason, blame: Blame::Configuration, passing: false, errors }
    }

    /// There is nothing to try.
    pub(super) fn unreadable(failure: &ReadFailure) -> Self {
        let reason = match failure {
            ReadFailure::Unsettled { .. } => Reason::Unsettled,
            ReadFailure::Empty { .. } => Reason::Guard,
            ReadFailure::Missing { .. } | ReadFailure::Unreadable { .. } => Reason::Missing,
        };
        // It may hold still without another hint: whoever wrote it stopped, and never closed it.
        let passing = reason == Reason::Unsettled;
        Self { passing, ..Self::content(reason, vec![failure.to_string()]) }
    }
}

/// One attempt, for log, status and whoever asked for it.
#[derive(Debug, Clone)]
pub(crate) struct ReloadOutcome {
    /// 1 is the start. Checks that found nothing new are not counted.
    pub(crate) n: u64,
    /// When it began.
    pub(crate) at: SystemTime,
    /// From the first read to the end of the commit.
    pub(crate) took: Duration,
    /// Why it was made.
    pub(crate) trigger: Trigger,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Whether the input differed from that of the attempt before.
    pub(crate) input_is_new: bool,
    /// Why it was rejected.
    pub(crate) rejection: Option<Rejection>,
    /// What is live after it.
    pub(crate) generation: Generation,
    /// The published hash of the file that was tried, if it got that far.
    pub(crate) file_hash: Option<String>,
    /// Keys that differ from what was live, and what is done about each.
    pub(crate) changed: Vec<Change>,
    /// Keys that wait for a restart.
    pub(crate) restart_pending: Vec<Pending>,
    /// How long each step took, in order.
    pub(crate) phases: Vec<(&'static str, Duration)>,
    /// The parts that it replaced, and how far their end has come.
    pub(crate) retirement: Arc<Retirement>,
}

impl ReloadOutcome {
    /// Everything that was wrong; empty unless rejected.
    pub(crate) fn errors(&self) -> &[Fault] {
        self.rejection.as_ref().map_or(&[], |rejection| &rejection.errors)
    }

    /// One line an attempt, and one for each further error.
    pub(crate) fn log(&self) {
        let file = self.file_hash.as_deref().map(short);
        let (trigger, took_ms) = (self.trigger.as_str(), millis(self.took));
        let generation = self.generation.get();
        let waiting = Joined(&self.restart_pending).to_string();
        let restart_pending = (!waiting.is_empty()).then_some(waiting);
        debug!(attempt = self.n, phases = ?self.phases, "configuration attempt");
        match (self.outcome, &self.rejection) {
            (Outcome::Rejected, rejection) => {
                let reason = rejection.as_ref().map(|rejection| rejection.reason.as_str());
                let mut errors = self.errors().iter().map(|fault| fault.line.as_str());
                let first = errors.next();
                let further = errors.len();
                error!(generation, file, trigger, took_ms, reason, further, error = first, "configuration rejected");
                for error in errors {
                    error!(trigger, error, "configuration rejected, another error");
                }
            }
            (Outcome::Applied, _) => {
                let changed = Joined(&self.changed).to_string();
                info!(generation, file, trigger, took_ms, changed, restart_pending, "configuration applied");
            }
            (Outcome::Unchanged, _) => {
                info!(generation, file, trigger, took_ms, restart_pending, "configuration unchanged");
            }
            (Outcome::Accepted, _) => info!(generation, file, trigger, took_ms, "configuration checked"),
            (Outcome::Superseded, _) => info!(generation, file, trigger, took_ms, "configuration superseded"),
        }
    }
}

/// Things separated by spaces.
struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{item}")?;
        }
        Ok(())
    }
}

/// The first 12 hex digits of a hash.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
