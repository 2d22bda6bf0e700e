//! From what the host says of a workload to what the operator is told: the pinned texts. Pure.

use bytes::Bytes;
use serde_json::{Value, json};

use super::wire::Reply;
use crate::types::{WorkloadId, WorkloadState, WorkloadStatus};

/// The answer to a start that ended, well or not.
pub(super) fn start(id: &WorkloadId, status: WorkloadStatus) -> Reply {
    let (state, message) = match status.workload_state {
        WorkloadState::Running => (WorkloadState::Running, "Workload started successfully".to_owned()),
        WorkloadState::Completed => (WorkloadState::Completed, "Workload is Completed".to_owned()),
        WorkloadState::Starting => (WorkloadState::Starting, "Workload is Starting".to_owned()),
        // What is gone by now was stopped as well.
        WorkloadState::Stopping | WorkloadState::NotFound => return stopped_while_starting(id),
        WorkloadState::Error | WorkloadState::Unspecified => {
            (WorkloadState::Error, reason_or(status.message, "the start failed without a reason"))
        }
    };
    reply(id, state, message)
}

/// The answer to a start that was not done in time and goes on.
pub(super) fn still_starting(id: &WorkloadId) -> Reply {
    reply(id, WorkloadState::Starting, "Workload is Starting")
}

/// The answer to a start that a stop overtook.
pub(super) fn stopped_while_starting(id: &WorkloadId) -> Reply {
    reply(id, WorkloadState::Stopping, "Workload was stopped while starting")
}

/// The answer to a question.
pub(super) fn status(id: &WorkloadId, status: WorkloadStatus) -> Reply {
    let state = status.workload_state;
    let message = match state {
        WorkloadState::Starting | WorkloadState::Running | WorkloadState::Completed | WorkloadState::Stopping => {
            format!("Workload is {state}")
        }
        WorkloadState::Error => format!("Workload is Error: {}", reason_or(status.message, "no reason is known")),
        WorkloadState::NotFound => format!("Workload not found: {id}"),
        WorkloadState::Unspecified => status.message,
    };
    reply(id, state, message)
}

/// The answer to a stop.
pub(super) fn stop(id: &WorkloadId, status: WorkloadStatus) -> Reply {
    match status.workload_state {
        WorkloadState::NotFound => reply(id, WorkloadState::NotFound, "Workload not found"),
        WorkloadState::Error => reply(id, WorkloadState::Error, status.message),
        WorkloadState::Stopping
        | WorkloadState::Starting
        | WorkloadState::Running
        | WorkloadState::Completed
        | WorkloadState::Unspecified => stopped(id),
    }
}

/// The answer to a stop that has begun.
pub(super) fn stopped(id: &WorkloadId) -> Reply {
    reply(id, WorkloadState::Stopping, "Workload stopped successfully")
}

/// The answer when the host has none.
pub(super) fn host_failed(id: &WorkloadId) -> Reply {
    refused(id, "the host failed to handle the request, its log says why")
}

/// The answer to a question about the configuration, within what the server takes.
pub(super) fn configuration(answer: &Value, max_payload: usize) -> Bytes {
    let text = answer.to_string();
    if text.len() <= max_payload {
        return Bytes::from(text);
    }
    let error = format!("the answer has {} bytes and the server takes {max_payload}: ask over HTTP", text.len());
    Bytes::from(json!({ "error": error }).to_string())
}

/// The answer to what cannot be done, for whatever reason.
pub(super) fn refused(id: &WorkloadId, reason: impl Into<String>) -> Reply {
    reply(id, WorkloadState::Error, reason)
}

fn reply(id: &WorkloadId, state: WorkloadState, message: impl Into<String>) -> Reply {
    Reply { workload_id: id.as_str().to_owned(), state, message: message.into() }
}

fn reason_or(reason: String, otherwise: &str) -> String {
    if reason.is_empty() { otherwise.to_owned() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(state: WorkloadState, message: &str) -> (WorkloadId, WorkloadStatus) {
        let id = WorkloadId::from("w");
        (id.clone(), WorkloadStatus { workload_id: id, workload_state: state, message: message.to_owned() })
    }

    #[test]
    fn a_start_is_answered_in_the_pinned_words() {
        for (state, reason, told, message) in [
            (WorkloadState::Running, "", WorkloadState::Running, "Workload started successfully"),
            (WorkloadState::Completed, "", WorkloadState::Completed, "Workload is Completed"),
            (WorkloadState::Starting, "", WorkloadState::Starting, "Workload is Starting"),
            (WorkloadState::Stopping, "", WorkloadState::Stopping, "Workload was stopped while starting"),
            (WorkloadState::NotFound, "", WorkloadState::Stopping, "Workload was stopped while starting"),
            (WorkloadState::Error, "a: b: c", WorkloadState::Error, "a: b: c"),
            (WorkloadState::Error, "", WorkloadState::Error, "the start failed without a reason"),
        ] {
            let (id, status) = known(state, reason);
            let reply = start(&id, status);
            assert_eq!((reply.state, reply.message.as_str(), reply.workload_id.as_str()), (told, message, "w"));
        }
    }

    #[test]
    fn an_answer_that_the_server_would_not_take_says_so() {
        let answer = json!({"generation": 7});
        assert_eq!(configuration(&answer, 100), "{\"generation\":7}");
        let long = json!({"errors": "x".repeat(200)});
        let told = configuration(&long, 100);
        assert!(told.starts_with(b"{\"error\":\"the answer has 213 bytes"), "{told:?}");
    }

    #[test]
    fn a_stop_is_answered_at_once_whatever_the_state_was() {
        for state in [WorkloadState::Stopping, WorkloadState::Running, WorkloadState::Starting] {
            let (id, status) = known(state, "");
            let reply = stop(&id, status);
            assert_eq!(
                (reply.state, reply.message.as_str()),
                (WorkloadState::Stopping, "Workload stopped successfully")
            );
        }
    }
}
