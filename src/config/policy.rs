//! `[limits]` and `[drain]`: how much and how long.

use std::time::Duration;

use crate::types::ByteSize;

/// For workloads that set none themselves. Reload class: next (start).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance; `None`: no limit but the engine's.
    pub memory: Option<ByteSize>,
    /// One call of a guest; over HTTP until the response's head.
    pub call_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: None, call_timeout: Duration::from_secs(600) }
    }
}

/// How long work in flight may take to end. Reload class: live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long a stopping workload still serves a route that nobody else holds.
    pub lame_duck: Duration,
    /// Work in flight at SIGTERM, at a stop, or in a retired part.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { lame_duck: Duration::from_secs(5), timeout: Duration::from_secs(12) }
    }
}
