//! The admin listener: probes, status, metrics, and reloads by request that answer with what came of them.

use std::net::SocketAddr;

use serde_json::{Value, json};

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

pub(super) async fn post(port: u16, path: &str) -> (u16, Value) {
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
        let error = &outcome["errors"][0];
        let text = error["text"].as_str().unwrap();
        assert!(text.contains("washlet.toml:11:1: reload.debounse: unknown key"), "{text}");
        assert_eq!(
            (&error["line"], &error["column"], &error["key"]),
            (&11.into(), &1.into(), &"reload.debounse".into())
        );
        assert!(error["file"].as_str().unwrap().ends_with("washlet.toml") && error["hint"].is_string(), "{error}");
    }
    let status = status(port).await;
    assert_eq!((&status["config"]["generation"], &status["config"]["last_ok"]), (&2.into(), &false.into()));
    let ready = get(port, "/readyz").await;
    assert_eq!(ready.status, 200, "the last good configuration is ready");
    assert!(ready.text().contains("config: rejected"), "{}", ready.text());
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

#[tokio::test(flavor = "multi_thread")]
async fn status_and_metrics_name_all_that_a_rollout_asks_for() {
    let port = free_port();
    let vain = "debounce = \"100ms\"\n";
    let builder = TestProcess::builder(&config(port, vain)).env("WASHLET_RELOAD__DEBOUNCE", "50ms");
    let mut process = builder.start();
    process.wait_for_message("configuration applied").await;
    process.rewrite_config(&config(port, &format!("{vain}[engine]\nmax_instances = 77\n[host]\ngroup = \"a\"\n")));
    let (_code, outcome) = post(port, "/reload").await;
    assert_eq!(outcome["outcome"], "applied");
    let wait = async || {
        let status = status(port).await;
        (status["config"]["attempts"][0]["retire"]["state"] == "done").then_some(status)
    };
    let status = eventually("the old parts have ended", PATIENCE, wait).await;
    let config = &status["config"];
    assert_eq!((&config["watch_mode"], &config["generations_alive"]), (&"off".into(), &1.into()));
    assert_eq!(config["pinned"], json!([{ "key": "reload.debounce", "by": "WASHLET_RELOAD__DEBOUNCE" }]));
    let pending = &config["restart_pending"];
    assert_eq!((pending[0]["key"].as_str(), pending[1].is_null()), (Some("engine.max_instances"), true), "{pending}");
    assert!(pending[0]["at"].as_str().unwrap().ends_with("washlet.toml:13"), "{pending}");
    assert!(config["source"].as_str().unwrap().ends_with("washlet.toml") && config["since"].is_string(), "{config}");
    let hash = config["file_hash"].as_str().unwrap();
    assert!(hash.len() == 12 && config["config_hash"].as_str().is_some_and(|other| other.len() == 12), "{config}");
    let plugin = &config["plugins"][0];
    assert_eq!(
        (&plugin["id"], &plugin["state"], &plugin["error"]),
        (&"wasi-logging".into(), &"ready".into(), &Value::Null)
    );
    assert!(plugin["since"].is_string() && config["plugins"][1].is_null(), "{config}");
    let attempt = &config["attempts"][0];
    for phase in ["read", "load", "plan", "prepare", "commit"] {
        assert!(attempt["phases_ms"][phase].as_f64().is_some_and(|took| took < 20_000.0), "{phase} in {attempt}");
    }
    assert_eq!(attempt["retire"]["forced"], 0);

    let metrics = get(port, "/metrics").await;
    let info = format!("washlet_config_info{{running=\"{hash}\",attempted=\"{hash}\",generation=\"2\"}} 1.0");
    for line in [
        "washlet_config_pinned{key=\"reload.debounce\"} 1.0",
        "washlet_config_restart_pending{key=\"engine.max_instances\"} 1.0",
        "washlet_config_watch_mode{mode=\"off\"} 1.0",
        "washlet_generations_alive 1.0",
        "washlet_retired_forced_total{kind=\"http\"} 0",
        "washlet_plugin_state{plugin=\"wasi-logging\",state=\"ready\"} 1.0",
        "washlet_config_reload_duration_seconds_count{phase=\"prepare\"} 2",
        "washlet_config_reload_duration_seconds_bucket{le=\"+Inf\",phase=\"commit\"} 2",
        &info,
    ] {
        assert!(metrics.text().lines().any(|have| have == line), "{line} in {}", metrics.text());
    }
    assert_eq!(metrics.text().matches("\nwashlet_config_info{").count(), 1, "the old series is gone");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_go_on_when_the_listener_moves() {
    let (port, first, second) = (free_port(), free_port(), free_port());
    let at = |http: u16| config(port, "").replace("127.0.0.1:0", &format!("127.0.0.1:{http}"));
    let mut process = TestProcess::start(&at(first));
    process.wait_for_message("configuration applied").await;
    let count = async || {
        let metrics = get(port, "/metrics").await;
        let line = metrics.text().lines().find_map(|line| line.strip_prefix("washlet_http_requests_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    for _ in 0..3 {
        assert_eq!(http::get(addr(first), "nobody.test", "/").await.status, 404);
    }
    assert_eq!(count().await, 3);
    process.rewrite_config(&at(second));
    assert_eq!(post(port, "/reload").await.1["outcome"], "applied");
    assert_eq!(count().await, 3);
    assert_eq!(http::get(addr(second), "nobody.test", "/").await.status, 404);
    assert_eq!(count().await, 4);
    process.finish().await;
}
