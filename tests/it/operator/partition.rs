//! Stories of a network that loses things: a reply, or a host for a while.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Fleet, hello};
use crate::support::nats::NatsClient;
use crate::support::{FakeServer, PATIENCE, Proxy, eventually, http};

async fn ask(client: &NatsClient, host: &str, command: &str, workload: &str) -> Value {
    client.request(&format!("runtime.host.{host}.{command}"), &json!({ "workloadId": workload })).await
}

fn state(answer: &Value) -> &str {
    answer["workloadStatus"]["workloadState"].as_str().unwrap_or_default().trim_start_matches("WORKLOAD_STATE_")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_reply_was_lost_is_asked_for_again_and_is_still_one_workload() {
    let fleet = Fleet::new(1).await;
    let host = fleet.host(0).await;
    fleet.operator.schedulable(1).await;
    fleet.operator.lose_first_replies();
    let wasm = std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture");
    let registry = FakeServer::flaky_registry(wasm.into(), 0).await;
    let mut template = hello("1").await;
    template.image = format!("{}/lost/reply:1", registry.addr());
    fleet.operator.deploy("app", 3, template);
    fleet.operator.ready("app").await;
    let log = fleet.operator.log();
    assert_eq!((log.starts.len(), log.replaced), (3, 0), "{log:?}");
    assert!(log.starts.values().all(|starts| *starts == 2), "each was asked for twice: {log:?}");
    let client = fleet.nats.client().await;
    let heartbeat = client.request(&format!("runtime.host.{}.heartbeat", fleet.id_of(0)), &json!({})).await;
    assert_eq!((&heartbeat["workloadCount"], &heartbeat["componentCount"]), (&json!("3"), &json!("3")));
    let mut blobs = registry.asked_for("/blobs/");
    let asked = blobs.len();
    blobs.sort();
    blobs.dedup();
    assert_eq!(asked, blobs.len(), "nothing was pulled twice");
    fleet.was_well_served();
    fleet.end(vec![host]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_cut_off_for_long_serves_on_and_what_was_replaced_meanwhile_ends_by_a_stop() {
    let fleet = Fleet::new(2).await;
    let network = Proxy::start(fleet.nats.port()).await;
    let mut cut_off = fleet.host_by(0, &network.url()).await;
    let staying = fleet.host(1).await;
    cut_off.allow_log("lost the connection to NATS");
    cut_off.allow_log("cannot connect to NATS");
    fleet.operator.schedulable(2).await;
    fleet.operator.deploy("app", 4, hello("1").await);
    fleet.operator.ready("app").await;
    let (near, far) = (fleet.id_of(1), fleet.id_of(0));
    let before = fleet.operator.replicas("app");
    let theirs: Vec<String> =
        before.iter().filter(|(_uid, host)| **host == far).map(|(uid, _host)| uid.clone()).collect();
    assert!(!theirs.is_empty() && theirs.len() < 4, "{before:?}");

    // For a moment: nobody is the worse for it.
    network.cut();
    cut_off.wait_for_message("lost the connection to NATS").await;
    network.mend();
    cut_off.mark();
    fleet.operator.schedulable(2).await;
    fleet.operator.ready("app").await;
    assert_eq!(fleet.operator.replicas("app"), before);

    // For longer than the operator's patience: its replicas are placed elsewhere, and it serves on, not knowing.
    network.cut();
    eventually("the operator gives the host up", PATIENCE, async || {
        (fleet.operator.log().lost_hosts == 1).then_some(())
    })
    .await;
    fleet.operator.ready("app").await;
    let after = fleet.operator.replicas("app");
    assert!(after.values().all(|host| *host == near), "{after:?}");
    assert!(theirs.iter().all(|uid| !after.contains_key(uid)), "they are others: {after:?}");
    assert_eq!(http::get(fleet.addrs()[0], "app.test", "/").await.status, 200);

    // Back again it is given work as before. The operator has forgotten what it had there, and tells it nothing: that
    // goes on until somebody stops it.
    network.mend();
    fleet.operator.schedulable(2).await;
    let client = fleet.nats.client().await;
    for uid in &theirs {
        assert_eq!(state(&ask(&client, &far, "workload.status", uid).await), "RUNNING");
        assert_eq!(state(&ask(&client, &near, "workload.status", uid).await), "NOT_FOUND");
        assert_eq!(state(&ask(&client, &far, "workload.stop", uid).await), "STOPPING");
    }
    for uid in &theirs {
        eventually("it is stopped", PATIENCE, async || {
            (state(&ask(&client, &far, "workload.status", uid).await) == "NOT_FOUND").then_some(())
        })
        .await;
    }
    fleet.operator.deploy("other", 2, hello("1").await);
    fleet.operator.ready("other").await;
    let placed: Vec<String> = fleet.operator.replicas("other").into_values().collect();
    assert!(placed.contains(&far), "{placed:?}");
    let log = fleet.operator.log();
    assert_eq!((log.lost_hosts, log.undecodable.len()), (1, 0), "{log:?}");
    assert!(log.longest_request < Duration::from_secs(6), "{:?}", log.longest_request);
    fleet.end(vec![cut_off, staying]).await;
}
