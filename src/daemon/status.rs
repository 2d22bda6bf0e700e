//! `/status`, and what `config.status` says over NATS: described in docs/status.md.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::control::ControlState;
use crate::daemon::sections::Shared;
use crate::plugin::Health;
use crate::reload::{Change, Live, Pending, ReloadOutcome, ReloadStatus};

/// All of it.
pub(super) fn of(shared: &Shared) -> Value {
    let live = shared.live();
    let http = live
        .http
        .as_ref()
        .map(|http| json!({ "address": http.local_addr().to_string(), "connections": http.connections() }));
    let nats = live.control.as_ref().map(|control| json!({ "state": of_control(*control.state().borrow()) }));
    drop(live);
    let workloads: Vec<Value> = shared.host().map_or_else(Vec::new, |host| {
        let list = host.workloads().list();
        list.iter()
            .map(|workload| {
                json!({
                    "id": workload.id.as_str(),
                    "namespace": workload.namespace,
                    "name": workload.name,
                    "state": workload.state.to_string(),
                    "reason": workload.reason.as_deref(),
                    "in_flight": workload.in_flight,
                })
            })
            .collect()
    });
    json!({
        "host": { "id": shared.host().map(|host| host.id().as_str()), "version": env!("CARGO_PKG_VERSION"), "draining": shared.is_draining() },
        "config": of_config(shared),
        "http": http,
        "nats": nats,
        "workloads": workloads,
    })
}

fn of_config(shared: &Shared) -> Value {
    let Live { generation, said, .. } = shared.live_config();
    let status: ReloadStatus = shared.reload_status();
    let pinned: Vec<Value> = said.pinned.iter().map(|pinned| json!({ "key": pinned.key, "by": pinned.by })).collect();
    json!({
        "generation": generation.get(),
        "file_hash": said.hashes.file,
        "config_hash": said.hashes.config,
        "since": said.since.and_then(timestamp),
        "source": said.source,
        "watch_mode": status.watch_mode.as_str(),
        "last_ok": status.last_ok(),
        "restart_pending": of_pending(&status.restart_pending),
        "pinned": pinned,
        "generations_alive": status.generations.alive(),
        "retiring": status.retiring,
        "plugins": shared.plugins().iter().map(of_plugin).collect::<Vec<_>>(),
        "attempts": status.attempts.iter().rev().map(|outcome| of_attempt(outcome)).collect::<Vec<_>>(),
    })
}

/// One attempt, for the history and for whoever asked for it.
pub(super) fn of_attempt(outcome: &ReloadOutcome) -> Value {
    let change = |Change { key, verb }: &Change| json!({ "key": key, "verb": verb });
    let millis =
        |(phase, took): &(&str, std::time::Duration)| ((*phase).to_owned(), json!(took.as_secs_f64() * 1000.0));
    json!({
        "n": outcome.n,
        "at": timestamp(outcome.at),
        "trigger": outcome.trigger.as_str(),
        "outcome": outcome.outcome.as_str(),
        "reason": outcome.rejection.as_ref().map(|rejection| rejection.reason.as_str()),
        "file_hash": outcome.file_hash,
        "generation": outcome.generation.get(),
        "errors": outcome.errors().iter().map(|fault| fault.json()).collect::<Vec<_>>(),
        "changed": outcome.changed.iter().map(change).collect::<Vec<_>>(),
        "restart_pending": of_pending(&outcome.restart_pending),
        "phases_ms": outcome.phases.iter().map(millis).collect::<Map<_, _>>(),
        "retire": { "state": outcome.retirement.state(), "forced": outcome.retirement.forced() },
    })
}

fn of_pending(pending: &[Pending]) -> Vec<Value> {
    pending.iter().map(|Pending { key, at }| json!({ "key": key, "at": at })).collect()
}

fn of_plugin((id, Health { state, since, error }): &(&'static str, Health)) -> Value {
    json!({ "id": id, "state": state.as_str(), "since": timestamp(*since), "error": error })
}

/// The word for the state of the control plane.
pub(super) fn of_control(state: ControlState) -> &'static str {
    match state {
        ControlState::Connecting => "connecting",
        ControlState::Joined => "joined",
        ControlState::Lost => "lost",
        ControlState::Draining => "draining",
        ControlState::Closed => "closed",
    }
}

fn timestamp(at: SystemTime) -> Option<String> {
    OffsetDateTime::from(at).format(&Rfc3339).ok()
}
