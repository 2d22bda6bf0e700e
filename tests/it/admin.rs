//! The admin listener: probes, status, metrics, and reloads by request that answer with what came of them.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::http::{self, Answer};
use crate::support::{NatsServer, PATIENCE, TestProcess, eventually, free_port};

fn config(admin: u16, rest: &str) -> String {
    format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n\
         [plugins.wasi-logging]\n[reload]\nwatch = false\npoll_interval = \"0s\"\n{rest}"
    )
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn get(port: u16, path: &str) -> Answer {
    http::get(addr(port), "admin", path).await
}

async fn post(port: u16, path: &str) -> (u16, Value) {
    let answer = http::send(addr(port), http::request("POST", "admin", path, http::full(""))).await;
    (answer.status.as_u16(), serde_json::from_str(answer.text()).unwrap())
}

async fn status(port: u16) -> Value {
    serde_json::from_str(get(port, "/status").await.text()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_host_is_alive_ready_and_says_what_runs() {
    let port = free_port();
    let process = TestProcess::start(&config(port, ""));
    process.wait_for_message("configuration applied").await;
    assert_eq!(get(port, "/livez").await.status, 200);
    let ready = get(port, "/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("plugin wasi-logging: ok") && ready.text().contains("http: ok"), "{}", ready.text());
    let status = status(port).await;
    assert_eq!((&status["config"]["generation"], &status["config"]["last_ok"]), (&1.into(), &true.into()));
    assert_eq!(status["config"]["attempts"][0]["trigger"], "start");
    let metrics = get(port, "/metrics").await;
    for line in ["washlet_config_generation 1.0", "washlet_config_last_reload_successful 1.0"] {
        assert!(metrics.text().lines().any(|have| have == line), "{line} in {}", metrics.text());
    }
    for runtime in ["control", "workers"] {
        let tasks = format!("washlet_tasks{{runtime=\"{runtime}\"}} ");
        assert!(metrics.text().lines().any(|have| have.starts_with(&tasks)), "{tasks} in {}", metrics.text());
    }
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_by_request_answers_with_its_outcome() {
    let port = free_port();
    let mut process = TestProcess::start(&config(port, ""));
    process.wait_for_message("configuration applied").await;
    process.rewrite_config(&config(port, "debounce = \"100ms\"\n"));
    let (code, outcome) = post(port, "/check").await;
    assert_eq!((code, &outcome["outcome"]), (200, &"accepted".into()), "{outcome}");
    assert_eq!(outcome["changed"][0]["key"], "reload.debounce");
    assert_eq!(status(port).await["config"]["generation"], 1, "a check changes nothing");
    let (code, outcome) = post(port, "/reload").await;
    assert_eq!((code, &outcome["outcome"], &outcome["generation"]), (200, &"applied".into(), &2.into()), "{outcome}");

    process.allow_log("configuration rejected");
    process.rewrite_config(&config(port, "debounse = \"100ms\"\n"));
    for path in ["/check", "/reload"] {
        let (code, outcome) = post(port, path).await;
        assert_eq!((code, &outcome["outcome"]), (409, &"rejected".into()), "{outcome}");
        let error = outcome["errors"][0].as_str().unwrap();
        assert!(error.contains("washlet.toml:11:1: reload.debounse: unknown key"), "{error}");
    }
    let status = status(port).await;
    assert_eq!((&status["config"]["generation"], &status["config"]["last_ok"]), (&2.into(), &false.into()));
    assert_eq!(get(port, "/readyz").await.status, 200, "the last good configuration is ready");
    let metrics = get(port, "/metrics").await;
    assert!(metrics.text().contains("washlet_config_last_reload_successful 0.0"), "{}", metrics.text());
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_its_nats_is_alive_and_not_ready() {
    let mut nats = NatsServer::down("");
    let port = free_port();
    let mut process = TestProcess::start(&config(port, &format!("[nats.scheduler]\nurls = [\"{}\"]\n", nats.url())));
    process.allow_log("");
    process.wait_for_message("configuration applied").await;
    assert_eq!(get(port, "/livez").await.status, 200);
    let ready = get(port, "/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().starts_with("nats: failed"), "{}", ready.text());
    nats.up().await;
    eventually("the host is ready", PATIENCE, async || (get(port, "/readyz").await.status == 200).then_some(())).await;
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_moves_by_an_edit() {
    let (port, other) = (free_port(), free_port());
    let mut process = TestProcess::start(&config(port, ""));
    process.wait_for_message("configuration applied").await;
    process.rewrite_config(&config(other, ""));
    let (_code, outcome) = post(port, "/reload").await;
    assert_eq!(outcome["outcome"], "applied", "answered by the listener that was asked");
    assert_eq!(get(other, "/livez").await.status, 200);
    eventually("the old listener is closed", PATIENCE, async || {
        http::try_send(addr(port), http::request("GET", "admin", "/livez", http::full(""))).await.err()
    })
    .await;
    process.finish().await;
}
