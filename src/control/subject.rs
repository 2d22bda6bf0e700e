//! The names of the subjects between operator and host.

use crate::types::HostId;

/// Where a host says that it is alive.
pub(super) fn operator_heartbeat(id: &HostId) -> String {
    format!("runtime.operator.heartbeat.{id}")
}

/// Where a host is asked for its heartbeat.
pub(super) fn heartbeat(id: &HostId) -> String {
    format!("runtime.host.{id}.heartbeat")
}

/// Where it is told to start a workload.
pub(super) fn start(id: &HostId) -> String {
    format!("runtime.host.{id}.workload.start")
}

/// Where it is asked about a workload.
pub(super) fn status(id: &HostId) -> String {
    format!("runtime.host.{id}.workload.status")
}

/// Where it is told to stop a workload.
pub(super) fn stop(id: &HostId) -> String {
    format!("runtime.host.{id}.workload.stop")
}

/// Where people and tools ask what configuration runs, and what became of the last attempt to change it.
pub(super) fn config_status(id: &HostId) -> String {
    format!("runtime.host.{id}.config.status")
}

/// Where they ask for a look at the file.
pub(super) fn config_reload(id: &HostId) -> String {
    format!("runtime.host.{id}.config.reload")
}

/// Where they ask what a reload would do.
pub(super) fn config_check(id: &HostId) -> String {
    format!("runtime.host.{id}.config.check")
}
