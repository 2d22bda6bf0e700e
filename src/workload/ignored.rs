//! Settings that are accepted because a fleet sends them, and do nothing yet.

use tracing::warn;

use crate::types::{WorkloadId, WorkloadSpec};

/// Says so, by name.
pub(super) fn warn_without_effect(id: &WorkloadId, spec: &WorkloadSpec) {
    for component in &spec.components {
        let name = &component.name;
        if component.pool_size.is_some() {
            warn!(workload.id = %id, component = %name, "pool_size has no effect yet: each call gets a fresh instance");
        }
        if component.local_resources.cpu_limit.is_some() {
            warn!(workload.id = %id, component = %name, "cpu_limit has no effect yet");
        }
    }
    if spec.service.as_ref().is_some_and(|service| service.local_resources.cpu_limit.is_some()) {
        warn!(workload.id = %id, component = "service", "cpu_limit has no effect yet");
    }
}
