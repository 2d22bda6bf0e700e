//! All that the control plane needs of a host.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::types::{HostHeartbeat, WorkloadId, WorkloadSpec, WorkloadStatus};

/// Implemented by `cluster` over a `Host`, and by fakes in tests. Calls come from the control thread: none may block.
pub(crate) trait ControlledHost: Send + Sync + 'static {
    /// A snapshot; takes no lock that a start or a guest could hold.
    fn heartbeat(&self) -> HostHeartbeat;

    /// Reserves the id before it returns; the future yields when the start has ended, well or not, and dropping it
    /// does not end the start. The same id with the same spec joins the start under way. `request` is what `spec` was
    /// read from, for whoever keeps it.
    fn start(&self, id: WorkloadId, spec: Arc<WorkloadSpec>, request: Bytes) -> BoxFuture<'static, WorkloadStatus>;

    /// What is known of `id` now.
    fn status(&self, id: &WorkloadId) -> WorkloadStatus;

    /// Begins the stop before it returns; the future says `Stopping`, or `NotFound`, once that may be told. Dropping it
    /// changes nothing.
    fn stop(&self, id: &WorkloadId) -> BoxFuture<'static, WorkloadStatus>;
}
