//! A host that is killed comes back as itself, with what was placed on it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::nats::NatsClient;
use crate::support::{FakeServer, NatsServer, PATIENCE, TestProcess, eventually, free_port, http};

/// What outlives each process of a test.
struct Home {
    dir: TempDir,
    nats: NatsServer,
    client: NatsClient,
    http_port: u16,
}

/// A process, and who it says it is.
struct Host {
    washlet: TestProcess,
    id: String,
    name: String,
}

impl Home {
    async fn new() -> Self {
        let nats = NatsServer::start("").await;
        let client = nats.client().await;
        Self { dir: TempDir::new().expect("a temporary directory"), nats, client, http_port: free_port() }
    }

    fn state_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    fn config(&self) -> String {
        let (port, url, home) = (self.http_port, self.nats.url(), self.dir.path().display());
        format!(
            r#"
            [host]
            state_dir = "{home}/state"
            [http]
            listen = "127.0.0.1:{port}"
            [registry]
            allow_insecure = true
            [artifacts]
            cache_dir = "{home}/cache"
            [nats.scheduler]
            urls = ["{url}"]
            heartbeat_interval = "1s"
            [drain]
            timeout = "2s"
            lame_duck = "0s"
            "#
        )
    }

    /// A process, once the operator has heard of it.
    async fn host(&self) -> Host {
        let mut heartbeats = self.client.subscribe("runtime.operator.heartbeat.*").await;
        let mut washlet = TestProcess::start(&self.config());
        // Files that a test damages, and workloads that no operator stops at the end.
        for said in ["the journal is damaged", "not drained within drain.timeout"] {
            washlet.allow_log(said);
        }
        let (_subject, heartbeat) = heartbeats.next(PATIENCE).await;
        let text = |key: &str| heartbeat[key].as_str().unwrap_or_default().to_owned();
        Host { washlet, id: text("id"), name: text("friendlyName") }
    }

    async fn ask(&self, host: &Host, command: &str, request: &Value) -> Value {
        self.client.request(&format!("runtime.host.{}.workload.{command}", host.id), request).await
    }

    async fn state(&self, host: &Host, id: &str) -> String {
        let answer = self.ask(host, "status", &json!({ "workloadId": id })).await;
        let state = answer["workloadStatus"]["workloadState"].as_str().unwrap_or_default();
        state.trim_start_matches("WORKLOAD_STATE_").to_owned()
    }

    async fn runs(&self, host: &Host, id: &str) {
        eventually(&format!("{id} runs"), PATIENCE, async || (self.state(host, id).await == "RUNNING").then_some(()))
            .await;
    }

    async fn get(&self, host: &str) -> http::Answer {
        http::get(([127, 0, 0, 1], self.http_port).into(), host, "/").await
    }
}

fn start(id: &str, image: &str) -> Value {
    json!({
        "workloadId": id,
        "workload": {
            "namespace": "default",
            "name": id,
            "witWorld": {
                "components": [{ "name": "http", "image": image, "imagePullPolicy": "IMAGE_PULL_POLICY_ALWAYS" }],
                "hostInterfaces": [{
                    "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"],
                    "config": { "host": format!("{id}.test") },
                }],
            },
        },
    })
}

async fn registry() -> FakeServer {
    let wasm = std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture");
    FakeServer::flaky_registry(wasm.into(), 0).await
}

fn set_last_heartbeat(state_dir: &Path, ago: Duration) {
    let at = SystemTime::now() - ago;
    let millis = at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    std::fs::write(state_dir.join("last-heartbeat"), format!("{millis:020}\n")).expect("the file can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_brings_two_hundred_workloads_back_without_a_registry() {
    let home = Home::new().await;
    let registry = registry().await;
    let mut before = home.host().await;
    let ids: Vec<String> = (0..200).map(|number| format!("w{number}")).collect();
    let image = format!("{}/hello:1", registry.addr());
    for id in &ids {
        let mut request = start(id, &image);
        if id != "w0" {
            request["workload"]["witWorld"]["components"][0]["imagePullPolicy"] =
                json!("IMAGE_PULL_POLICY_IF_NOT_PRESENT");
        }
        let answer = home.ask(&before, "start", &request).await;
        assert_eq!(answer["workloadStatus"]["workloadState"], "WORKLOAD_STATE_RUNNING", "{answer}");
    }
    let stopped = home.ask(&before, "stop", &json!({ "workloadId": "w7" })).await;
    assert_eq!(stopped["workloadStatus"]["workloadState"], "WORKLOAD_STATE_STOPPING");
    before.washlet.kill().await;
    drop(registry);

    let after = home.host().await;
    assert_eq!((&after.id, &after.name), (&before.id, &before.name));
    for id in ids.iter().filter(|id| *id != "w7") {
        // Never unknown, from the first heartbeat on.
        let state = home.state(&after, id).await;
        assert!(state == "STARTING" || state == "RUNNING", "{id}: {state}");
    }
    for id in ids.iter().filter(|id| *id != "w7") {
        home.runs(&after, id).await;
    }
    assert_eq!(home.get("w0.test").await.text(), "Hello from http2\n");
    assert_eq!(home.get("w199.test").await.text(), "Hello from http2\n");
    assert_eq!(home.state(&after, "w7").await, "NOT_FOUND", "what was stopped stays stopped");
    after.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_silent_for_too_long_begins_empty_as_itself() {
    let home = Home::new().await;
    let registry = registry().await;
    let mut before = home.host().await;
    let request = start("w", &format!("{}/hello:1", registry.addr()));
    assert_eq!(home.ask(&before, "start", &request).await["workloadStatus"]["workloadState"], "WORKLOAD_STATE_RUNNING");
    before.washlet.kill().await;
    set_last_heartbeat(&home.state_dir(), Duration::from_secs(61));
    let mut after = home.host().await;
    assert_eq!((&after.id, &after.name), (&before.id, &before.name));
    assert_eq!(home.state(&after, "w").await, "NOT_FOUND");
    after.washlet.kill().await;
    // Forgotten for good: nothing comes back later.
    let last = home.host().await;
    assert_eq!(home.state(&last, "w").await, "NOT_FOUND");
    last.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_ended_in_order_brings_back_what_nobody_stopped() {
    let home = Home::new().await;
    let registry = registry().await;
    let before = home.host().await;
    let good = start("good", &format!("{}/hello:1", registry.addr()));
    assert_eq!(home.ask(&before, "start", &good).await["workloadStatus"]["workloadState"], "WORKLOAD_STATE_RUNNING");
    let mut bad = start("bad", &format!("{}/hello:1", registry.addr()));
    bad["workload"]["witWorld"]["hostInterfaces"][0]["config"]["host"] = json!("not a host name");
    assert_eq!(home.ask(&before, "start", &bad).await["workloadStatus"]["workloadState"], "WORKLOAD_STATE_ERROR");
    let Host { mut washlet, .. } = before;
    washlet.allow_log("workload failed to start");
    washlet.finish().await;
    let after = home.host().await;
    home.runs(&after, "good").await;
    assert_eq!(home.state(&after, "bad").await, "NOT_FOUND", "a failed start is not tried again");
    after.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_refused_and_a_second_host_on_one_directory_as_well() {
    let home = Home::new().await;
    let registry = registry().await;
    let mut before = home.host().await;
    for id in ["a", "b"] {
        let request = start(id, &format!("{}/hello:1", registry.addr()));
        assert_eq!(
            home.ask(&before, "start", &request).await["workloadStatus"]["workloadState"],
            "WORKLOAD_STATE_RUNNING"
        );
    }
    let mut second = TestProcess::start(&home.config());
    assert_eq!(second.wait_exit().await, Some(78));
    assert!(second.stderr().contains("state/lock"), "{}", second.stderr());
    before.washlet.kill().await;
    let journal = home.state_dir().join("journal");
    let mut bytes = std::fs::read(&journal).expect("a journal");
    let middle = bytes.len() / 4;
    bytes[middle] ^= 1;
    std::fs::write(&journal, bytes).expect("the file can be written");
    let after = home.host().await;
    assert_eq!(after.id, before.id);
    assert_eq!(
        (home.state(&after, "a").await, home.state(&after, "b").await),
        ("NOT_FOUND".into(), "NOT_FOUND".into())
    );
    assert!(home.state_dir().join("journal.damaged").exists());
    after.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_directory_a_host_is_another_one_each_time() {
    let home = Home::new().await;
    let text = home.config().replace("[host]", "").replace("state_dir", "# state_dir");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let mut heartbeats = home.client.subscribe("runtime.operator.heartbeat.*").await;
        let washlet = TestProcess::start(&text);
        let (_subject, heartbeat) = heartbeats.next(PATIENCE).await;
        for key in ["id", "friendlyName"] {
            assert!(seen.insert(heartbeat[key].to_string()), "{key} of {heartbeat}");
        }
        washlet.finish().await;
    }
}
