//! What the control plane is told and told to do: a [`ControlledHost`] over a [`Host`].

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use crate::control::port::ControlledHost;
use crate::host::Host;
use crate::types::{HostHeartbeat, WorkloadId, WorkloadSpec, WorkloadState, WorkloadStatus};

/// A host as the operator sees it.
#[derive(Debug, Clone)]
pub(crate) struct Placed(pub(crate) Arc<Host>);

impl ControlledHost for Placed {
    fn heartbeat(&self) -> HostHeartbeat {
        self.0.heartbeat()
    }

    fn start(&self, id: WorkloadId, spec: Arc<WorkloadSpec>) -> BoxFuture<'static, WorkloadStatus> {
        if is_static(&id) {
            let message = format!("workload id `{id}` belongs to the host's own configuration");
            return ready(WorkloadStatus { workload_id: id, workload_state: WorkloadState::Error, message }).boxed();
        }
        self.0.workloads().start(id, spec)
    }

    fn status(&self, id: &WorkloadId) -> WorkloadStatus {
        self.0.workloads().status(id)
    }

    fn stop(&self, id: &WorkloadId) -> WorkloadStatus {
        // What the file lists is stopped by the file: the next reload would not bring it back.
        if is_static(id) {
            let (workload_id, workload_state) = (id.clone(), WorkloadState::NotFound);
            return WorkloadStatus { workload_id, workload_state, message: String::new() };
        }
        self.0.workloads().stop(id)
    }
}

/// Ids of the operator are UUIDs; those of the file have a form of their own.
fn is_static(id: &WorkloadId) -> bool {
    id.as_str().starts_with("static/")
}
