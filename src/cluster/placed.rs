//! What the control plane is told and told to do: a [`ControlledHost`] over a [`Host`], journalled.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use tokio::runtime::Handle;

use crate::control::port::ControlledHost;
use crate::host::Host;
use crate::state::{Journal, Recorded};
use crate::task;
use crate::types::{HostHeartbeat, WorkloadId, WorkloadSpec, WorkloadState, WorkloadStatus};
use crate::workload::Pull;

/// A host as the operator sees it.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    host: Arc<Host>,
    journal: Journal,
    /// Where starts are followed to their end.
    workers: Handle,
}

impl Placed {
    /// `host`, whose placed workloads are kept in `journal`.
    pub(crate) fn new(host: Arc<Host>, journal: Journal, workers: Handle) -> Self {
        Self { host, journal, workers }
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Starts what was placed here before the process began, from what is cached.
    pub(super) fn bring_back(&self, id: WorkloadId, spec: Arc<WorkloadSpec>, request: Bytes) {
        // It goes on by itself; the operator asks how it went.
        drop(self.begin(id, spec, request, Pull::CachedFirst));
    }

    /// Reserves, then journals: what was refused, or is only joined, leaves the journal alone.
    fn begin(
        &self,
        id: WorkloadId,
        spec: Arc<WorkloadSpec>,
        request: Bytes,
        pull: Pull,
    ) -> BoxFuture<'static, WorkloadStatus> {
        let begun = self.host.workloads().start(id.clone(), spec, pull);
        if !begun.is_new {
            return begun.end;
        }
        let (ticket, recorded) = self.journal.record_start(&id, request);
        let journal = self.journal.clone();
        let following = {
            let id = id.clone();
            async move {
                let status = begun.end.await;
                // Before the answer: whoever is told must find it so after a restart. What could not be written was logged.
                let _logged: Recorded = if status.workload_state == WorkloadState::Error {
                    journal.record_failure(&id, ticket).await
                } else {
                    recorded.await
                };
                status
            }
        };
        // Followed to its end, whoever waits for it.
        let followed = task::spawn_on(&self.workers, "journalled start", following);
        async move {
            let lost = || WorkloadStatus {
                workload_id: id,
                workload_state: WorkloadState::Error,
                message: "the start was abandoned".to_owned(),
            };
            followed.await.ok().flatten().unwrap_or_else(lost)
        }
        .boxed()
    }
}

impl ControlledHost for Placed {
    fn heartbeat(&self) -> HostHeartbeat {
        // Asked for only while there is a connection that takes it.
        self.journal.record_heartbeat();
        self.host.heartbeat()
    }

    fn start(&self, id: WorkloadId, spec: Arc<WorkloadSpec>, request: Bytes) -> BoxFuture<'static, WorkloadStatus> {
        if is_static(&id) {
            let message = format!("workload id `{id}` belongs to the host's own configuration");
            return ready(WorkloadStatus { workload_id: id, workload_state: WorkloadState::Error, message }).boxed();
        }
        self.begin(id, spec, request, Pull::AsAsked)
    }

    fn status(&self, id: &WorkloadId) -> WorkloadStatus {
        self.host.workloads().status(id)
    }

    fn stop(&self, id: &WorkloadId) -> BoxFuture<'static, WorkloadStatus> {
        // What the file lists is stopped by the file: the next reload would not bring it back.
        if is_static(id) {
            let (workload_id, workload_state) = (id.clone(), WorkloadState::NotFound);
            return ready(WorkloadStatus { workload_id, workload_state, message: String::new() }).boxed();
        }
        let status = self.host.workloads().stop(id);
        let recorded = self.journal.record_stop(id);
        recorded.map(|_logged| status).boxed()
    }
}

/// Ids of the operator are UUIDs; those of the file have a form of their own.
fn is_static(id: &WorkloadId) -> bool {
    id.as_str().starts_with("static/")
}
