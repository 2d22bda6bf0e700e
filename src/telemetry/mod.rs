//! Logs: installed once, filter and format re-applied at every reload.
//!
//! The subscriber is the process's, and the one thing that two hosts in a process share: the last configuration
//! applied wins. An embedder that installed a subscriber of its own keeps it, and `[log]` then changes nothing.
//! Absent on purpose: reading `RUST_LOG`, which is a layer of the configuration.

mod fields;
mod log;
pub(crate) mod metrics;

pub(crate) use log::{check_filter, install};

use std::time::Duration;

/// As in the fields of log lines: `took_ms`.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
