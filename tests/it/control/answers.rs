//! What a host says to every kind of request, and what it says of itself.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{HEARTBEATS, Joined, example, message, state, within};
use crate::support::{NatsServer, PATIENCE, Registry, TestProcess, eventually};

/// An answer that takes longer is none at once.
const SOON: Duration = Duration::from_secs(1);

/// The smallest start that serves, of `image` and with this id, under a host name of the same text.
fn start(id: &str, image: &str) -> Value {
    let mut start = example("request_workload_start_minimal.json");
    start["workloadId"] = json!(id);
    start["workload"]["name"] = json!(id);
    start["workload"]["witWorld"]["components"][0]["image"] = json!(image);
    start["workload"]["witWorld"]["hostInterfaces"][0]["config"]["host"] = json!(format!("{id}.test"));
    start
}

async fn http2() -> String {
    let registry = Registry::shared();
    registry.push("answers-http2", "1", std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    registry.image("answers-http2", "1")
}

async fn joined() -> (NatsServer, Joined) {
    let nats = NatsServer::start("").await;
    let host = Joined::start(nats.client().await, &nats.url(), "15s").await;
    (nats, host)
}

async fn stop(host: &Joined, id: &str) {
    let id = json!({ "workloadId": id }).to_string();
    assert_eq!(state(&host.ask("workload.stop", id.clone()).await), "STOPPING");
    eventually("it is stopped", PATIENCE, async || {
        (state(&host.ask("workload.status", id.clone()).await) == "NOT_FOUND").then_some(())
    })
    .await;
}

/// The keys of a heartbeat, checked as the operator's decoder does: known, and of their type.
fn keys(heartbeat: &Value) -> BTreeSet<&str> {
    let object = heartbeat.as_object().expect("a bare heartbeat");
    for (key, value) in object {
        let is_right = match key.as_str() {
            "id" | "hostname" | "friendlyName" | "version" | "startedAt" | "osArch" | "osName" | "osKernel"
            | "environment" => value.is_string(),
            // 64 bits travel as text.
            "systemMemoryTotal" | "systemMemoryFree" | "componentCount" | "workloadCount" => {
                value.as_str().is_some_and(|number| number.parse::<u64>().is_ok())
            }
            "systemCpuUsage" => value.is_number(),
            "httpPort" => value.as_u64().is_some_and(|port| port < 65536),
            "labels" => value.as_object().is_some_and(|labels| labels.values().all(Value::is_string)),
            "imports" | "exports" => value.is_array(),
            _unknown => false,
        };
        assert!(is_right, "{key} of {heartbeat}");
    }
    object.keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_is_answered_whatever_is_asked_and_strictly_made() {
    let (_nats, host) = joined().await;
    for payload in ["{}", "", "garbage", "\u{0}", "[{}]"] {
        let heartbeat = within(SOON, "a heartbeat", host.ask("heartbeat", payload)).await;
        assert_eq!(heartbeat["id"], host.id);
        assert!(keys(&heartbeat).contains("httpPort"));
    }
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_of_an_idle_host_without_http_omits_what_is_nothing() {
    let nats = NatsServer::start("").await;
    let mut heartbeats = nats.client().await.subscribe(HEARTBEATS).await;
    let washlet = TestProcess::start(&format!("[nats.scheduler]\nurls = [\"{}\"]\n", nats.url()));
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    let (ours, minimal) = (keys(&heartbeat), example("heartbeat_minimal_idle_no_http.json"));
    let mut wanted = keys(&minimal);
    // Measured anew for each heartbeat, and omitted while it is nought.
    let measured = BTreeSet::from(["systemCpuUsage"]);
    wanted.retain(|key| !measured.contains(key));
    assert_eq!(ours.difference(&measured).copied().collect::<BTreeSet<_>>(), wanted);
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_heartbeat_comes_when_all_four_subjects_are_answered() {
    for _ in 0..5 {
        let (_nats, host) = joined().await;
        for command in ["heartbeat", "workload.status", "workload.stop", "workload.start"] {
            let answer = host.client.try_request(&host.subject(command), "{}", SOON).await;
            assert!(answer.is_ok(), "{command}: {answer:?}");
        }
        host.washlet.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interfaces_are_told_sorted_once_and_alike_each_time() {
    let nats = NatsServer::start("").await;
    let client = nats.client().await;
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    let washlet = TestProcess::start(&format!(
        "[nats.scheduler]\nurls = [\"{}\"]\n[plugins.wasi-config]\n[plugins.wasi-logging]\n\
         [plugins.wasi-keyvalue]\nbackend = \"memory\"\n",
        nats.url()
    ));
    let (_, first) = heartbeats.next(PATIENCE).await;
    let id = first["id"].as_str().expect("an id");
    let second = client.request_bytes(&format!("runtime.host.{id}.heartbeat"), "{}").await;
    assert_eq!((&first["imports"], &first["exports"]), (&second["imports"], &second["exports"]));
    let imports = first["imports"].as_array().expect("three plugins serve something");
    let named = |import: &Value| {
        let text = |key: &str| import[key].as_str().unwrap_or_default().to_owned();
        assert!(import["config"].is_null() && import["name"].is_null(), "{import}");
        (text("namespace"), text("package"), text("version"))
    };
    let names: Vec<_> = imports.iter().map(named).collect();
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(names, sorted);
    for package in ["config", "keyvalue", "logging"] {
        assert!(names.iter().any(|(_, name, _)| name == package), "{package} in {names:?}");
    }
    for import in imports {
        let interfaces: Vec<_> = import["interfaces"].as_array().into_iter().flatten().map(Value::to_string).collect();
        let mut sorted = interfaces.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(interfaces, sorted);
    }
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn components_and_workloads_are_counted_and_failures_are_not() {
    let (_nats, mut host) = joined().await;
    host.washlet.allow_log("workload failed to start");
    host.washlet.allow_log("no wasi:http entry");
    let image = http2().await;
    let mut two = start("two", &image);
    let component = two["workload"]["witWorld"]["components"][0].clone();
    two["workload"]["witWorld"]["components"] = json!([component, { "name": "other", "image": image }]);
    // Two components cannot share one route, so neither has one.
    two["workload"]["witWorld"]["hostInterfaces"] = json!([]);
    let started = host.ask("workload.start", two.to_string()).await;
    assert_eq!(state(&started), "RUNNING", "{started}");
    let mut bad = start("bad", &image);
    bad["workload"]["witWorld"]["hostInterfaces"][0]["config"]["host"] = json!("not a host name");
    assert_eq!(state(&host.ask("workload.start", bad.to_string()).await), "ERROR");
    assert_eq!(state(&host.ask("workload.status", "{\"workloadId\":\"bad\"}").await), "ERROR");
    let heartbeat = host.ask("heartbeat", "{}").await;
    assert_eq!((&heartbeat["workloadCount"], &heartbeat["componentCount"]), (&json!("1"), &json!("2")));
    // What failed is forgotten by a stop as well.
    stop(&host, "bad").await;
    stop(&host, "two").await;
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_an_error_with_the_id_if_there_is_one() {
    let (_nats, mut host) = joined().await;
    host.washlet.allow_log("cannot read a request");
    let unreadable: [&[u8]; 6] = [b"not json", b"[]", b"\"x\"", b"\xff\xfe{}", b"{}{}", b"7"];
    for command in ["workload.start", "workload.status", "workload.stop"] {
        for payload in unreadable {
            let answer = within(SOON, command, host.ask(command, Bytes::from_static(payload))).await;
            assert_eq!(state(&answer), "ERROR", "{command} of {payload:?}: {answer}");
            assert!(message(&answer).starts_with("malformed request: "), "{answer}");
            assert!(answer["workloadStatus"]["workloadId"].is_null(), "{answer}");
        }
        let named = r#"{"workloadId":"here","workload":{"witWorld":{"components":{}}}}"#;
        let named = if command == "workload.start" { named } else { r#"{"workloadId":"here"} x"# };
        let answer = host.ask(command, named).await;
        assert!(message(&answer).starts_with("malformed request: "), "{answer}");
        if command == "workload.start" {
            assert_eq!((state(&answer), &answer["workloadStatus"]["workloadId"]), ("ERROR", &json!("here")));
            assert!(message(&answer).contains("workload.witWorld.components"), "it names the field: {answer}");
        }
    }
    for command in ["workload.status", "workload.stop"] {
        for payload in ["{}", ""] {
            let answer = host.ask(command, payload).await;
            assert_eq!(state(&answer), "NOT_FOUND", "{command}: {answer}");
            assert!(answer["workloadStatus"]["workloadId"].is_null(), "{answer}");
        }
        let answer = host.ask(command, "{\"workload_id\":\"gone\"}").await;
        assert_eq!((state(&answer), &answer["workloadStatus"]["workloadId"]), ("NOT_FOUND", &json!("gone")));
    }
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_read_leniently_at_every_level() {
    let (_nats, mut host) = joined().await;
    host.washlet.allow_log("unknown");
    let image = http2().await;
    let request = json!({
        "later": { "a": [1] },
        "workload_id": "lenient",
        "workload": {
            "namespace": null, "name": "lenient", "annotations": null, "later": true, "service": null,
            "volumes": [{ "name": "x", "later": 1 }],
            "wit_world": {
                "later": [],
                "components": [{
                    "name": "c", "image": image, "later": "x", "image_pull_policy": "IMAGE_PULL_POLICY_LATER",
                    "image_pull_secret": {}, "pool_size": -3, "max_invocations": "7", "max_concurrency": 3.0,
                    "local_resources": {
                        "later": 1, "config": null, "environment": { "A": "b" }, "allowed_hosts": null,
                        "memory_limit_mb": null, "volume_mounts": [],
                    },
                }],
                "host_interfaces": [{
                    "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"], "later": {},
                    "version": null, "config": { "host": "lenient.test" },
                }],
            },
        },
    });
    let answer = host.ask("workload.start", request.to_string()).await;
    assert_eq!((state(&answer), message(&answer)), ("RUNNING", "Workload started successfully"), "{answer}");
    assert_eq!(host.get("lenient.test", "/env").await.text(), "A=b\n");
    stop(&host, "lenient").await;
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_pull_names_component_and_image_and_its_id_may_be_used_again() {
    let (_nats, mut host) = joined().await;
    host.washlet.allow_log("workload failed to start");
    let absent = format!("{}/answers-absent:1", Registry::shared().addr());
    let refused = host.ask("workload.start", start("again", &absent).to_string()).await;
    assert_eq!(state(&refused), "ERROR", "{refused}");
    assert!(message(&refused).starts_with("failed to pull image for component 'hello-world': "), "{refused}");
    assert!(message(&refused).contains(&absent), "{refused}");
    let kept = host.ask("workload.status", "{\"workloadId\":\"again\"}").await;
    assert_eq!((state(&kept), message(&kept)), ("ERROR", &*format!("Workload is Error: {}", message(&refused))));
    let image = http2().await;
    assert_eq!(state(&host.ask("workload.start", start("again", &image).to_string()).await), "RUNNING");
    // A secret that was rotated meanwhile makes it no other workload.
    let mut rotated = start("again", &image);
    rotated["workload"]["witWorld"]["components"][0]["imagePullSecret"] = json!({ "username": "u", "password": "p" });
    let joined = host.ask("workload.start", rotated.to_string()).await;
    assert_eq!((state(&joined), message(&joined)), ("RUNNING", "Workload started successfully"));
    stop(&host, "again").await;
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_with_a_start_is_told_at_once_and_nothing_is_pulled() {
    let (_nats, host) = joined().await;
    let mut bad = start("wrong", "127.0.0.1:1/never/asked:1");
    bad["workload"]["witWorld"]["components"] = json!([
        { "name": "a", "image": "127.0.0.1:1/x/y:1", "localResources": { "allowedHosts": ["ftp://a b"] } },
        { "name": "b", "image": "127.0.0.1:1/x/y:1",
          "localResources": { "allowedHosts": ["http://"], "allowedHostLoopbackPorts": ["0"] } },
    ]);
    let answer = host.ask("workload.start", bad.to_string()).await;
    assert_eq!(state(&answer), "ERROR");
    let text = message(&answer);
    for part in [
        "invalid local_resources for component a: invalid allowed_hosts:",
        "invalid local_resources for component b: invalid allowed_hosts:",
        "'ftp://a b'",
        "allowed_host_loopback_ports",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("pull"), "{text}");
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_sent_together_are_done_in_that_order() {
    let (_nats, host) = joined().await;
    let image = http2().await;
    let request = start("order", &image).to_string();
    assert_eq!(state(&host.ask("workload.start", request.clone()).await), "RUNNING");
    let id = "{\"workloadId\":\"order\"}";
    for _ in 0..20 {
        // Polled in this order, so sent in this order.
        let (stopped, started) =
            tokio::join!(biased; host.ask("workload.stop", id), host.ask("workload.start", request.clone()));
        assert_eq!(state(&stopped), "STOPPING", "{stopped}");
        // It is still being stopped, or was: never does a stop take out the start behind it.
        let is_refused = message(&started).starts_with("Workload ID [order] already exists");
        assert!(state(&started) == "RUNNING" || (state(&started) == "ERROR" && is_refused), "{started}");
        eventually("it runs again", PATIENCE, async || {
            let answer = host.ask("workload.start", request.clone()).await;
            (state(&answer) == "RUNNING").then_some(())
        })
        .await;
    }
    assert_eq!(host.get("order.test", "/").await.status, 200);
    stop(&host, "order").await;
    host.washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_reply_subject_is_done_and_an_answer_too_long_for_the_server_costs_nothing_else() {
    let nats = NatsServer::start("max_payload: 2048").await;
    let mut host = Joined::start(nats.client().await, &nats.url(), "15s").await;
    host.washlet.allow_log("answer");
    host.washlet.allow_log("reply");
    let empty = json!({ "workloadId": "quiet", "workload": { "namespace": "n", "name": "quiet" } });
    host.client.publish(&host.subject("workload.start"), empty.to_string()).await;
    let id = "{\"workloadId\":\"quiet\"}";
    eventually("it was started", PATIENCE, async || {
        (state(&host.ask("workload.status", id).await) == "RUNNING").then_some(())
    })
    .await;
    // The answer names the id twice.
    let long = json!({ "workloadId": "x".repeat(1500) }).to_string();
    let answer = host.client.try_request(&host.subject("workload.status"), long, SOON).await;
    match answer {
        Ok(answer) => assert!(answer.len() <= 2048, "{} bytes", answer.len()),
        Err(kind) => assert_eq!(kind, RequestErrorKind::TimedOut),
    }
    assert_eq!(state(&host.ask("workload.status", id).await), "RUNNING", "the next one is answered");
    stop(&host, "quiet").await;
    host.washlet.finish().await;
}
