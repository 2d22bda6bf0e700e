//! `[[workloads]]`: what the host runs by itself.

use std::sync::Arc;

use crate::types::{WorkloadId, WorkloadSpec};

/// A workload of the configuration file. Reload class: live, matched by (namespace, name).
#[derive(Debug, Clone, PartialEq)]
pub struct StaticWorkload {
    /// `static/<namespace>/<name>`
    pub id: WorkloadId,
    /// What it is asked to be.
    pub spec: Arc<WorkloadSpec>,
    /// SHA-256 of each `file:` image, in the order of the components: a changed file is a changed workload.
    pub file_digests: Vec<String>,
}
