//! Reads a request, or makes the reply that says why it cannot be read.

use std::sync::Arc;

use tracing::warn;

use crate::control::answer;
use crate::control::wire::{IdRequest, Malformed, Reply, StartRequest};
use crate::types::{WorkloadId, WorkloadSpec};

/// The start that `payload` asks for, or what to answer.
pub(super) fn read_start(payload: &[u8]) -> Result<(WorkloadId, Arc<WorkloadSpec>), Reply> {
    let StartRequest { workload_id, workload } = StartRequest::decode(payload).map_err(malformed)?;
    let id = WorkloadId::from(workload_id);
    if id.as_str().is_empty() {
        return Err(answer::refused(&id, "workload_id is required"));
    }
    let workload = workload.ok_or_else(|| answer::refused(&id, "workload is required"))?;
    let spec = WorkloadSpec::try_from(workload).map_err(|invalid| answer::refused(&id, invalid.to_string()))?;
    Ok((id, Arc::new(spec)))
}

/// The start that `request` asks for, if it can be read; for requests that were kept.
pub(crate) fn start_in(request: &[u8]) -> Option<(WorkloadId, Arc<WorkloadSpec>)> {
    read_start(request).ok()
}

/// The id that `payload` asks about, or what to answer.
pub(super) fn read_id(payload: &[u8]) -> Result<WorkloadId, Reply> {
    IdRequest::decode(payload).map(|request| WorkloadId::from(request.workload_id)).map_err(malformed)
}

fn malformed(malformed: Malformed) -> Reply {
    let Malformed { workload_id, error } = malformed;
    warn!(workload.id = workload_id, error = %error, "cannot read a request");
    answer::refused(&WorkloadId::from(workload_id), format!("malformed request: {error}"))
}
