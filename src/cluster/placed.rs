//! What the control plane is told and told to do: a [`ControlledHost`] over a [`Host`].

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::control::port::ControlledHost;
use crate::host::Host;
use crate::types::{HostHeartbeat, WorkloadId, WorkloadSpec, WorkloadStatus};

/// A host as the operator sees it.
#[derive(Debug, Clone)]
pub(crate) struct Placed(pub(crate) Arc<Host>);

impl ControlledHost for Placed {
    fn heartbeat(&self) -> HostHeartbeat {
        self.0.heartbeat()
    }

    fn start(&self, id: WorkloadId, spec: Arc<WorkloadSpec>) -> BoxFuture<'static, WorkloadStatus> {
        self.0.workloads().start(id, spec)
    }

    fn status(&self, id: &WorkloadId) -> WorkloadStatus {
        self.0.workloads().status(id)
    }

    fn stop(&self, id: &WorkloadId) -> WorkloadStatus {
        self.0.workloads().stop(id)
    }
}
