//! The connection of the control plane is changed while it is in use.

mod access;
mod change;
mod encryption;
mod least;
mod rotation;
pub(crate) mod traffic;
mod trouble;

use serde_json::Value;

use crate::support::nats::NatsClient;
use crate::support::{LogLine, PATIENCE, TestProcess};

const HEARTBEATS: &str = "runtime.operator.heartbeat.*";
const APPLIED: &str = "configuration applied";
const REJECTED: &str = "configuration rejected";

/// A host that beats each second, with these lines in its table `[nats.scheduler]`.
fn config(scheduler: &str) -> String {
    format!(
        "[nats.scheduler]\nheartbeat_interval = \"1s\"\n{scheduler}\n\
         [registry]\nallow_insecure = true\n[drain]\ntimeout = \"5s\"\nlame_duck = \"0s\"\n[reload]\nallow_mass_removal = true\n"
    )
}

fn with_url(url: &str) -> String {
    config(&format!("urls = [\"{url}\"]"))
}

/// A host that joined over `client`'s server, and its id.
async fn join(text: &str, client: &NatsClient) -> (TestProcess, String) {
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    let washlet = TestProcess::start(text);
    washlet.wait_for_message(APPLIED).await;
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    (washlet, heartbeat["id"].as_str().expect("an id").to_owned())
}

/// Edits, and waits for the outcome of that.
async fn edit(washlet: &mut TestProcess, text: &str) -> LogLine {
    washlet.rewrite_config(text);
    outcome(washlet).await
}

/// What became of the first attempt since the mark; an older file that is tried again in vain aside.
async fn outcome(washlet: &TestProcess) -> LogLine {
    let is_retry = |line: &LogLine| line.field("trigger").as_deref() == Some("retry");
    washlet.wait_for_log(|line| line.message() == APPLIED || (line.message() == REJECTED && !is_retry(line))).await
}

async fn apply(washlet: &mut TestProcess, text: &str) {
    let outcome = edit(washlet, text).await;
    assert_eq!(outcome.message(), APPLIED, "{outcome}");
}

/// Edits, and waits until that is refused; returns the error.
async fn refuse(washlet: &mut TestProcess, text: &str) -> String {
    washlet.allow_log(REJECTED);
    let outcome = edit(washlet, text).await;
    assert_eq!(outcome.message(), REJECTED, "{outcome}");
    outcome.field("error").unwrap_or_default()
}

/// The next heartbeat that arrives by `client`, and an answer.
async fn serves(client: &NatsClient, id: &str) {
    let (_, heartbeat) = client.subscribe(HEARTBEATS).await.next(PATIENCE).await;
    assert_eq!(heartbeat["id"], id, "the host is the same one");
    let status = client.request_bytes(&format!("runtime.host.{id}.workload.status"), "{}").await;
    assert_eq!(state(&status), "NOT_FOUND");
}

fn state(answer: &Value) -> &str {
    answer["workloadStatus"]["workloadState"].as_str().unwrap_or_default().trim_start_matches("WORKLOAD_STATE_")
}
