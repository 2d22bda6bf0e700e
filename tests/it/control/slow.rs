//! Starts that take long: answered in time, joined, and one pull for all who ask.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{HEARTBEATS, config, example, message, state};
use crate::support::{FakeServer, NatsServer, PATIENCE, TestProcess, eventually, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_start_is_answered_in_time_joined_by_its_repetition_and_ends_running() {
    let wasm = std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture");
    let (registry, gate) = FakeServer::gated_registry(wasm.into()).await;
    let nats = NatsServer::start("").await;
    let client = nats.client().await;
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    let text = config(&nats.url(), free_port(), "15s").replace("\"5s\"\n        [drain]", "\"1s\"\n        [drain]");
    assert!(text.contains("start_reply_wait = \"1s\""));
    let washlet = TestProcess::start(&text);
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    let subject =
        |command: &str| format!("runtime.host.{}.workload.{command}", heartbeat["id"].as_str().expect("an id"));

    let mut start = example("request_workload_start_minimal.json");
    start["workload"]["witWorld"]["components"][0]["image"] = json!(format!("{}/slow/slow:1", registry.addr()));
    let id = json!({ "workloadId": start["workloadId"] });
    let began = Instant::now();
    let (start_subject, mut rotated) = (subject("start"), start.clone());
    // The same content but for a secret: the one joins the other.
    rotated["workload"]["witWorld"]["components"][0]["imagePullSecret"] = json!({ "username": "u", "password": "p" });
    let (first, second) =
        tokio::join!(client.request(&start_subject, &start), client.request(&start_subject, &rotated));
    let took = began.elapsed();
    for answer in [&first, &second] {
        assert_eq!((state(answer), message(answer)), ("STARTING", "Workload is Starting"));
    }
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(state(&client.request(&subject("status"), &id).await), "STARTING");
    let waiting = tokio::spawn({
        let (client, start, subject) = (client.clone(), start.clone(), subject("start"));
        async move { client.request(&subject, &start).await }
    });
    gate.send_replace(true);
    let third = waiting.await.expect("it does not panic");
    assert!(["RUNNING", "STARTING"].contains(&state(&third)), "{third}");
    eventually("it runs", PATIENCE, async || {
        (state(&client.request(&subject("status"), &id).await) == "RUNNING").then_some(())
    })
    .await;
    let mut pulled = registry.asked_for("/");
    let all = pulled.len();
    pulled.retain(|path| path != "/v2/");
    pulled.sort();
    pulled.dedup();
    let again = registry.asked_for("/").into_iter().filter(|path| path != "/v2/").count();
    assert_eq!(pulled.len(), again, "of {all} requests none was made twice: {:?}", registry.asked_for("/"));
    assert_eq!(state(&client.request(&subject("start"), &start).await), "RUNNING");
    assert_eq!(state(&client.request(&subject("stop"), &id).await), "STOPPING");
    washlet.finish().await;
}
