//! Every request that the contract shows, and what an operator hears while guests take all cores.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::control::{HEARTBEATS, Joined, example, message, state};
use crate::support::{NatsServer, PATIENCE, Registry, eventually, http, quiet};

/// Questions asked while the guests spin.
const QUESTIONS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_contract_is_answered_as_it_says() {
    let nats = NatsServer::start("").await;
    let mut host = Joined::start(nats.client().await, &nats.url(), "15s").await;
    host.washlet.allow_log("workload failed to start");
    let registry = Registry::shared();
    registry.push("contract-http2", "1", std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    let image = json!(registry.image("contract-http2", "1"));

    assert_eq!(host.ask("heartbeat", example("request_heartbeat.json").to_string()).await["id"], host.id);

    // The id of the examples for status and stop is that of the smallest start.
    let status = example("request_workload_status.json").to_string();
    let stop = example("request_workload_stop.json").to_string();
    assert_eq!(state(&host.ask("workload.status", status.clone()).await), "NOT_FOUND");
    let mut minimal = example("request_workload_start_minimal.json");
    minimal["workload"]["witWorld"]["components"][0]["image"] = image.clone();
    assert_eq!(host.ask("workload.start", minimal.to_string()).await, example("reply_start_running.json"));
    assert_eq!(host.get("hello.localhost.direct", "/").await.status, 200);
    assert_eq!(host.ask("workload.status", status.clone()).await, example("reply_status_running.json"));
    assert_eq!(host.ask("workload.stop", stop).await, example("reply_stop_stopping.json"));
    is_forgotten(&host, &status).await;
    let nameless = example("request_workload_stop_empty_id.json").to_string();
    assert_eq!(state(&host.ask("workload.stop", nameless).await), "NOT_FOUND");

    let mut empty = example("request_workload_start_empty_world.json");
    if empty["workloadId"].is_null() {
        empty["workloadId"] = json!("empty");
    }
    let started = host.ask("workload.start", empty.to_string()).await;
    assert_eq!((state(&started), message(&started)), ("RUNNING", "Workload started successfully"));

    // The full one asks for a directory of the machine, which no operator gets unless it is allowed: read in whole, and
    // refused with the reason.
    let mut full = example("request_workload_start_full.json");
    full["workload"]["witWorld"]["components"][0]["image"] = image;
    let refused = host.ask("workload.start", full.to_string()).await;
    assert_eq!(state(&refused), "ERROR", "{refused}");
    assert_eq!(message(&refused), "HostPath volume '/etc/orders/certs' is not allowed on this host");
    let id = json!({ "workloadId": full["workloadId"] }).to_string();
    let kept = host.ask("workload.status", id.clone()).await;
    assert_eq!(message(&kept), format!("Workload is Error: {}", message(&refused)));
    assert_eq!(state(&host.ask("workload.stop", id.clone()).await), "STOPPING");
    assert_eq!(state(&host.ask("workload.status", id).await), "NOT_FOUND");
    let id = json!({ "workloadId": empty["workloadId"] }).to_string();
    assert_eq!(state(&host.ask("workload.stop", id.clone()).await), "STOPPING");
    is_forgotten(&host, &id).await;
    host.washlet.finish().await;
}

/// A stop has ended.
async fn is_forgotten(host: &Joined, status: &str) {
    eventually("the stopped workload is forgotten", PATIENCE, async || {
        (state(&host.ask("workload.status", status.to_owned()).await) == "NOT_FOUND").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_take_all_cores_delay_no_heartbeat_and_no_answer() {
    let _quiet = quiet().await;
    let nats = NatsServer::start("").await;
    let host = Joined::start(nats.client().await, &nats.url(), "1s").await;
    let registry = Registry::shared();
    registry.push("spin-http2", "1", std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    let mut start = example("request_workload_start_minimal.json");
    start["workload"]["witWorld"]["components"][0]["image"] = json!(registry.image("spin-http2", "1"));
    assert_eq!(state(&host.ask("workload.start", start.to_string()).await), "RUNNING");
    let id = json!({ "workloadId": start["workloadId"] }).to_string();

    let addr = ([127, 0, 0, 1], host.http_port).into();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let spinning: Vec<_> = (0..2 * cores)
        .map(|_| {
            let request = http::request("GET", "hello.localhost.direct", "/spin", http::full(""));
            tokio::spawn(http::try_send(addr, request))
        })
        .collect();
    let mut heartbeats = host.client.subscribe(HEARTBEATS).await;
    let mut waits = Vec::with_capacity(2 * QUESTIONS);
    let began = Instant::now();
    for _ in 0..QUESTIONS {
        for (command, request) in [("workload.status", id.as_str()), ("heartbeat", "{}")] {
            let asked = Instant::now();
            let answer = host.ask(command, request.to_owned()).await;
            waits.push(asked.elapsed());
            assert!(state(&answer) == "RUNNING" || answer["id"] == host.id, "{answer}");
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let beats = began.elapsed().as_secs();
    for _ in 0..beats {
        heartbeats.next(Duration::from_millis(1500)).await;
    }
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100 - 1];
    assert!(p99 < Duration::from_millis(100), "p99 {p99:?}, longest {:?}", waits.last());
    assert!(spinning.iter().all(|guest| !guest.is_finished()), "the guests span all the time");
    for guest in spinning {
        guest.abort();
    }
    assert_eq!(state(&host.ask("workload.stop", id.clone()).await), "STOPPING");
    is_forgotten(&host, &id).await;
    host.washlet.finish().await;
}
