//! The other end of the control plane, for people's tools: where a host is asked what, and how its answers are read.

use serde_json::{Value, json};

use crate::control::subject;
use crate::control::wire::StartRequest;
use crate::types::{HostId, WorkloadId, WorkloadSpec};

/// Where all hosts say that they are alive.
pub(crate) const HEARTBEATS: &str = "runtime.operator.heartbeat.*";

/// What a host can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Who it is.
    Heartbeat,
    /// To start a workload.
    Start,
    /// Where a workload is.
    Status,
    /// To stop a workload.
    Stop,
    /// What its configuration is, and what it runs.
    Config,
}

impl Question {
    /// Where `host` is asked.
    pub(crate) fn subject(self, host: &HostId) -> String {
        match self {
            Self::Heartbeat => subject::heartbeat(host),
            Self::Start => subject::start(host),
            Self::Status => subject::status(host),
            Self::Stop => subject::stop(host),
            Self::Config => subject::config_status(host),
        }
    }
}

/// The request to start `workload` under `id`.
pub(crate) fn start_request(id: &WorkloadId, workload: &Value) -> Value {
    json!({ "workloadId": id.as_str(), "workload": workload })
}

/// The request for status or stop of `id`.
pub(crate) fn id_request(id: &WorkloadId) -> Value {
    json!({ "workloadId": id.as_str() })
}

/// A checked workload as a request carries it.
pub(crate) fn workload(spec: &WorkloadSpec) -> Value {
    crate::control::wire::encode_workload(spec)
}

/// Whether a host would take `workload`, as far as its text tells; the error is what the host would say.
pub(crate) fn check(workload: &Value) -> Result<WorkloadSpec, String> {
    let request = start_request(&WorkloadId::from("check"), workload).to_string();
    let request = StartRequest::decode(request.as_bytes()).map_err(|malformed| malformed.error.to_string())?;
    let workload = request.workload.ok_or("workload is required")?;
    WorkloadSpec::try_from(workload).map_err(|invalid| invalid.to_string())
}
