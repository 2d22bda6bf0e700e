//! What an attempt has prepared so far and not made live: later sections build on what earlier ones prepared.

use std::sync::Arc;

use crate::artifact::Artifacts;
use crate::plugin::{Means, PluginSet};
use crate::state::Identity;
use crate::workload::{Settings, Workloads};

/// Empty at the beginning of each attempt.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Who the host that is being started is.
    pub(super) identity: Option<Identity>,
    /// The workloads of a host that is being started.
    pub(super) workloads: Option<Workloads>,
    /// What is lent to plugins from the commit on.
    pub(super) means: Means,
    /// The plugins that are about to be live.
    pub(super) plugins: Option<Arc<PluginSet>>,
    /// Likewise the limits of workloads, and the registries they are pulled from.
    pub(super) policy: Option<(Arc<Settings>, Artifacts)>,
}
