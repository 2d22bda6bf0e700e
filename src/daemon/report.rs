//! What the host tells of itself over HTTP: probes, status and metrics, from snapshots that hold up nobody.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::admin::{AdminPort, Check};
use crate::control::ControlState;
use crate::control::port::ConfigPort;
use crate::daemon::sections::Shared;
use crate::reload::{ReloadOutcome, ReloadStatus, Reloader, Trigger};
use crate::telemetry::metrics::Metrics;

/// After this a request for a reload is answered with how far it has come.
const RELOAD_ANSWER_MAX: Duration = Duration::from_secs(10);

/// Holds the host weakly: a listener must not keep alive what owns it.
#[derive(Debug)]
pub(super) struct Report(Weak<Shared>);

impl Report {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }
}

impl AdminPort for Report {
    fn liveness(&self) -> Vec<Check> {
        let Some(shared) = self.0.upgrade() else { return vec![Check::required("host", false, "gone")] };
        let mut checks = vec![Check::required(
            "reload task",
            shared.is_draining() || shared.reloader().is_some_and(Reloader::is_alive),
            "",
        )];
        if let Some(control) = &shared.live().control {
            let state = *control.state().borrow();
            checks.push(Check::required("control plane", state != ControlState::Closed || shared.is_draining(), ""));
        }
        checks
    }

    fn readiness(&self) -> Vec<Check> {
        let Some(shared) = self.0.upgrade() else { return vec![Check::required("host", false, "gone")] };
        let mut checks = vec![Check::required(
            "draining",
            !shared.is_draining(),
            if shared.is_draining() { "draining" } else { "" },
        )];
        let status = shared.reload_status();
        let is_applied = shared.reloader().is_some_and(|reloader| reloader.live().borrow().generation.get() > 0);
        checks.push(Check::required("configuration", is_applied, ""));
        checks.push(Check::told("config", status.last_ok(), if status.last_ok() { "" } else { "rejected" }));
        let live = shared.live();
        if let Some(http) = &live.http {
            let detail = format!("{} connections on {}", http.connections(), http.local_addr());
            checks.push(Check::required("http", !http.is_full(), detail));
        }
        if let Some(control) = &live.control {
            let state = *control.state().borrow();
            checks.push(Check::required("nats", state == ControlState::Joined, control_state(state)));
        }
        drop(live);
        for id in shared.plugins() {
            checks.push(Check::told(format!("plugin {id}"), true, ""));
        }
        checks
    }

    fn status(&self) -> Value {
        let Some(shared) = self.0.upgrade() else { return json!({}) };
        let live = shared.live();
        let http = live
            .http
            .as_ref()
            .map(|http| json!({ "address": http.local_addr().to_string(), "connections": http.connections() }));
        let nats = live.control.as_ref().map(|control| json!({ "state": control_state(*control.state().borrow()) }));
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
            "host": { "id": shared.host_id().as_str(), "version": env!("CARGO_PKG_VERSION"), "draining": shared.is_draining() },
            "config": config_status(&shared),
            "http": http,
            "nats": nats,
            "workloads": workloads,
        })
    }

    fn metrics(&self) -> String {
        self.0.upgrade().map_or_else(String::new, |shared| metrics(&shared))
    }

    fn reload(&self) -> BoxFuture<'static, Value> {
        self.ask(Trigger::Request)
    }

    fn check(&self) -> BoxFuture<'static, Value> {
        self.ask(Trigger::Check)
    }
}

/// The same over NATS.
impl ConfigPort for Report {
    fn status(&self) -> Value {
        AdminPort::status(self)
    }

    fn reload(&self) -> BoxFuture<'static, Value> {
        self.ask(Trigger::Request)
    }

    fn check(&self) -> BoxFuture<'static, Value> {
        self.ask(Trigger::Check)
    }
}

impl Report {
    fn ask(&self, trigger: Trigger) -> BoxFuture<'static, Value> {
        let reloader = self.0.upgrade().and_then(|shared| shared.reloader().cloned());
        async move {
            let Some(reloader) = reloader else { return json!({ "outcome": "gone" }) };
            match tokio::time::timeout(RELOAD_ANSWER_MAX, reloader.trigger(trigger)).await {
                Ok(Ok(outcome)) => attempt(&outcome),
                Ok(Err(error)) => json!({ "outcome": "refused", "error": error.to_string() }),
                Err(_elapsed) => json!({ "outcome": "running" }),
            }
        }
        .boxed()
    }
}

fn config_status(shared: &Shared) -> Value {
    let status = shared.reload_status();
    let generation = shared.reloader().map_or(0, |reloader| reloader.live().borrow().generation.get());
    let applied = status.applied.as_ref();
    let plugins: Vec<Value> = shared.plugins().into_iter().map(|id| json!({ "id": id, "state": "healthy" })).collect();
    json!({
        "generation": generation,
        "file_hash": applied.and_then(|attempt| attempt.file_hash.as_deref()),
        "since": applied.map(|attempt| timestamp(attempt.at)),
        "last_ok": status.last_ok(),
        "restart_pending": status.restart_pending,
        "retiring": status.retiring,
        "plugins": plugins,
        "attempts": status.attempts.iter().rev().map(|outcome| attempt(outcome)).collect::<Vec<_>>(),
    })
}

fn attempt(outcome: &ReloadOutcome) -> Value {
    let changed: Vec<Value> =
        outcome.changed.iter().map(|change| json!({ "key": change.key, "verb": change.verb })).collect();
    let phases: serde_json::Map<String, Value> =
        outcome.phases.iter().map(|(name, took)| ((*name).to_owned(), json!(took.as_secs_f64() * 1000.0))).collect();
    json!({
        "n": outcome.n,
        "at": timestamp(outcome.at),
        "trigger": outcome.trigger.as_str(),
        "outcome": outcome.outcome.as_str(),
        "reason": outcome.rejection.as_ref().map(|rejection| rejection.reason.as_str()),
        "file_hash": outcome.file_hash,
        "generation": outcome.generation.get(),
        "errors": outcome.errors(),
        "changed": changed,
        "restart_pending": outcome.restart_pending,
        "phases_ms": phases,
    })
}

fn timestamp(at: SystemTime) -> Option<String> {
    OffsetDateTime::from(at).format(&Rfc3339).ok()
}

fn control_state(state: ControlState) -> &'static str {
    match state {
        ControlState::Connecting => "connecting",
        ControlState::Joined => "joined",
        ControlState::Lost => "lost",
        ControlState::Draining => "draining",
        ControlState::Closed => "closed",
    }
}

fn metrics(shared: &Shared) -> String {
    let mut metrics = Metrics::default();
    let status: ReloadStatus = shared.reload_status();
    metrics.gauge("config_last_reload_successful", f64::from(u8::from(status.last_ok())));
    let since = status.applied.as_ref().and_then(|attempt| attempt.at.duration_since(SystemTime::UNIX_EPOCH).ok());
    metrics.gauge("config_last_reload_success_timestamp_seconds", since.map_or(0.0, |since| since.as_secs_f64()));
    for ((trigger, outcome, reason), count) in &status.totals {
        let labels = [
            ("trigger", trigger.as_str()),
            ("outcome", outcome.as_str()),
            ("reason", reason.map_or("", |r| r.as_str())),
        ];
        metrics.counter_with("config_reloads", &labels, *count);
    }
    metrics.counter("config_checks", status.checks);
    let generation = shared.reloader().map_or(0, |reloader| reloader.live().borrow().generation.get());
    metrics.gauge("config_generation", generation);
    metrics.gauge("generations_retiring", count(status.retiring));
    metrics.counter("retired_forced", count(status.forced));
    for key in &status.restart_pending {
        metrics.gauge_with("config_restart_pending", &[("key", key)], 1_u64);
    }
    for id in shared.plugins() {
        metrics.gauge_with("plugin_state", &[("plugin", id), ("state", "healthy")], 1_u64);
    }
    if let Some(host) = shared.host() {
        let mut by_state = std::collections::BTreeMap::<String, u64>::new();
        for workload in host.workloads().list() {
            *by_state.entry(workload.state.to_string().to_lowercase()).or_default() += 1;
        }
        for (state, number) in by_state {
            metrics.gauge_with("workloads", &[("state", &state)], number);
        }
    }
    let live = shared.live();
    if let Some(http) = &live.http {
        let meter = http.meter();
        metrics.gauge("http_connections", count(meter.connections_open()));
        metrics.counter("http_connections_refused", meter.connections_refused());
        metrics.counter("http_accept_errors", meter.accept_errors());
        metrics.counter("http_tls_handshakes_failed", meter.handshakes_failed());
        if let Some(not_after) = http.tls_not_after().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            metrics.gauge_with("tls_not_after_timestamp_seconds", &[("use", "http")], not_after.as_secs());
        }
        metrics.counter("http_requests", meter.requests());
        for class in [1, 2, 3, 4, 5_u16] {
            metrics.counter_with("http_responses", &[("class", &format!("{class}xx"))], meter.responses(class));
        }
    }
    if let Some(control) = &live.control {
        let is_joined = *control.state().borrow() == ControlState::Joined;
        metrics.gauge("nats_scheduler_joined", f64::from(u8::from(is_joined)));
    }
    drop(live);
    metrics.gauge_with("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    metrics.encode()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
