//! `[reload]`: how changes of the file are noticed and applied.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::resolve::Resolver;
use crate::config::scalar::FileDuration;

/// Reload class: live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// Whether directories are watched.
    pub watch: bool,
    /// Cap of the wait for quiet after a change.
    pub debounce: Duration,
    /// Time between two reads without a hint; `None`: none.
    pub poll_interval: Option<Duration>,
    /// What removing an interface does that running workloads use.
    pub in_use: InUse,
    /// Whether one edit may remove over half of the plugins or workloads.
    pub allow_mass_removal: bool,
    /// How long preparing a change may take.
    pub prepare_timeout: Duration,
}

/// What removing an interface does that running workloads use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InUse {
    /// The edit is refused, and names them.
    #[default]
    Refuse,
    /// They fail, and start again when the interface comes back.
    FailWorkloads,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            watch: true,
            debounce: Duration::from_millis(250),
            poll_interval: Some(Duration::from_secs(30)),
            in_use: InUse::Refuse,
            allow_mass_removal: false,
            prepare_timeout: Duration::from_secs(10),
        }
    }
}

/// `[reload]`: how changes of the file are noticed and applied.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileReload {
    /// Whether the directories of the file and of the files it names are watched.
    pub(super) watch: bool,
    /// Cap of the wait for quiet after a change.
    pub(super) debounce: FileDuration,
    /// Time between two reads without a hint. 0s: none.
    pub(super) poll_interval: FileDuration,
    /// What removing an interface does that running workloads use.
    pub(super) in_use: FileInUse,
    /// Whether one edit may remove two or more, and over half, of the plugins or workloads.
    pub(super) allow_mass_removal: bool,
    /// How long preparing a change may take.
    pub(super) prepare_timeout: FileDuration,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileInUse {
    Refuse,
    FailWorkloads,
}

impl Default for FileReload {
    fn default() -> Self {
        let Reload { watch, debounce, poll_interval, in_use, allow_mass_removal, prepare_timeout } = Reload::default();
        let in_use = match in_use {
            InUse::Refuse => FileInUse::Refuse,
            InUse::FailWorkloads => FileInUse::FailWorkloads,
        };
        Self {
            watch,
            debounce: FileDuration(debounce),
            poll_interval: FileDuration(poll_interval.unwrap_or_default()),
            in_use,
            allow_mass_removal,
            prepare_timeout: FileDuration(prepare_timeout),
        }
    }
}

impl FileReload {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Reload {
        let Self { watch, debounce, poll_interval, in_use, allow_mass_removal, prepare_timeout } = self;
        let in_use = match in_use {
            FileInUse::Refuse => InUse::Refuse,
            FileInUse::FailWorkloads => InUse::FailWorkloads,
        };
        Reload {
            watch,
            debounce: debounce.0,
            poll_interval: Some(poll_interval.0).filter(|time| !time.is_zero()),
            in_use,
            allow_mass_removal,
            prepare_timeout: cx.positive("reload.prepare_timeout", prepare_timeout),
        }
    }
}
