//! Messages over NATS: who gets what, who may send where, and what a stop and a lost connection do to them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::client::RequestErrorKind;

use super::{messages, over};
use crate::support::http::full;
use crate::support::nats::{NatsClient, NatsSubscription};
use crate::support::standalone::config;
use crate::support::{NatsServer, PATIENCE, Standalone, eventually};

async fn next(out: &mut NatsSubscription) -> String {
    String::from_utf8(out.next_message(PATIENCE).await.payload.to_vec()).expect("a text")
}

pub(super) async fn ask(client: &NatsClient, subject: &str, body: &str) -> String {
    let answer = client.try_request(subject, body.to_owned(), PATIENCE).await.expect("an answer");
    String::from_utf8(answer.to_vec()).expect("a text")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_the_handler_from_the_moment_the_workload_runs() {
    let server = NatsServer::start("").await;
    let client = server.client().await;
    let host = Standalone::start(&over(&server), &[messages("m", "orders.*, all.>", "")]).await;
    assert_eq!(ask(&client, "orders.1", "hello").await, "hello");
    assert_eq!(ask(&client, "all.a.b.c", "hello").await, "hello");
    let nobody = client.try_request("orders.1.2", "hello", PATIENCE).await;
    assert_eq!(nobody.unwrap_err(), RequestErrorKind::NoResponders);
    // A guest asks as well, and is told what it may not.
    assert_eq!(ask(&client, "orders.1", "request all.x 5000\nfrom a guest").await, "from a guest");
    assert_eq!(ask(&client, "orders.1", "request nobody 5000").await, "error: failed to send request: no responders");
    let denied = ask(&client, "orders.1", "publish _INBOX.elsewhere").await;
    assert_eq!(denied, "error: access denied: subject \"_INBOX.elsewhere\" is reserved by the host");
    let mut out = client.subscribe("out").await;
    assert_eq!(host.send("POST", "m.test", "/publish/out", full("from http")).await.text(), "ok");
    assert_eq!(next(&mut out).await, "from http");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_group_shares_messages_and_others_get_their_own_copy() {
    let server = NatsServer::start("").await;
    let client = server.client().await;
    let mut out = client.subscribe("out").await;
    let shared = ", consumer_group = \"shared\"";
    let workloads = [messages("a", "in", shared), messages("b", "in", shared), messages("c", "in", "")];
    let host = Standalone::start(&over(&server), &workloads).await;
    for number in 0..50 {
        client.publish("in", format!("publish out\n{number}")).await;
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..100 {
        *counts.entry(next(&mut out).await).or_default() += 1;
    }
    assert_eq!(counts.len(), 50);
    assert!(counts.values().all(|count| *count == 2), "{counts:?}");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_that_are_denied_or_no_subjects_keep_a_workload_from_starting() {
    let server = NatsServer::start("").await;
    let workloads = [
        messages("denied", "ok, runtime.*.x", ""),
        messages("everything", ">", ""),
        messages("wrong", "a b", ""),
        messages("group", "a", ", consumer_group = \"x.>\""),
    ];
    let process = crate::support::TestProcess::start(&config(&over(&server), &workloads));
    for (name, reason) in [
        ("denied", "access denied: subscription 'runtime.*.x' overlaps 'runtime.>', which the host reserves"),
        ("everything", "access denied: subscription '>' overlaps 'runtime.>', which the host reserves"),
        ("wrong", "subscription 'a b' is not a NATS subject"),
        ("group", "consumer_group 'x.>' is not the name of a queue group"),
    ] {
        let of = format!("static/default/{name}");
        let failed = process.wait_for_log(|line| line.field("workload.id").as_deref() == Some(&of)).await;
        assert_eq!(failed.message(), "workload failed to start");
        let error = failed.field("error").unwrap_or_default();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_unsubscribes_and_lets_what_was_received_end() {
    let server = NatsServer::start("").await;
    let client = server.client().await;
    let mut out = client.subscribe("out").await;
    let stays = messages("stays", "other", "");
    let settings = format!("{}reload.allow_mass_removal = true\n", over(&server));
    let mut host = Standalone::start(&settings, &[messages("goes", "in", ""), stays.clone()]).await;
    for number in 0..5 {
        client.publish("in", format!("print begun {number}\nsleep 300\npublish out\n{number}")).await;
    }
    host.process.wait_for_log(|line| line.contains("print begun")).await;
    host.process.rewrite_config(&config(&settings, &[stays]));
    let mut ended = Vec::new();
    for _ in 0..5 {
        ended.push(next(&mut out).await);
    }
    ended.sort();
    assert_eq!(ended, ["0", "1", "2", "3", "4"]);
    eventually("nobody is subscribed", PATIENCE, async || {
        let answer = client.try_request("in", "", Duration::from_secs(1)).await;
        (answer == Err(RequestErrorKind::NoResponders)).then_some(())
    })
    .await;
    assert_eq!(ask(&client, "other", "hello").await, "hello");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_subscribes_again_by_itself() {
    let mut server = NatsServer::start("").await;
    let mut host = Standalone::start(&over(&server), &[messages("m", "in", "")]).await;
    host.process.allow_log("lost the connection to NATS");
    host.process.allow_log("cannot connect to NATS");
    server.stop().await;
    host.process.wait_for_message("lost the connection to NATS").await;
    let down = host.send("POST", "m.test", "/publish/out", full("x")).await;
    assert_eq!(down.text(), "error: the message broker is not connected");
    server.up().await;
    let client = server.client().await;
    eventually("the handler answers again", PATIENCE, async || {
        client.try_request("in", "hello", Duration::from_secs(1)).await.ok()
    })
    .await;
    host.finish().await;
}
