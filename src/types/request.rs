//! States of a workload, and the answer to every question about one.

use std::fmt;

use crate::types::WorkloadId;

/// Where a workload is in its life; the numbers are those of the wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum WorkloadState {
    /// Never reported.
    Unspecified = 0,
    /// Being pulled, compiled, linked or restarted.
    Starting = 1,
    /// Serving.
    Running = 2,
    /// Its service ended well; its components go on serving.
    Completed = 3,
    /// Letting work in flight end.
    Stopping = 4,
    /// Failed; the reason is kept.
    Error = 5,
    /// No such workload.
    NotFound = 6,
}

impl fmt::Display for WorkloadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "Unspecified",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Stopping => "Stopping",
            Self::Error => "Error",
            Self::NotFound => "NotFound",
        })
    }
}

/// What is known of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// The id that was asked for; empty if the request carried none.
    pub workload_id: WorkloadId,
    /// Where it is in its life.
    pub workload_state: WorkloadState,
    /// Free text for a person; in state `Error` the reason.
    pub message: String,
}
