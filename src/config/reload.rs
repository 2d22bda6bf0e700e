//! `[reload]`: how changes of the file are noticed and applied.

use std::time::Duration;

/// Reload class: live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// Whether directories are watched.
    pub watch: bool,
    /// Cap of the wait for quiet after a change.
    pub debounce: Duration,
    /// Time between two reads without a hint; `None`: none.
    pub poll_interval: Option<Duration>,
    /// Whether one edit may remove over half of the plugins or workloads.
    pub allow_mass_removal: bool,
    /// How long preparing a change may take.
    pub prepare_timeout: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            watch: true,
            debounce: Duration::from_millis(250),
            poll_interval: Some(Duration::from_secs(30)),
            allow_mass_removal: false,
            prepare_timeout: Duration::from_secs(10),
        }
    }
}
