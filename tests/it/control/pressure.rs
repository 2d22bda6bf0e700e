//! What an operator and clients see while starts and guests take all cores, and while NATS is away.
//!
//! `WASHLET_TEST_STARTS`, `WASHLET_TEST_P99_MS` and `WASHLET_TEST_OUTAGE_SECONDS` make these as hard as they are meant for
//! an optimised build on a machine of its own.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{HEARTBEATS, Joined, example, message, state};
use crate::support::{Load, NatsServer, PATIENCE, Registry, eventually, http, quiet};

/// Starts at once; two of fifteen are of a component that was never seen.
const STARTS: u64 = 60;
/// Of a debug build that shares its cores with other tests.
const P99_MS: u64 = 100;
const OUTAGE_SECONDS: u64 = 5;
/// From the return of the server to the first heartbeat.
const RETURN_MAX: Duration = Duration::from_secs(2);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[expect(clippy::print_stdout, reason = "whoever measures reads it, with --nocapture")]
fn tell(text: &str) {
    println!("{text}");
}

/// The fixture with a custom section: another component that is compiled anew and does the same.
fn variant(wasm: &[u8], number: u64) -> Vec<u8> {
    let name = format!("variant-{number}-{}", std::process::id());
    let length = u8::try_from(name.len()).expect("a short name");
    assert!(length < 127, "one byte says how long it is");
    let mut wasm = wasm.to_vec();
    wasm.extend([0, length + 1, length]);
    wasm.extend(name.as_bytes());
    wasm
}

fn start(id: &str, image: &str) -> serde_json::Value {
    let mut start = example("request_workload_start_minimal.json");
    start["workloadId"] = json!(id);
    start["workload"]["name"] = json!(id);
    start["workload"]["witWorld"]["components"][0]["image"] = json!(image);
    start["workload"]["witWorld"]["hostInterfaces"][0]["config"]["host"] = json!(format!("{id}.test"));
    start
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_answered_at_once_while_many_start_and_guests_take_all_cores() {
    let _quiet = quiet().await;
    let starts = number("WASHLET_TEST_STARTS", STARTS);
    let cold = (starts * 2 / 15).max(1);
    let nats = NatsServer::start("").await;
    let host = Joined::start(nats.client().await, &nats.url(), "1s").await;
    let registry = Registry::shared();
    let wasm = std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture");
    registry.push("pressure-warm", "1", wasm.clone()).await;
    for number in 0..cold {
        registry.push("pressure-cold", &number.to_string(), variant(&wasm, number)).await;
    }
    let spinner = start("spinner", &registry.image("pressure-warm", "1"));
    assert_eq!(state(&host.ask("workload.start", spinner.to_string()).await), "RUNNING");
    let addr = ([127, 0, 0, 1], host.http_port).into();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let spinning: Vec<_> = (0..cores)
        .map(|_| tokio::spawn(http::try_send(addr, http::request("GET", "spinner.test", "/spin", http::full("")))))
        .collect();

    let mut heartbeats = host.client.subscribe(HEARTBEATS).await;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..starts {
        let image = match number.checked_sub(starts - cold) {
            Some(number) => registry.image("pressure-cold", &number.to_string()),
            None => registry.image("pressure-warm", "1"),
        };
        let (client, subject) = (host.client.clone(), host.subject("workload.start"));
        let request = start(&format!("w{number}"), &image).to_string();
        asked.spawn(async move { client.request_bytes(&subject, request).await });
    }
    let (mut waits, began) = (Vec::new(), Instant::now());
    while !asked.is_empty() {
        let question = Instant::now();
        assert_eq!(host.ask("heartbeat", "{}").await["id"], host.id);
        waits.push(question.elapsed());
        // Those that were answered meanwhile: in time, if not yet with their end.
        while let Some(answer) = asked.try_join_next() {
            let answer = answer.expect("it does not panic");
            assert!(["RUNNING", "STARTING"].contains(&state(&answer)), "{answer}: {}", message(&answer));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answered = began.elapsed();
    for number in 0..starts {
        let id = json!({ "workloadId": format!("w{number}") }).to_string();
        eventually("it runs", PATIENCE * 6, async || {
            let question = Instant::now();
            let answer = host.ask("workload.status", id.clone()).await;
            waits.push(question.elapsed());
            (state(&answer) == "RUNNING").then_some(())
        })
        .await;
    }
    for _ in 0..began.elapsed().as_secs().min(5) {
        heartbeats.next(Duration::from_millis(2500)).await;
    }
    waits.sort();
    let p99 = waits[(waits.len() * 99 / 100).min(waits.len() - 1)];
    let limit = Duration::from_millis(number("WASHLET_TEST_P99_MS", P99_MS));
    tell(&format!(
        "{starts} starts ({cold} cold) answered in {answered:?}, {} questions, p99 {p99:?}, longest {:?}",
        waits.len(),
        waits.last()
    ));
    assert!(p99 <= limit, "p99 {p99:?} of {}, longest {:?}", waits.len(), waits.last());
    assert!(spinning.iter().all(|guest| !guest.is_finished()), "the guests span all the time");
    spinning.iter().for_each(tokio::task::JoinHandle::abort);
    for id in (0..starts).map(|number| format!("w{number}")).chain(["spinner".to_owned()]) {
        host.ask("workload.stop", json!({ "workloadId": id }).to_string()).await;
    }
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_served_while_nats_is_away_and_heartbeats_are_back_with_it() {
    let outage = Duration::from_secs(number("WASHLET_TEST_OUTAGE_SECONDS", OUTAGE_SECONDS));
    let mut nats = NatsServer::start("").await;
    let mut host = Joined::start(nats.client().await, &nats.url(), "1s").await;
    host.washlet.allow_log("lost the connection to NATS");
    host.washlet.allow_log("cannot connect to NATS, trying on");
    let registry = Registry::shared();
    registry.push("outage-http2", "1", std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    let request = start("served", &registry.image("outage-http2", "1"));
    assert_eq!(state(&host.ask("workload.start", request.to_string()).await), "RUNNING");
    let load = Load::start(([127, 0, 0, 1], host.http_port).into(), "served.test", "/", 2);
    load.wait_for_more(20).await;

    nats.stop().await;
    host.washlet.wait_for_message("lost the connection to NATS").await;
    let (before, away) = (load.stats().ok, Instant::now());
    while away.elapsed() < outage {
        load.wait_for_more(10).await;
    }
    assert!(load.stats().ok > before);
    nats.up().await;
    let back = Instant::now();
    let client = nats.client().await;
    let (_, heartbeat) = client.subscribe(HEARTBEATS).await.next(PATIENCE).await;
    let took = back.elapsed();
    assert_eq!(heartbeat["id"], host.id);
    assert!(took <= RETURN_MAX, "the first heartbeat came {took:?} after the return");
    tell(&format!("after {:?} without NATS the first heartbeat came in {took:?}", away.elapsed()));
    let id = json!({ "workloadId": "served" }).to_string();
    assert_eq!(state(&client.request_bytes(&host.subject("workload.status"), id.clone()).await), "RUNNING");
    load.wait_for_more(20).await;
    let stats = load.stop().await;
    assert_eq!((stats.failed, &stats.first_failure), (0, &None), "{stats:?}");
    assert_eq!(state(&client.request_bytes(&host.subject("workload.stop"), id).await), "STOPPING");
    host.washlet.finish().await;
}
