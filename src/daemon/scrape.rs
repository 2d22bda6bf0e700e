//! `/metrics`: described in docs/metrics.md.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::control::ControlState;
use crate::daemon::sections::{Shared, Tallies};
use crate::reload::{Live, ReloadStatus};
use crate::telemetry::metrics::Metrics;

/// One scrape.
pub(super) fn metrics(shared: &Shared) -> String {
    let mut metrics = Metrics::default();
    configuration(shared, &mut metrics);
    reloads(&shared.reload_status(), &mut metrics);
    for (id, health) in shared.plugins() {
        metrics.gauge_with("plugin_state", &[("plugin", id), ("state", health.state.as_str())], 1_u64);
    }
    if let Some(host) = shared.host() {
        let mut by_state = BTreeMap::<String, u64>::new();
        for workload in host.workloads().list() {
            *by_state.entry(workload.state.to_string().to_lowercase()).or_default() += 1;
        }
        for (state, number) in by_state {
            metrics.gauge_with("workloads", &[("state", &state)], number);
        }
        for count in host.workloads().plugins().plugins().iter().flat_map(|plugin| plugin.counts()) {
            metrics.counter_with(count.name, &count.labels, count.value);
        }
    }
    traffic(shared, &mut metrics);
    for (runtime, tasks) in shared.tasks() {
        metrics.gauge_with("tasks", &[("runtime", runtime)], count(tasks));
    }
    metrics.gauge_with("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    metrics.encode()
}

fn configuration(shared: &Shared, metrics: &mut Metrics) {
    let Live { generation, said, .. } = shared.live_config();
    let status = shared.reload_status();
    metrics.gauge("config_generation", generation.get());
    let attempted = status.attempts.back().and_then(|last| last.file_hash.as_deref());
    let labels = [
        ("running", said.hashes.file.as_deref().unwrap_or_default()),
        ("attempted", attempted.unwrap_or_default()),
        ("generation", &generation.get().to_string()),
    ];
    metrics.gauge_with("config_info", &labels, 1_u64);
    let since = said.since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
    metrics.gauge("config_last_reload_success_timestamp_seconds", since.map_or(0.0, |since| since.as_secs_f64()));
    metrics.gauge("config_last_reload_successful", f64::from(u8::from(status.last_ok())));
    for pinned in &said.pinned {
        metrics.gauge_with("config_pinned", &[("key", &pinned.key)], 1_u64);
    }
    for pending in &status.restart_pending {
        metrics.gauge_with("config_restart_pending", &[("key", &pending.key)], 1_u64);
    }
}

fn reloads(status: &ReloadStatus, metrics: &mut Metrics) {
    for ((trigger, outcome, reason), count) in &status.totals {
        let reason = reason.map_or("", |reason| reason.as_str());
        let labels = [("trigger", trigger.as_str()), ("outcome", outcome.as_str()), ("reason", reason)];
        metrics.counter_with("config_reloads", &labels, *count);
    }
    for (trigger, count) in &status.checks {
        metrics.counter_with("config_checks", &[("trigger", trigger.as_str())], *count);
    }
    for (phase, took) in &status.phases {
        metrics.histogram_with("config_reload_duration_seconds", &[("phase", phase)], *took);
    }
    metrics.gauge_with("config_watch_mode", &[("mode", status.watch_mode.as_str())], 1_u64);
    metrics.gauge("generations_alive", count(status.generations.alive()));
    metrics.counter_with("task_restarts", &[("task", "reload")], status.restarts);
    metrics.gauge("generations_retiring", count(status.retiring));
    for (kind, forced) in &status.forced {
        metrics.counter_with("retired_forced", &[("kind", kind)], count(*forced));
    }
}

fn traffic(shared: &Shared, metrics: &mut Metrics) {
    let totals = shared.http_totals();
    metrics.gauge("http_connections", count(totals.connections_open()));
    metrics.counter("http_connections_refused", totals.connections_refused());
    metrics.counter("http_accept_errors", totals.accept_errors());
    metrics.counter("http_tls_handshakes_failed", totals.handshakes_failed());
    metrics.counter("http_requests", totals.requests());
    for class in [1, 2, 3, 4, 5_u16] {
        metrics.counter_with("http_responses", &[("class", &format!("{class}xx"))], totals.responses(class));
    }
    let live = shared.live();
    let not_after = live.http.as_ref().and_then(|http| http.tls_not_after());
    if let Some(not_after) = not_after.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        metrics.gauge_with("tls_not_after_timestamp_seconds", &[("use", "http")], not_after.as_secs());
    }
    let Tallies { scheduler, data } = &shared.tallies;
    let planes = [("scheduler", scheduler, live.control.is_some()), ("data", data, live.data.is_some())];
    for (plane, tally, is_configured) in planes {
        // A plane that never was has no series; one that is gone keeps what it counted.
        if is_configured || tally.open() > 0 || tally.losses() > 0 {
            let plane = [("plane", plane)];
            metrics.gauge_with("nats_connections", &plane, tally.open());
            metrics.counter_with("nats_disconnects", &plane, tally.losses());
            metrics.counter_with("nats_reconnects", &plane, tally.reconnects());
            metrics.counter_with("nats_slow_consumers", &plane, tally.slow_consumers());
        }
    }
    if let Some(control) = &live.control {
        let is_joined = *control.state().borrow() == ControlState::Joined;
        metrics.gauge("nats_scheduler_joined", u64::from(is_joined));
        metrics.counter_with("task_restarts", &[("task", "control")], control.restarts());
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
