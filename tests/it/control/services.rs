//! The service of a placed workload: every turn its life can take, as its operator hears of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::control::{Joined, example, message, state};
use crate::support::{LogLine, NatsServer, PATIENCE, Registry, eventually, quiet};

/// A workload with a service of one of the fixtures, and how to ask for it.
struct Placed {
    start: Value,
    id: String,
}

impl Placed {
    /// The guest `service` beside an `http2` that serves `hello.localhost.direct`.
    async fn new(service: &str, environment: &Value, max_restarts: &str) -> Self {
        let registry = Registry::shared();
        for guest in ["http2", service] {
            let path = format!("tests/fixtures/{guest}/{guest}.wasm");
            registry.push(&format!("services-{guest}"), "1", std::fs::read(path).expect("a fixture")).await;
        }
        let mut start = example("request_workload_start_minimal.json");
        start["workload"]["witWorld"]["components"][0]["image"] = json!(registry.image("services-http2", "1"));
        start["workload"]["service"] = json!({
            "image": registry.image(&format!("services-{service}"), "1"),
            "localResources": { "environment": environment },
            "maxRestarts": max_restarts,
        });
        let id = json!({ "workloadId": start["workloadId"] }).to_string();
        Self { start, id }
    }

    async fn start(&self, host: &Joined) -> Value {
        host.ask("workload.start", self.start.to_string()).await
    }

    async fn status(&self, host: &Joined) -> Value {
        host.ask("workload.status", self.id.clone()).await
    }

    async fn is(&self, host: &Joined, wanted: &str) -> Value {
        eventually(&format!("the workload is {wanted}"), PATIENCE, async || {
            Some(self.status(host).await).filter(|answer| state(answer) == wanted)
        })
        .await
    }

    /// Stops it, and waits until it is forgotten.
    async fn stop(&self, host: &Joined) {
        assert_eq!(host.ask("workload.stop", self.id.clone()).await, example("reply_stop_stopping.json"));
        self.is(host, "NOT_FOUND").await;
    }
}

async fn host(nats: &NatsServer) -> Joined {
    Joined::start(nats.client().await, &nats.url(), "15s").await
}

/// What the service wrote.
fn lines(host: &Joined) -> Vec<LogLine> {
    let is_of_service = |line: &LogLine| line.field("component").as_deref() == Some("service");
    host.washlet.log_lines().into_iter().filter(is_of_service).collect()
}

fn counts(heartbeat: &Value) -> (&str, &str) {
    let count = |name: &str| heartbeat[name].as_str().unwrap_or("0");
    (count("workloadCount"), count("componentCount"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ends_well_completes_its_workload_and_its_components_serve_on() {
    let nats = NatsServer::start("").await;
    let host = host(&nats).await;
    for (guest, mode) in [("svc2", "ok"), ("svc2", "exit-0"), ("svc3", "ok"), ("svc3", "exit-0")] {
        let placed = Placed::new(guest, &json!({ "MODE": mode, "DELAY_MS": "500" }), "3").await;
        assert_eq!(placed.start(&host).await, example("reply_start_running.json"), "{guest} {mode}");
        assert_eq!(placed.status(&host).await, example("reply_status_running.json"), "{guest} {mode}");
        assert_eq!(placed.is(&host, "COMPLETED").await, example("reply_status_completed.json"));
        assert_eq!(host.get("hello.localhost.direct", "/").await.status, 200);
        assert_eq!(counts(&host.ask("heartbeat", "{}").await), ("1", "1"));
        let again = placed.start(&host).await;
        assert_eq!((state(&again), message(&again)), ("COMPLETED", "Workload is Completed"));
        placed.stop(&host).await;
    }
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_runs_and_writes_until_its_workload_is_stopped() {
    let nats = NatsServer::start("").await;
    let mut host = host(&nats).await;
    for guest in ["svc2", "svc3"] {
        let placed = Placed::new(guest, &json!({ "MODE": "loop" }), "0").await;
        host.washlet.mark();
        assert_eq!(placed.start(&host).await, example("reply_start_running.json"), "{guest}");
        let line = host.washlet.wait_for_output("tick 3").await;
        for (name, value) in [
            ("component", "service"),
            ("stream", "stdout"),
            ("workload.id", placed.start["workloadId"].as_str().expect("an id")),
            ("workload.namespace", "default"),
        ] {
            assert_eq!(line.field(name).as_deref(), Some(value), "{line}");
        }
        assert_eq!(state(&placed.status(&host).await), "RUNNING");
        assert_eq!(counts(&host.ask("heartbeat", "{}").await), ("1", "1"));
        placed.stop(&host).await;
        // Forgotten is it only when its instance is gone: no further line can come.
        let written = lines(&host).len();
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(lines(&host).len(), written, "{guest} goes on after its stop");
    }
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_yields_holds_up_nobody_and_is_stopped_as_any_other() {
    let _quiet = quiet().await;
    let nats = NatsServer::start("").await;
    let host = host(&nats).await;
    for guest in ["svc2", "svc3"] {
        let placed = Placed::new(guest, &json!({ "MODE": "spin" }), "0").await;
        assert_eq!(placed.start(&host).await, example("reply_start_running.json"));
        host.washlet.wait_for_output("started mode=spin").await;
        assert_eq!(host.get("hello.localhost.direct", "/").await.status, 200);
        placed.stop(&host).await;
    }
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_is_started_again_after_growing_pauses_and_then_given_up() {
    let nats = NatsServer::start("").await;
    let mut host = host(&nats).await;
    host.washlet.allow_log("service failed, starting it again");
    host.washlet.allow_log("workload failed");
    let placed = Placed::new("svc2", &json!({ "MODE": "trap" }), "3").await;
    assert_eq!(placed.start(&host).await, example("reply_start_running.json"));
    let starting = placed.is(&host, "STARTING").await;
    assert_eq!(message(&starting), "Workload is Starting");
    let heartbeat = host.ask("heartbeat", "{}").await;
    let is_starting = state(&placed.status(&host).await) == "STARTING";
    assert!(!is_starting || counts(&heartbeat) == ("1", "0"), "{heartbeat}");
    let failed = placed.is(&host, "ERROR").await;
    let said = message(&failed);
    assert!(said.starts_with("Workload is Error: service exited: ") && said.contains("unreachable"), "{said}");
    assert!(said.ends_with(" (restarts exhausted: 3)"), "{said}");
    let is_run = |line: &&LogLine| line.field("text").as_deref() == Some("started mode=trap");
    assert_eq!(lines(&host).iter().filter(is_run).count(), 4, "one run, and three more");
    let pauses = host.washlet.log_lines().into_iter().filter(|line| line.message().starts_with("service failed"));
    let pauses: Vec<u64> = pauses.map(|line| line.field("pause_ms").unwrap().parse().unwrap()).collect();
    assert!(pauses.len() == 3 && pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    assert_eq!(host.get("hello.localhost.direct", "/").await.status, 404, "all of the workload failed");
    assert_eq!(counts(&host.ask("heartbeat", "{}").await), ("0", "0"));

    // A start of what failed is a fresh one, with a budget of its own.
    host.washlet.mark();
    assert_eq!(placed.start(&host).await, example("reply_start_running.json"));
    placed.is(&host, "ERROR").await;
    assert_eq!(lines(&host).iter().filter(is_run).count(), 4);
    assert_eq!(state(&host.ask("workload.stop", placed.id.clone()).await), "STOPPING");
    assert_eq!(state(&placed.status(&host).await), "NOT_FOUND");
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_service_failed_is_told() {
    let nats = NatsServer::start("").await;
    let mut host = host(&nats).await;
    host.washlet.allow_log("workload failed");
    for guest in ["svc2", "svc3"] {
        for (mode, cause) in [("exit-3", "exit code 3"), ("exit-1", "exit code 1"), ("err", "run returned an error")] {
            let placed = Placed::new(guest, &json!({ "MODE": mode }), "0").await;
            assert_eq!(placed.start(&host).await, example("reply_start_running.json"));
            let failed = placed.is(&host, "ERROR").await;
            let said = format!("Workload is Error: service exited: {cause} (restarts exhausted: 0)");
            assert_eq!(message(&failed), said, "{guest}");
            assert_eq!(state(&host.ask("workload.stop", placed.id.clone()).await), "STOPPING");
        }
    }
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_stopped_while_its_service_waits_to_be_started_again() {
    let nats = NatsServer::start("").await;
    let mut host = host(&nats).await;
    host.washlet.allow_log("service failed, starting it again");
    let placed = Placed::new("svc2", &json!({ "MODE": "err" }), "18446744073709551615").await;
    assert_eq!(placed.start(&host).await, example("reply_start_running.json"));
    // After the fourth failure the pause is more than a second.
    let is_fourth = |line: &LogLine| line.field("restart").as_deref() == Some("4");
    host.washlet.wait_for_log(is_fourth).await;
    assert_eq!(state(&placed.status(&host).await), "STARTING");
    let again = placed.start(&host).await;
    assert_eq!((state(&again), message(&again)), ("STARTING", "Workload is Starting"));
    assert_eq!(host.get("hello.localhost.direct", "/").await.status, 200, "its components serve meanwhile");
    placed.stop(&host).await;
    assert_eq!(host.get("hello.localhost.direct", "/").await.status, 404);
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_one_fails_the_start() {
    let nats = NatsServer::start("").await;
    let mut host = host(&nats).await;
    host.washlet.allow_log("workload failed to start");
    let placed = Placed::new("http2", &json!({}), "0").await;
    let refused = placed.start(&host).await;
    assert_eq!(
        (state(&refused), message(&refused)),
        ("ERROR", "Service must export a single interface with the 'run' function")
    );
    let mut placed = Placed::new("svc2", &json!({}), "0").await;
    placed.start["workload"]["service"]["image"] = json!("127.0.0.1:1/s:1");
    let refused = placed.start(&host).await;
    assert!(message(&refused).starts_with("failed to pull image for the workload service: "), "{refused}");
    placed.start["workload"]["service"]["image"] = json!(Registry::shared().image("services-svc2", "1"));
    placed.start["workload"]["service"]["localResources"]["memoryLimitMb"] = json!(1);
    let refused = placed.start(&host).await;
    assert!(message(&refused).starts_with("failed to instantiate the workload service: "), "{refused}");
    assert_eq!(host.get("hello.localhost.direct", "/").await.status, 404);
    host.washlet.finish().await;
}
