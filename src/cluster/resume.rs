//! What a restart brings back of the workloads that were placed here, and when not.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tracing::{error, info, warn};

use crate::cluster::placed::Placed;
use crate::control;
use crate::types::WorkloadId;

/// The operator gives a host that is silent this long up, and has its workloads placed elsewhere.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(60);

/// What the journal held when the process began.
#[derive(Debug)]
pub(crate) struct Found {
    /// Starts that were never ended, in the order in which they came.
    pub(crate) starts: Vec<(WorkloadId, Bytes)>,
    /// When the operator last heard of the host.
    pub(crate) last_heartbeat: Option<SystemTime>,
}

/// Begins every start that was `found`, if the operator still waits for this host; else forgets them all. Each id is
/// reserved when this returns.
pub(crate) fn resume(placed: &Placed, found: Found, now: SystemTime) {
    let Found { starts, last_heartbeat } = found;
    if starts.is_empty() {
        return;
    }
    let silence = last_heartbeat.and_then(|heard| silence(heard, now));
    if silence.is_none_or(|silence| silence > OPERATOR_PATIENCE) {
        let silent_s = silence.map(|silence| silence.as_secs());
        info!(
            workloads = starts.len(),
            silent_s, "begins empty: the operator has placed its workloads elsewhere by now"
        );
        placed.journal().record_end_of_all();
        return;
    }
    info!(workloads = starts.len(), "brings back the workloads that were placed here");
    for (id, request) in starts {
        match control::read_start(&request) {
            Some((read_id, spec)) if read_id == id => placed.bring_back(id, spec, request),
            Some(_) | None => {
                error!(workload.id = %id, "cannot read the journalled start, the workload is not brought back");
                // On its way to the disk; nobody waits for it.
                drop(placed.journal().record_stop(&id));
            }
        }
    }
}

/// How long nobody has heard of the host; `None` if the clock says nonsense.
fn silence(heard: SystemTime, now: SystemTime) -> Option<Duration> {
    match now.duration_since(heard) {
        Ok(silence) => Some(silence),
        // A clock that was set back a little.
        Err(ahead) if ahead.duration() <= OPERATOR_PATIENCE => Some(Duration::ZERO),
        Err(ahead) => {
            warn!(
                ahead_s = ahead.duration().as_secs(),
                "the last heartbeat lies in the future: the clock was set back"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_a_little_is_no_silence_and_one_set_back_far_is_not_believed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(silence(now, after(59)), Some(Duration::from_secs(59)));
        assert_eq!(silence(after(30), now), Some(Duration::ZERO));
        assert_eq!(silence(after(3600), now), None);
    }
}
