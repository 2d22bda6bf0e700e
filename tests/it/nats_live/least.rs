//! The permissions of docs/nats.md, word for word: enough for all that is done with them, and no more.

use async_nats::ConnectOptions;
use serde_json::{Value, json};

use super::{HEARTBEATS, state};
use crate::support::nats::{JETSTREAM, NatsClient};
use crate::support::{NatsServer, PATIENCE, Registry, TestProcess, eventually, free_port, http};

/// The configuration in the documentation.
fn documented() -> &'static str {
    let text = include_str!("../../../docs/nats.md");
    let (_, block) = text.split_once("```text\n").expect("a configuration of nats-server");
    block.split_once("\n```").expect("its end").0
}

async fn client(nats: &NatsServer, user: &str, password: &str) -> NatsClient {
    nats.client_with(ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())).await
}

fn config(nats: &NatsServer, http_port: u16) -> String {
    let url = nats.url();
    format!(
        r#"
        [host]
        state_dir = "state"
        [http]
        listen = "127.0.0.1:{http_port}"
        [registry]
        allow_insecure = true
        [nats.scheduler]
        urls = ["{url}"]
        user = "host"
        password = "of the hosts"
        heartbeat_interval = "1s"
        [nats.data]
        urls = ["{url}"]
        user = "data"
        password = "of the data plane"
        [plugins.wasi-keyvalue]
        backend = "nats"
        [drain]
        timeout = "5s"
        lame_duck = "0s"
        "#
    )
}

async fn ctl(nats: &NatsServer, args: &[&str]) -> (Option<i32>, Value) {
    let mut words = vec!["ctl"];
    words.extend(args);
    words.push("--json");
    let mut process = TestProcess::builder("")
        .env("NATS_URL", &nats.url())
        .env("NATS_USER", "person")
        .env("NATS_PASSWORD", "of washlet ctl")
        .args(&words)
        .start();
    let code = process.wait_exit().await;
    let text = process.stdout();
    (code, serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}{}", process.stderr())))
}

/// Places a workload that keeps values, uses it, and ends it; then all that people ask.
async fn whole_round(nats: &NatsServer, washlet: &TestProcess, id: &str, http_port: u16) {
    let operator = client(nats, "operator", "of the operator").await;
    let registry = Registry::shared();
    registry.push("least-kv2", "1", std::fs::read("tests/fixtures/kv2/kv2.wasm").expect("a fixture")).await;
    let start = json!({ "workloadId": "w", "workload": { "namespace": "n", "name": "w", "witWorld": {
        "components": [{ "name": "kv", "image": registry.image("least-kv2", "1") }],
        "hostInterfaces": [
            { "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"], "config": { "host": "kv.test" } },
            { "namespace": "wasi", "package": "keyvalue", "interfaces": ["store", "atomics", "batch"], "version": "0.2.0-draft" },
        ],
    } } });
    let ask =
        async |command: &str, request: &Value| operator.request(&format!("runtime.host.{id}.{command}"), request).await;
    let answer = ask("workload.start", &start).await;
    assert_eq!(state(&answer), "RUNNING", "{answer}");
    let addr = ([127, 0, 0, 1], http_port).into();
    for (path, body, wanted) in [("/b/set/k", "v", "ok"), ("/b/get/k", "", "v"), ("/b/increment/n/2", "", "2")] {
        eventually("the store answers", PATIENCE, async || {
            let answer = http::send(addr, http::request("POST", "kv.test", path, http::full(body))).await;
            (answer.status == 200 && answer.text().trim_end() == wanted).then_some(())
        })
        .await;
    }
    let known = json!({ "workloadId": "w" });
    assert_eq!(state(&ask("workload.status", &known).await), "RUNNING");
    assert_eq!(ask("heartbeat", &json!({})).await["id"], id);
    for question in ["config.status", "config.reload", "config.check"] {
        assert!(ask(question, &json!({})).await.is_object(), "{question}");
    }
    let (code, hosts) = ctl(nats, &["hosts", "--expect", "1"]).await;
    assert_eq!((code, hosts[0]["id"].as_str()), (Some(0), Some(id)), "{hosts}");
    let (code, workloads) = ctl(nats, &["workloads", "--host", id]).await;
    assert!(code == Some(0) && workloads.to_string().contains("\"w\""), "{workloads}");
    let (code, stopped) = ctl(nats, &["stop", "--host", id, "w"]).await;
    assert_eq!(code, Some(0), "{stopped}");
    assert_eq!(state(&ask("workload.status", &known).await), "NOT_FOUND");
    let refused = washlet.log_lines().into_iter().find(|line| line.message().contains("the NATS server refused"));
    assert!(refused.is_none(), "{}", refused.expect("one"));
    let log = nats.log();
    let violation = log.lines().find(|line| line.contains("Violation"));
    assert_eq!(violation, None, "the server refused nobody anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions_are_enough_and_keep_planes_apart() {
    let nats = NatsServer::start(&format!("{JETSTREAM}{}", documented())).await;
    let operator = client(&nats, "operator", "of the operator").await;
    let mut heartbeats = operator.subscribe(HEARTBEATS).await;
    let http_port = free_port();
    let washlet = TestProcess::start(&config(&nats, http_port));
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    let id = heartbeat["id"].as_str().expect("an id").to_owned();
    whole_round(&nats, &washlet, &id, http_port).await;

    // The user of guests reaches no host, in no way.
    let data = client(&nats, "data", "of the data plane").await;
    data.publish(&format!("runtime.host.{id}.workload.stop"), "{}").await;
    let _deaf = data.subscribe(HEARTBEATS).await;
    eventually("the server refuses both", PATIENCE, async || {
        let log = nats.log();
        let is_refused = |what: &str| log.lines().any(|line| line.contains(what) && line.contains("runtime."));
        (is_refused("Publish Violation") && is_refused("Subscription Violation")).then_some(())
    })
    .await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_be_held_to_its_own_id() {
    let mut nats = NatsServer::start(&format!("{JETSTREAM}{}", documented())).await;
    let http_port = free_port();
    let mut washlet = TestProcess::start(&config(&nats, http_port));
    washlet.allow_log("lost the connection to NATS");
    washlet.allow_log("cannot connect to NATS");
    washlet.wait_for_message("joined the control plane").await;
    let identity = std::fs::read(washlet.dir().join("state/identity.json")).expect("a state directory");
    let identity: Value = serde_json::from_slice(&identity).expect("an identity");
    let id = identity["host_id"].as_str().expect("an id").to_owned();
    let narrow = documented()
        .replace("runtime.operator.heartbeat.*", &format!("runtime.operator.heartbeat.{id}"))
        .replace("runtime.host.*.", &format!("runtime.host.{id}."));
    assert!(!narrow.contains("host.*"));
    nats.stop().await;
    nats.rewrite_config(&format!("{JETSTREAM}{narrow}"));
    washlet.mark();
    nats.up().await;
    washlet.wait_for_message("joined the control plane").await;
    whole_round(&nats, &washlet, &id, http_port).await;
    washlet.finish().await;
}
