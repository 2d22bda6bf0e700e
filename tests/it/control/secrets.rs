//! Secrets of placed workloads: nothing that the host says holds one.

use std::net::SocketAddr;

use serde_json::json;

use super::{HEARTBEATS, config, example, state};
use crate::support::{NatsServer, PATIENCE, Registry, TestProcess, free_port, http};

/// Nothing else holds this.
const BIRD: &str = "c4n4ry";

#[tokio::test(flavor = "multi_thread")]
async fn no_reply_log_status_or_metric_holds_a_secret_of_a_request() {
    let nats = NatsServer::start("").await;
    let client = nats.client().await;
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    let admin = free_port();
    let text = config(&nats.url(), free_port(), "1s");
    let mut washlet = TestProcess::start(&format!(
        "{text}\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[log]\nlevel = \"debug\"\n[plugins.wasi-config]\n"
    ));
    washlet.allow_log("");
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    let id = heartbeat["id"].as_str().expect("an id").to_owned();
    let registry = Registry::shared();
    registry.push("secret-http2", "1", std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    let start = |workload: &str, tag: &str| {
        let mut start = example("request_workload_start_minimal.json");
        start["workloadId"] = json!(workload);
        let component = &mut start["workload"]["witWorld"]["components"][0];
        component["image"] = json!(registry.image("secret-http2", tag));
        component["imagePullSecret"] = json!({ "username": "u", "password": format!("{BIRD}-pull") });
        component["localResources"] = json!({
            "environment": { "KEY": format!("{BIRD}-environment") }, "config": { "key": format!("{BIRD}-config") },
        });
        start["workload"]["witWorld"]["hostInterfaces"].as_array_mut().expect("a list").push(json!({
            "namespace": "wasi", "package": "config", "interfaces": ["store"],
            "config": { "key": format!("{BIRD}-interface") },
        }));
        start
    };
    let mut wrong_type = start("wrong-type", "1");
    wrong_type["workload"]["witWorld"]["components"][0]["localResources"]["environment"] = json!([format!("{BIRD}-x")]);
    let mut invalid = start("invalid", "1");
    invalid["workload"]["witWorld"]["hostInterfaces"][0]["config"]["host"] = json!("not a host");
    let requests = [start("good", "1"), start("absent", "2"), wrong_type, invalid];
    let mut said = String::new();
    for (request, wanted) in requests.iter().zip(["RUNNING", "ERROR", "ERROR", "ERROR"]) {
        let answer = client.request(&format!("runtime.host.{id}.workload.start"), request).await;
        assert_eq!(state(&answer), wanted, "{answer}");
        said += &answer.to_string();
        let asked = json!({ "workloadId": request["workloadId"] });
        said += &client.request(&format!("runtime.host.{id}.workload.status"), &asked).await.to_string();
    }
    // Cut in the middle of a secret.
    let torn = start("torn", "1").to_string();
    let torn = torn.split_once(BIRD).expect("it holds one").0.to_owned() + BIRD;
    said += &client.request_bytes(&format!("runtime.host.{id}.workload.start"), torn).await.to_string();
    for path in ["/status", "/metrics", "/readyz"] {
        said += http::get(SocketAddr::from(([127, 0, 0, 1], admin)), "admin", path).await.text();
    }
    said += &client.request_bytes(&format!("runtime.host.{id}.heartbeat"), "{}").await.to_string();
    for question in ["status", "check"] {
        said += &client.request_bytes(&format!("runtime.host.{id}.config.{question}"), "").await.to_string();
    }
    for request in &requests {
        let asked = json!({ "workloadId": request["workloadId"] });
        said += &client.request(&format!("runtime.host.{id}.workload.stop"), &asked).await.to_string();
    }
    assert!(!said.contains(BIRD), "{said}");
    washlet.sigterm();
    assert_eq!(washlet.wait_exit().await, Some(0));
    for line in washlet.log_lines() {
        assert!(!line.to_string().contains(BIRD), "{line}");
    }
    washlet.finish().await;
}
