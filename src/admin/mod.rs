//! The admin listener: probes, metrics, status, and reload by request. Runs on the control thread.
//!
//! One accept task and one task per connection, at most [`CONNECTIONS_MAX`]; both end with the [`AdminServer`]. What
//! there is to say comes from an [`AdminPort`], which answers from snapshots and never waits for a guest.
//!
//! Absent on purpose: TLS and authentication. The listener is for the machine or the pod; what changes something is
//! answered to loopback peers only.

mod routes;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use server::{AdminServer, BoundAdmin};

use std::fmt;

use crate::config::port::ConfigPort;

/// What the listener tells, and what it can ask for. No method blocks.
pub(crate) trait AdminPort: ConfigPort + fmt::Debug {
    /// Whether the tasks that must never stop have been heard of lately.
    fn liveness(&self) -> Vec<Check>;

    /// Whether requests should be sent here; `Detail` checks are only told.
    fn readiness(&self) -> Vec<Check>;

    /// Prometheus text format.
    fn metrics(&self) -> String;
}

/// One line of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// What is looked at: `nats`, `http`, `plugin wasi-keyvalue`.
    pub(crate) name: String,
    /// How it is.
    pub(crate) verdict: Verdict,
    /// A few words for people.
    pub(crate) detail: String,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Well.
    Pass,
    /// Not well, and the probe fails for it.
    Fail,
    /// Not well, and the probe does not fail for it.
    Warn,
}

impl Check {
    /// A check that fails the probe unless `is_well`.
    pub(crate) fn required(name: impl Into<String>, is_well: bool, detail: impl Into<String>) -> Self {
        let verdict = if is_well { Verdict::Pass } else { Verdict::Fail };
        Self { name: name.into(), verdict, detail: detail.into() }
    }

    /// A check that is only told.
    pub(crate) fn told(name: impl Into<String>, is_well: bool, detail: impl Into<String>) -> Self {
        let verdict = if is_well { Verdict::Pass } else { Verdict::Warn };
        Self { name: name.into(), verdict, detail: detail.into() }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, verdict, detail } = self;
        let verdict = match verdict {
            Verdict::Pass => "ok",
            Verdict::Fail => "failed",
            Verdict::Warn => "degraded",
        };
        write!(f, "{name}: {verdict}")?;
        if detail.is_empty() { Ok(()) } else { write!(f, " ({detail})") }
    }
}
