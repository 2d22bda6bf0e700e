//! Who the host says it is: wrong, put right, rotated, and what it may not do.

use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::client::RequestErrorKind;
use nkeys::KeyPair;
use serde_json::json;

use super::traffic::{Heartbeats, Traffic};
use super::{APPLIED, HEARTBEATS, apply, config, join, outcome, refuse, serves};
use crate::support::nats::NatsClient;
use crate::support::{NatsServer, PATIENCE, TestProcess};

/// Users of whom the first is the test's operator.
fn users(others: &str) -> String {
    format!("authorization {{ users: [ {{ user: op, password: op }}\n{others} ] }}")
}

async fn operator(nats: &NatsServer) -> NatsClient {
    nats.client_with(ConnectOptions::with_user_and_password("op".to_owned(), "op".to_owned())).await
}

fn operator_url(nats: &NatsServer) -> String {
    nats.url().replace("nats://", "nats://op:op@")
}

fn login(nats: &NatsServer, lines: &str) -> String {
    config(&format!("urls = [\"{}\"]\n{lines}", nats.url()))
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_while_the_old_connection_serves() {
    let nats = NatsServer::start(&users("{ user: one, password: canary-1 }, { user: two, password: canary-2 }")).await;
    let client = operator(&nats).await;
    let (mut washlet, id) = join(&login(&nats, "user = \"one\"\npassword = \"canary-1\""), &client).await;
    let heartbeats = Heartbeats::watch(&[&operator_url(&nats)]).await;
    let traffic = Traffic::start(&operator_url(&nats), &id).await;
    let error = refuse(&mut washlet, &login(&nats, "user = \"two\"\npassword = \"canary-3\"")).await;
    assert!(error.contains("as two: authorization violation"), "{error}");
    traffic.go_on(50).await;
    apply(&mut washlet, &login(&nats, "user = \"two\"\npassword = \"canary-2\"")).await;
    traffic.go_on(50).await;
    let answers = traffic.finish().await;
    answers.assert_exact();
    assert_eq!(answers.no_responders, 0);
    assert!(heartbeats.longest_gap() <= Duration::from_secs(2), "{:?}", heartbeats.longest_gap());
    assert!(!washlet.stderr().contains("canary"), "a password is in the log");
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_wrong_at_the_start_is_put_right_by_an_edit() {
    let nats = NatsServer::start(&users("{ user: host, password: right }")).await;
    let client = operator(&nats).await;
    let mut washlet = TestProcess::start(&login(&nats, "user = \"host\"\npassword = \"wrong\""));
    washlet.allow_log("the NATS server does not let us in");
    washlet.wait_for_message("the NATS server does not let us in").await;
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    apply(&mut washlet, &login(&nats, "user = \"host\"\npassword = \"right\"")).await;
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    serves(&client, heartbeat["id"].as_str().expect("an id")).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_seed_and_a_rotated_password_file_connect_anew() {
    let (old, new) = (KeyPair::new_user(), KeyPair::new_user());
    let nats = NatsServer::start(&users(&format!(
        "{{ nkey: {} }}, {{ nkey: {} }}, {{ user: host, password: first }}",
        old.public_key(),
        new.public_key()
    )))
    .await;
    let client = operator(&nats).await;
    let seed = |pair: &KeyPair| format!("{}\n", pair.seed().expect("a pair with its seed"));
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    let mut washlet = TestProcess::builder(&login(&nats, "nkey_seed_file = \"host.nk\""))
        .file("host.nk", seed(&old))
        .file("password", "wrong\n")
        .start();
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    let id = heartbeat["id"].as_str().expect("an id");
    let traffic = Traffic::start(&operator_url(&nats), id).await;
    traffic.go_on(50).await;

    washlet.mark();
    washlet.rewrite_file("host.nk", seed(&new));
    let applied = outcome(&washlet).await;
    assert_eq!(applied.field("changed").as_deref(), Some("nats.scheduler.nkey_seed_file(rotate)"), "{applied}");
    traffic.go_on(50).await;

    let password = login(&nats, "user = \"host\"\npassword_file = \"password\"");
    assert!(refuse(&mut washlet, &password).await.contains("as host: authorization violation"));
    washlet.mark();
    washlet.rewrite_file("password", "first\n");
    assert_eq!(outcome(&washlet).await.message(), APPLIED);
    traffic.go_on(50).await;
    let answers = traffic.finish().await;
    answers.assert_exact();
    assert_eq!(answers.no_responders, 0);
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_not_hear_the_operator_is_refused() {
    let nats = NatsServer::start(&users(
        "{ user: host, password: p }, { user: deaf, password: p, permissions: { subscribe: [\"x.>\"] } }",
    ))
    .await;
    let client = operator(&nats).await;
    let (mut washlet, id) = join(&login(&nats, "user = \"host\"\npassword = \"p\""), &client).await;
    washlet.allow_log("the NATS server refused something");
    washlet.allow_log("the NATS server refused what we can do without");
    let error = refuse(&mut washlet, &login(&nats, "user = \"deaf\"\npassword = \"p\"")).await;
    assert!(error.contains(&format!("may not subscribe to runtime.host.{id}.heartbeat")), "{error}");
    serves(&client, &id).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_the_configuration_are_answered() {
    let nats = NatsServer::start("").await;
    let client = nats.client().await;
    let text = super::with_url(&nats.url());
    let (mut washlet, id) = join(&text, &client).await;
    let ask = async |question: &str| client.request_bytes(&format!("runtime.host.{id}.config.{question}"), "").await;
    assert_eq!(ask("status").await["config"]["generation"], json!(1));
    washlet.rewrite_config(&format!("{text}\n[host]\ngroup = \"edge\"\n"));
    let reloaded = ask("reload").await;
    assert!(["applied", "unchanged"].contains(&reloaded["outcome"].as_str().unwrap_or_default()), "{reloaded}");
    assert_eq!(ask("status").await["config"]["generation"], json!(2));
    assert!(ask("check").await["outcome"].is_string());
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_grants_no_questions_costs_one_warning_and_the_rest_works() {
    let mut nats = NatsServer::start(&users(
        r#"{ user: host, password: p, permissions: {
            publish: ["runtime.operator.heartbeat.*"]
            subscribe: ["runtime.host.*.heartbeat", "runtime.host.*.workload.*"]
            allow_responses: { max: 1, expires: "2m" } } }"#,
    ))
    .await;
    let client = operator(&nats).await;
    let (mut washlet, id) = join(&login(&nats, "user = \"host\"\npassword = \"p\""), &client).await;
    washlet.allow_log("the NATS server refused what we can do without");
    washlet.allow_log("lost the connection to NATS");
    washlet.allow_log("cannot connect to NATS");
    serves(&client, &id).await;
    let subject = format!("runtime.host.{id}.config.status");
    assert_eq!(client.try_request(&subject, "", PATIENCE).await, Err(RequestErrorKind::NoResponders));
    washlet.wait_for_log(|line| line.contains("config.check")).await;
    nats.restart().await;
    let client = operator(&nats).await;
    serves(&client, &id).await;
    let warnings = washlet.log_lines().into_iter().filter(|line| line.message().contains("can do without"));
    assert_eq!(warnings.count(), 3, "one for each subject, whatever happens to the connection");
    washlet.finish().await;
}
