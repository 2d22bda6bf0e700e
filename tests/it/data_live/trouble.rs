//! A server that is not there, goes away or says nothing.

use std::time::{Duration, Instant};

use super::{CONNECTED, Host, memory, nats};
use crate::support::nats::JETSTREAM;
use crate::support::{NatsServer, PATIENCE, eventually, http};

async fn is_in_state(host: &Host, state: &str) {
    eventually("the state of the plugin", PATIENCE, async || (host.plugin().await["state"] == state).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_after_the_host_is_used_once_it_is_there() {
    let mut server = NatsServer::down(JETSTREAM);
    let mut host = Host::start(&nats(&server, "")).await;
    host.process.allow_log("cannot connect to NATS, trying on");
    assert_eq!(host.plugin().await["state"], "connecting");
    let (status, text) = host.post("/b/get/k", "").await;
    assert_eq!((status, text.as_str()), (500, "other: there is no connection to the store"));
    server.up().await;
    is_in_state(&host, "ready").await;
    assert_eq!(host.post("/b/set/k", "v").await, (200, "ok".to_owned()));

    host.process.allow_log("lost the connection to NATS");
    server.stop().await;
    is_in_state(&host, "down").await;
    let error = host.plugin().await["error"].to_string();
    assert!(error.contains("NATS at 127.0.0.1"), "{error}");
    server.up().await;
    is_in_state(&host, "ready").await;
    assert_eq!(host.post("/b/get/k", "").await, (200, "v".to_owned()), "no restart is needed");
    host.process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_or_keeps_no_buckets_refuses_the_reload() {
    let absent = NatsServer::down("");
    let without = NatsServer::start("").await;
    let mut host = Host::start(&memory()).await;
    assert_eq!(host.post("/b/set/k", "v").await.0, 200);
    let error = host.refuse(&nats(&absent, "")).await;
    assert!(error.contains("nats.data: the new connection cannot be made: cannot connect to NATS at"), "{error}");
    let error = host.refuse(&nats(&without, "")).await;
    assert!(error.contains("wasi-keyvalue: nats.data has no JetStream"), "{error}");
    assert_eq!(host.post("/b/get/k", "").await, (200, "v".to_owned()), "the old store serves");
    host.process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_on_a_store_that_says_nothing_is_cut_at_the_deadline_and_counted() {
    let server = NatsServer::start(JETSTREAM).await;
    let drain = "drain.timeout = \"1s\"\ndrain.lame_duck = \"0s\"\n";
    let mut host = Host::start(&format!("{drain}{}", nats(&server, ""))).await;
    host.process.wait_for_message(CONNECTED).await;
    assert_eq!(host.post("/b/set/k", "v").await.0, 200);
    host.process.allow_log("calls on a replaced backend were cut");
    host.process.allow_log("the old connection of the data plane did not close in time");
    host.process.allow_log("work in flight of a replaced part was cut at its deadline");
    server.freeze();
    let addr = host.addr();
    let begun = Instant::now();
    let call = tokio::spawn(http::send(addr, http::request("POST", "kv.test", "/b/get/k", http::full(""))));
    eventually("the call is under way", PATIENCE, async || {
        let status = host.admin("/status").await;
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        (status["workloads"][0]["in_flight"] == 1).then_some(())
    })
    .await;
    host.apply(&format!("{drain}{}", memory())).await;
    assert_eq!(host.post("/b/get/k", "").await.0, 404, "new calls go to the new store");
    let answer = call.await.expect("no panic");
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("replaced"), "{}", answer.text());
    assert!(begun.elapsed() < Duration::from_secs(4), "not the time of an operation: {:?}", begun.elapsed());
    host.is_retired().await;
    assert!(host.forced().await >= 1.0);
    host.process.finish().await;
}
