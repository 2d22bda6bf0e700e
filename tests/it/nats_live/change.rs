//! Another server: no command is lost or carried out twice, no heartbeat is missed.

use std::time::Duration;

use serde_json::json;

use super::traffic::{Heartbeats, Traffic};
use super::{HEARTBEATS, apply, config, edit, join, refuse, serves, state, with_url};
use crate::support::nats::NatsClient;
use crate::support::{NatsServer, PATIENCE, TestProcess, eventually, free_port};

const SWITCHES: usize = 20;
/// Heartbeats come each second; a second more is granted.
const GAP_MAX: Duration = Duration::from_secs(2);

/// Two servers that know of each other.
async fn cluster() -> (NatsServer, NatsServer) {
    let (one, two) = (free_port(), free_port());
    let text = |own: u16, other: u16| {
        format!("cluster {{ name: c, listen: \"127.0.0.1:{own}\", routes: [\"nats://127.0.0.1:{other}\"] }}")
    };
    let a = NatsServer::start(&text(one, two)).await;
    let b = NatsServer::start(&text(two, one)).await;
    let (near, far) = (a.client().await, b.client().await);
    let mut heard = near.subscribe("is.there.a.route").await;
    eventually("the servers found each other", PATIENCE, async || {
        far.publish("is.there.a.route", "1").await;
        let message = tokio::time::timeout(Duration::from_millis(50), heard.next_message(PATIENCE));
        message.await.ok().map(drop)
    })
    .await;
    (a, b)
}

/// The generation that runs, once nothing of the older ones is left.
async fn generation(client: &NatsClient, id: &str) -> u64 {
    let subject = format!("runtime.host.{id}.config.status");
    eventually("the old connections are gone", PATIENCE, async || {
        let status = client.request_bytes(&subject, "").await;
        (status["config"]["retiring"] == 0).then(|| status["config"]["generation"].as_u64()).flatten()
    })
    .await
}

/// How many files and sockets it has open.
fn open_files(washlet: &TestProcess) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", washlet.id())).expect("a process of ours").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn between_servers_of_a_cluster_nothing_is_lost_doubled_or_unanswered() {
    let (a, b) = cluster().await;
    let (mut washlet, id) = join(&with_url(&a.url()), &a.client().await).await;
    let heartbeats = Heartbeats::watch(&[&a.url()]).await;
    let files = open_files(&washlet);
    let traffic =
        [Traffic::start(&a.url(), &id).await, Traffic::start(&a.url(), &id).await, Traffic::start(&b.url(), &id).await];
    for i in 1..=SWITCHES {
        let server = if i % 2 == 0 { &a } else { &b };
        apply(&mut washlet, &with_url(&server.url())).await;
        for traffic in &traffic {
            traffic.go_on(6).await;
        }
    }
    for traffic in traffic {
        let answers = traffic.finish().await;
        answers.assert_exact();
        assert_eq!(answers.no_responders, 0, "somebody was there all the time");
    }
    assert!(heartbeats.longest_gap() <= GAP_MAX, "{:?}", heartbeats.longest_gap());
    assert_eq!(generation(&a.client().await, &id).await, SWITCHES as u64 + 1);
    eventually("the old connections are closed", PATIENCE, async || (open_files(&washlet) <= files).then_some(()))
        .await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_servers_that_know_nothing_of_each_other_every_question_is_answered_once() {
    let (a, b) = (NatsServer::start("").await, NatsServer::start("").await);
    let (mut washlet, id) = join(&with_url(&a.url()), &a.client().await).await;
    let heartbeats = Heartbeats::watch(&[&a.url(), &b.url()]).await;
    let traffic = [Traffic::start(&a.url(), &id).await, Traffic::start(&b.url(), &id).await];
    for i in 1..=SWITCHES {
        let (server, traffic) = if i % 2 == 0 { (&a, &traffic[0]) } else { (&b, &traffic[1]) };
        apply(&mut washlet, &with_url(&server.url())).await;
        traffic.go_on(6).await;
    }
    for traffic in traffic {
        traffic.finish().await.assert_exact();
    }
    // What was started by one server and could not be stopped there.
    washlet.allow_log("not drained within drain.timeout");
    assert!(heartbeats.longest_gap() <= GAP_MAX, "{:?}", heartbeats.longest_gap());
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_under_way_is_answered_where_it_came_from() {
    let (a, b) = (NatsServer::start("").await, NatsServer::start("").await);
    let (mut washlet, id) = join(&with_url(&a.url()), &a.client().await).await;
    let registry = crate::support::FakeServer::hanging().await;
    let start = json!({"workloadId": "w", "workload": {"namespace": "n", "name": "w", "witWorld": {"components": [
        {"name": "c", "image": format!("{}/hang:1", registry.addr())}]}}});
    let asking = tokio::spawn({
        let (client, subject) = (a.client().await, format!("runtime.host.{id}.workload.start"));
        async move { client.request(&subject, &start).await }
    });
    eventually("the registry is asked", PATIENCE, async || (registry.requests() > 0).then_some(())).await;
    apply(&mut washlet, &with_url(&b.url())).await;
    let client = b.client().await;
    let ask = async |command: &str| {
        client.request(&format!("runtime.host.{id}.workload.{command}"), &json!({"workloadId": "w"})).await
    };
    assert_eq!(state(&ask("status").await), "STARTING");
    assert_eq!(state(&ask("stop").await), "STOPPING");
    let answer = asking.await.expect("it does not panic");
    assert_eq!(answer["workloadStatus"]["message"], "Workload was stopped while starting");
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_changes_nothing_until_it_is() {
    let a = NatsServer::start("").await;
    let mut b = NatsServer::down("");
    let (mut washlet, id) = join(&with_url(&a.url()), &a.client().await).await;
    let error = refuse(&mut washlet, &with_url(&b.url())).await;
    assert!(error.contains("nats.scheduler: the new connection cannot be made: cannot connect to NATS at"), "{error}");
    serves(&a.client().await, &id).await;
    b.up().await;
    // It is tried again by itself.
    washlet.wait_for_message(super::APPLIED).await;
    serves(&b.client().await, &id).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_left_behind() {
    let (mut a, b) = (NatsServer::start("").await, NatsServer::start("").await);
    let (mut washlet, id) = join(&with_url(&a.url()), &a.client().await).await;
    washlet.allow_log("cannot connect to NATS");
    washlet.allow_log("lost the connection to NATS");
    a.stop().await;
    washlet.wait_for_message("lost the connection to NATS").await;
    apply(&mut washlet, &with_url(&b.url())).await;
    serves(&b.client().await, &id).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_can_go_and_come_back() {
    let nats = NatsServer::start("").await;
    let client = nats.client().await;
    let (mut washlet, id) = join(&with_url(&nats.url()), &client).await;
    let ask = async |command: &str, request: serde_json::Value| {
        client.request(&format!("runtime.host.{id}.workload.{command}"), &request).await
    };
    let start = json!({"workloadId": "w", "workload": {"namespace": "n", "name": "w"}});
    assert_eq!(state(&ask("start", start.clone()).await), "RUNNING");

    let guarded = refuse(&mut washlet, "[host]\ngroup = \"alone\"\n").await;
    assert!(guarded.contains("nats.scheduler is live and gone from the new file"), "{guarded}");
    let applied = edit(&mut washlet, "[reload]\nallow_mass_removal = true\n").await;
    assert!(applied.field("changed").unwrap_or_default().contains("nats.scheduler(reconnect)"), "{applied}");
    washlet.wait_for_message("workload stopped").await;
    eventually("nobody answers any more", PATIENCE, async || {
        let answer = client.try_request(&format!("runtime.host.{id}.workload.status"), "{}", PATIENCE).await;
        (answer == Err(async_nats::client::RequestErrorKind::NoResponders)).then_some(())
    })
    .await;
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    apply(&mut washlet, &with_url(&nats.url())).await;
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    assert_eq!((&heartbeat["id"], &heartbeat["workloadCount"]), (&json!(id), &json!(null)));
    assert_eq!(state(&ask("start", start).await), "RUNNING");
    assert_eq!(state(&ask("stop", json!({"workloadId": "w"})).await), "STOPPING");
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_only_tried_is_left_without_a_loss() {
    let (a, b) = cluster().await;
    let quiet = |url: &str| format!("{}watch = false\npoll_interval = \"0s\"\n", with_url(url));
    let client = a.client().await;
    let (mut washlet, id) = join(&quiet(&a.url()), &client).await;
    let heartbeats = Heartbeats::watch(&[&a.url()]).await;
    let files = open_files(&washlet);
    let traffic = [Traffic::start(&a.url(), &id).await, Traffic::start(&b.url(), &id).await];
    washlet.rewrite_config(&quiet(&b.url()));
    for _ in 0..SWITCHES {
        let checked = client.request_bytes(&format!("runtime.host.{id}.config.check"), "").await;
        assert!(checked.to_string().contains("nats.scheduler.urls"), "{checked}");
        traffic[0].go_on(6).await;
        traffic[1].go_on(6).await;
    }
    for traffic in traffic {
        let answers = traffic.finish().await;
        answers.assert_exact();
        assert_eq!(answers.no_responders, 0, "somebody was there all the time");
    }
    assert!(heartbeats.longest_gap() <= GAP_MAX, "{:?}", heartbeats.longest_gap());
    assert_eq!(generation(&client, &id).await, 1);
    eventually("nothing is left of them", PATIENCE, async || (open_files(&washlet) <= files).then_some(())).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_numbers_change_without_another_connection() {
    let nats = NatsServer::start("").await;
    let client = nats.client().await;
    let (mut washlet, id) = join(&with_url(&nats.url()), &client).await;
    let text = config(&format!("urls = [\"{}\"]\nstart_reply_wait = \"3s\"", nats.url()));
    apply(&mut washlet, &text).await;
    serves(&client, &id).await;
    let switched = washlet.log_lines().iter().any(|line| line.message().starts_with("switched"));
    assert!(!switched, "the connection stays");
    washlet.finish().await;
}
