//! The control plane as an operator sees it: the real binary, a real nats-server, a real registry.

mod answers;
mod contract;
mod pressure;
mod secrets;
mod services;
mod slow;

use std::time::{Duration, Instant};

use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::nats::NatsClient;
use crate::support::{FakeServer, NatsServer, PATIENCE, Registry, TestProcess, eventually, free_port, http};

const HEARTBEATS: &str = "runtime.operator.heartbeat.*";

/// A host that joined, and what its operator needs.
struct Joined {
    washlet: TestProcess,
    client: NatsClient,
    id: String,
    http_port: u16,
}

impl Joined {
    /// With heartbeats each `interval`, connecting by `url` to the server of `client`.
    async fn start(client: NatsClient, url: &str, interval: &str) -> Self {
        let mut heartbeats = client.subscribe(HEARTBEATS).await;
        let http_port = free_port();
        let washlet = TestProcess::start(&config(url, http_port, interval));
        let (_, heartbeat) = heartbeats.next(PATIENCE).await;
        let id = heartbeat["id"].as_str().expect("an id").to_owned();
        Self { washlet, client, id, http_port }
    }

    async fn ask(&self, command: &str, request: impl Into<Bytes>) -> Value {
        self.client.request_bytes(&self.subject(command), request).await
    }

    async fn refusal(&self, command: &str) -> RequestErrorKind {
        let answer = self.client.try_request(&self.subject(command), "{}", PATIENCE).await;
        answer.expect_err("nobody should answer")
    }

    fn subject(&self, command: &str) -> String {
        format!("runtime.host.{}.{command}", self.id)
    }

    async fn get(&self, host: &str, path: &str) -> http::Answer {
        http::get(([127, 0, 0, 1], self.http_port).into(), host, path).await
    }
}

fn config(nats_url: &str, http_port: u16, interval: &str) -> String {
    format!(
        r#"
        [http]
        listen = "127.0.0.1:{http_port}"
        [registry]
        allow_insecure = true
        [nats.scheduler]
        urls = ["{nats_url}"]
        heartbeat_interval = "{interval}"
        start_reply_wait = "5s"
        [drain]
        timeout = "5s"
        lame_duck = "0s"
        "#
    )
}

/// An example request of the contract.
fn example(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire").join(name);
    serde_json::from_slice(&std::fs::read(path).expect("an example")).expect("an example in JSON")
}

fn state(answer: &Value) -> &str {
    answer["workloadStatus"]["workloadState"].as_str().unwrap_or_default().trim_start_matches("WORKLOAD_STATE_")
}

fn message(answer: &Value) -> &str {
    answer["workloadStatus"]["message"].as_str().unwrap_or_default()
}

/// The reply, which must come within `limit`.
async fn within<T>(limit: Duration, what: &str, asking: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let answer = asking.await;
    assert!(began.elapsed() < limit, "{what} took {:?}", began.elapsed());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placed_workload_starts_serves_reports_and_stops() {
    let nats = NatsServer::start("").await;
    let host = Joined::start(nats.client().await, &nats.url(), "15s").await;
    let registry = Registry::shared();
    registry.push("control-http2", "1", std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    let mut start = example("request_workload_start_minimal.json");
    start["workload"]["witWorld"]["components"][0]["image"] = json!(registry.image("control-http2", "1"));
    let id = json!({"workloadId": start["workloadId"]}).to_string();

    let started = host.ask("workload.start", start.to_string()).await;
    assert_eq!(started, example("reply_start_running.json"));
    assert_eq!(host.get("hello.localhost.direct", "/").await.text(), "Hello from http2\n");
    assert_eq!(host.ask("workload.start", start.to_string()).await, started, "the same again joins");
    assert_eq!(host.ask("workload.status", id.clone()).await, example("reply_status_running.json"));
    let heartbeat = host.ask("heartbeat", "garbage").await;
    assert_eq!((&heartbeat["workloadCount"], &heartbeat["componentCount"]), (&json!("1"), &json!("1")));
    assert_eq!(heartbeat["httpPort"], json!(host.http_port));

    start["workload"]["name"] = json!("another");
    let refused = host.ask("workload.start", start.to_string()).await;
    assert_eq!(state(&refused), "ERROR");
    let prefix = format!("Workload ID [{}] already exists", start["workloadId"].as_str().expect("an id"));
    assert!(message(&refused).starts_with(&prefix), "{refused}");

    assert_eq!(host.ask("workload.stop", id.clone()).await, example("reply_stop_stopping.json"));
    eventually("the stopped workload is forgotten", PATIENCE, async || {
        let status = host.ask("workload.status", id.clone()).await;
        (state(&status) == "NOT_FOUND").then_some(())
    })
    .await;
    assert_eq!(state(&host.ask("workload.stop", id).await), "NOT_FOUND");
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_answered_at_once_and_heartbeats_go_on() {
    let nats = NatsServer::start("").await;
    let mut host = Joined::start(nats.client().await, &nats.url(), "1s").await;
    host.washlet.allow_log("cannot read a request");
    let mut heartbeats = host.client.subscribe(HEARTBEATS).await;
    let soon = Duration::from_millis(100);
    for (payload, said) in [
        (Bytes::from_static(b"garbage"), "malformed request: expected value at line 1 column 1"),
        (Bytes::from(vec![b'x'; 900_000]), "malformed request: expected value at line 1 column 1"),
        (Bytes::new(), "malformed request: EOF while parsing a value at line 1 column 0"),
        (Bytes::from_static(b"{\"workload\":{}}"), "workload_id is required"),
        (Bytes::from_static(b"{\"workload_id\":\"x\",\"more\":[1]}"), "workload is required"),
        (
            Bytes::from_static(b"{\"workloadId\":\"x\",\"workload\":{\"volumes\":7}}"),
            "malformed request: workload.volumes: expected a list, got a number",
        ),
    ] {
        let answer = within(soon, said, host.ask("workload.start", payload)).await;
        assert_eq!((state(&answer), message(&answer)), ("ERROR", said));
    }
    assert_eq!(within(soon, "an unknown command", host.refusal("workload.list")).await, RequestErrorKind::NoResponders);
    for _ in 0..2 {
        heartbeats.next(Duration::from_millis(1500)).await;
    }
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_holds_up_nobody_else() {
    let nats = NatsServer::start("").await;
    let host = Joined::start(nats.client().await, &nats.url(), "15s").await;
    let registry = FakeServer::hanging().await;
    let mut start = example("request_workload_start_minimal.json");
    let id = json!({"workloadId": start["workloadId"]}).to_string();
    start["workload"]["witWorld"]["components"][0]["image"] = json!(format!("{}/hang:1", registry.addr()));
    let asking = tokio::spawn({
        let (client, subject) = (host.client.clone(), host.subject("workload.start"));
        async move { client.request_bytes(&subject, start.to_string()).await }
    });
    eventually("the registry is asked", PATIENCE, async || (registry.requests() > 0).then_some(())).await;
    let soon = Duration::from_millis(50);
    let answer = within(soon, "status", host.ask("workload.status", id.clone())).await;
    assert_eq!(state(&answer), "STARTING");
    let answer = within(soon, "status of another", host.ask("workload.status", "{\"workloadId\":\"other\"}")).await;
    assert_eq!(message(&answer), "Workload not found: other");
    let answer = within(soon, "stop of another", host.ask("workload.stop", "{\"workloadId\":\"other\"}")).await;
    assert_eq!(message(&answer), "Workload not found");
    within(soon, "heartbeat", host.ask("heartbeat", "{}")).await;
    let answer = within(soon, "stop", host.ask("workload.stop", id)).await;
    assert_eq!(message(&answer), "Workload stopped successfully");
    let answer = asking.await.expect("it does not panic");
    assert_eq!(message(&answer), "Workload was stopped while starting");
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_starts_before_its_nats_and_survives_its_restart() {
    let mut nats = NatsServer::down("");
    let mut washlet = TestProcess::start(&config(&nats.url(), free_port(), "1s"));
    washlet.allow_log("cannot connect to NATS");
    washlet.allow_log("lost the connection to NATS");
    washlet.wait_for_message("cannot connect to NATS, trying on").await;
    nats.up().await;
    let joined = washlet.wait_for_message("joined the control plane").await;
    assert_eq!(joined.field("session").as_deref(), Some("1"));

    washlet.mark();
    nats.restart().await;
    let mut heartbeats = nats.client().await.subscribe(HEARTBEATS).await;
    washlet.wait_for_message("joined the control plane").await;
    let client = nats.client().await;
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    let id = heartbeat["id"].as_str().expect("an id");
    let answer = client.request_bytes(&format!("runtime.host.{id}.workload.status"), "{}").await;
    assert_eq!(state(&answer), "NOT_FOUND");
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_works_with_the_least_permissions_and_the_user_of_the_url() {
    let permissions = r#"
        authorization { users: [
            { user: "operator", password: "op" },
            { user: "host", password: "p@ss", permissions: {
                publish: ["runtime.operator.heartbeat.*"]
                subscribe: ["runtime.host.*.heartbeat", "runtime.host.*.workload.*", "runtime.host.*.config.*"]
                allow_responses: { max: 1, expires: "2m" } } }
        ] }"#;
    let nats = NatsServer::start(permissions).await;
    let operator = async_nats::ConnectOptions::with_user_and_password("operator".to_owned(), "op".to_owned());
    let client = nats.client_with(operator).await;
    let url = nats.url().replace("nats://", "nats://host:p%40ss@");
    let host = Joined::start(client, &url, "15s").await;
    let answer = host.ask("workload.status", "{}").await;
    assert_eq!(state(&answer), "NOT_FOUND");
    assert!(!host.washlet.stderr().contains("p@ss") && !host.washlet.stderr().contains("p%40ss"));
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_host_leaves_two_subjects_and_answers_the_other_two() {
    let nats = NatsServer::start("").await;
    let mut host = Joined::start(nats.client().await, &nats.url(), "15s").await;
    let registry = Registry::shared();
    registry.push("control-drain", "1", std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    let mut start = example("request_workload_start_minimal.json");
    start["workload"]["witWorld"]["components"][0]["image"] = json!(registry.image("control-drain", "1"));
    let id = json!({"workloadId": start["workloadId"]}).to_string();
    assert_eq!(state(&host.ask("workload.start", start.to_string()).await), "RUNNING");

    let mut heartbeats = host.client.subscribe(HEARTBEATS).await;
    host.washlet.sigterm();
    let signalled = Instant::now();
    eventually("starts have no responders", PATIENCE, async || {
        let answer = host.client.try_request(&host.subject("workload.start"), "{}", PATIENCE).await;
        // One that was received before the host left gets an error, with a reply.
        (answer == Err(RequestErrorKind::NoResponders)).then_some(())
    })
    .await;
    assert_eq!(host.refusal("heartbeat").await, RequestErrorKind::NoResponders);
    // 100 ms on a machine of its own.
    assert!(signalled.elapsed() < Duration::from_secs(1), "{:?}", signalled.elapsed());
    assert_eq!(state(&host.ask("workload.status", id.clone()).await), "RUNNING");
    assert_eq!(state(&host.ask("workload.stop", id).await), "STOPPING");
    assert_eq!(host.washlet.wait_exit().await, Some(0));
    let silent = tokio::time::timeout(Duration::from_millis(10), heartbeats.next_message(PATIENCE)).await;
    assert!(silent.is_err(), "a draining host is silent");
    host.washlet.finish().await;
}
