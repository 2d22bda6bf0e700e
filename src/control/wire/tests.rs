//! The wire against every example of the contract, and against a decoder with the operator's rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::request::WireWorkload;
use super::{IdRequest, Malformed, Reply, StartRequest, encode_heartbeat, operator_decoder};
use crate::types::{
    ArtifactSource, HostHeartbeat, HostId, PullPolicy, VolumeKind, WorkloadOrigin, WorkloadSpec, WorkloadState,
};
use crate::wit::WitInterface;

const MAX_PAYLOAD: usize = 1024 * 1024;

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire")
}

fn example(name: &str) -> String {
    fs::read_to_string(data().join(name)).unwrap()
}

/// All examples whose name starts with `prefix`, by name.
fn examples(prefix: &str) -> BTreeMap<String, String> {
    let names = fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).map(|name| (name.clone(), example(&name))).collect()
}

fn spec_of(request: &str) -> Result<WorkloadSpec, String> {
    let request = StartRequest::decode(request.as_bytes()).map_err(|malformed| malformed.error.to_string())?;
    WorkloadSpec::try_from(request.workload.unwrap()).map_err(|e| e.to_string())
}

/// A start of one component made of `fields`.
fn spec_with(fields: &str) -> Result<WorkloadSpec, String> {
    spec_of(&format!("{{\"workload\":{{\"witWorld\":{{\"components\":[{{\"image\":\"i\",{fields}}}]}}}}}}"))
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn every_example_request_decodes() {
    let starts = examples("request_workload_start");
    assert!(starts.len() >= 3);
    for (name, text) in starts {
        spec_of(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    for (name, id) in [
        ("request_workload_status.json", "8c2f3a0e-6a1c-4a5b-9a0e-3f6f5d0a7b11"),
        ("request_workload_stop.json", "8c2f3a0e-6a1c-4a5b-9a0e-3f6f5d0a7b11"),
        ("request_workload_stop_empty_id.json", ""),
    ] {
        assert_eq!(IdRequest::decode(example(name).as_bytes()).unwrap().workload_id, id, "{name}");
    }
}

#[test]
fn every_field_of_the_full_start_reaches_the_spec() {
    let spec = spec_of(&example("request_workload_start_full.json")).unwrap();
    assert_eq!((spec.origin, spec.namespace.as_str()), (WorkloadOrigin::Placed, "team-a"));
    assert_eq!(spec.annotations["runtime.wasmcloud.dev/workload-replica-set-generation"], "59c8d6b7f");
    let service = spec.service.unwrap();
    assert_eq!((service.max_restarts, service.pull_policy), (5, PullPolicy::IfNotPresent));
    let api = &spec.components[0];
    assert_eq!(api.image, ArtifactSource::Oci("registry.example.com/team-a/api:1.2.3".to_owned()));
    assert_eq!(api.pull_policy, PullPolicy::Always);
    let secret = api.pull_secret.as_ref().unwrap();
    assert!(secret.username == "robot" && secret.password.starts_with("s3cr3t<&>"));
    let numbers = [api.pool_size, api.max_invocations, api.max_concurrency].map(|n| n.unwrap().get());
    assert_eq!(numbers, [4, 1000, 8]);
    let resources = &api.local_resources;
    assert_eq!(resources.environment["DB_PASSWORD"], "from-secret");
    assert_eq!(resources.config["consumer_group"], "broadcast");
    assert_eq!(resources.volume_mounts.iter().map(|m| m.read_only).collect::<Vec<_>>(), [false, true]);
    assert_eq!(resources.allowed_host_loopback_ports, ["5432/tcp"]);
    assert_eq!(spec.host_interfaces[1].to_string(), "wasi:keyvalue/atomics,store@0.2.0-draft");
    assert_eq!(spec.host_interfaces[1].name.as_deref(), Some("cache"));
    assert_eq!(spec.host_interfaces[2].version, None);
    let kinds: Vec<bool> = spec.volumes.iter().map(|v| v.kind == VolumeKind::EmptyDir).collect();
    assert_eq!(kinds, [true, false, true], "a volume without a type is an empty directory");
}

#[test]
fn the_edge_fragments_mean_what_the_contract_says() {
    let fragment = |name: &str| example(name).trim().trim_start_matches('{').trim_end_matches('}').to_owned();
    let spec = spec_with(&fragment("fragment_component_empty_pull_secret.json")).unwrap();
    assert_eq!(spec.components[0].pull_secret, None);
    assert_eq!(spec.components[0].name.as_str(), "component-0");
    let spec = spec_with(&fragment("fragment_component_negative_pool_size.json")).unwrap();
    assert_eq!(spec.components[0].pool_size, None);
    let service = example("fragment_service_max_restarts_u64_max.json");
    let spec = spec_of(&format!("{{\"workload\":{{\"service\":{service}}}}}")).unwrap();
    assert_eq!(spec.service.unwrap().max_restarts, u64::MAX);
}

#[test]
fn snake_case_null_unknown_fields_and_duplicates_are_read() {
    let spec = spec_of(
        "{\"workload_id\":\"x\",\"new\":[1],\"workload\":{\"wit_world\":{\"components\":[{\"image\":\"a\",\"image\":\"b\",\
         \"pool_size\":\"2\",\"local_resources\":null,\"image_pull_policy\":3}],\"host_interfaces\":null}}}",
    )
    .unwrap();
    let component = &spec.components[0];
    assert_eq!(component.image, ArtifactSource::Oci("b".to_owned()));
    assert_eq!((component.pool_size.unwrap().get(), component.pull_policy), (2, PullPolicy::Never));
}

#[test]
fn what_cannot_be_read_names_the_field_and_keeps_the_id() {
    let malformed = |payload: &[u8]| -> (String, String) {
        let Malformed { workload_id, error } = StartRequest::decode(payload).unwrap_err();
        (workload_id, error.to_string())
    };
    let at = |json: &str| malformed(format!("{{\"workloadId\":\"x\",\"workload\":{json}}}").as_bytes());
    for (workload, text) in [
        ("{\"witWorld\":{\"components\":{}}}", "workload.witWorld.components: expected a list, got an object"),
        (
            "{\"witWorld\":{\"components\":[{\"image\":{}}]}}",
            "workload.witWorld.components[0].image: expected a string, got an object",
        ),
        (
            "{\"witWorld\":{\"components\":[{},{\"poolSize\":2147483648}]}}",
            "workload.witWorld.components[1].poolSize: the number is out of range",
        ),
        ("{\"annotations\":{\"a\":1}}", "workload.annotations.a: expected a string, got a number"),
        (
            "{\"volumes\":[{\"hostPath\":{},\"emptyDir\":{}}]}",
            "workload.volumes[0].hostPath: set together with emptyDir: a volume is one of the two",
        ),
        ("[]", "workload: expected an object, got a list"),
    ] {
        assert_eq!(at(workload), ("x".to_owned(), text.to_owned()));
    }
    for payload in [&b""[..], b"garbage", b"{}{}", b"{\"workloadId\":\"\xff\"}", b"{\"workloadId\":\"x\"", b"[]", b"3"]
    {
        assert_eq!(malformed(payload).0, "");
    }
    assert_eq!(malformed(b"garbage").1, "expected value at line 1 column 1");
    assert_eq!(
        malformed(b"{\"workloadId\":7}"),
        (String::new(), "workloadId: expected a string, got a number".to_owned())
    );
    assert_eq!(IdRequest::decode(b" \n").unwrap().workload_id, "");
}

#[test]
fn a_workload_that_cannot_be_tells_every_problem_at_once() {
    let error = spec_of(
        "{\"workload\":{\"witWorld\":{\"components\":[\
         {\"name\":\"c\",\"image\":\"file:/etc/passwd\",\"localResources\":{\"allowedHosts\":[\"*com\",\"https://a.example/v1\"]}},\
         {\"name\":\"c\",\"localResources\":{\"allowedHostLoopbackPorts\":[\"0\"]}}]},\
         \"service\":{\"image\":\"i\",\"localResources\":{\"allowedIpNameLookups\":[\"a:1\"]}}}}",
    )
    .unwrap_err();
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        [
            "invalid image for component 'c': file images are not allowed",
            "invalid local_resources for component c: invalid allowed_hosts:",
            "  - '*com': wildcard must be of the form `*.<rest>` (leading dot required)",
            "  - 'https://a.example/v1': must not include a path; got '/v1'",
            "component name 'c' is used more than once",
            "invalid image for component 'c': image is required",
            "invalid local_resources for component c: invalid allowed_host_loopback_ports:",
            "  - '0': port must be a number from 1 to 65535; got '0'",
            "invalid local_resources for service: invalid allowed_ip_name_lookups:",
            "  - 'a:1': must not include a port",
        ]
    );
}

#[test]
fn the_pinned_validation_text_is_that_of_the_example() {
    let error = spec_with("\"name\":\"c\",\"localResources\":{\"allowedHosts\":[\"*com\",\"https://a.example/v1\"]}");
    let told = json(example("reply_start_bad_allowed_hosts.json").as_bytes());
    assert_eq!(told["workloadStatus"]["message"].as_str().unwrap(), error.unwrap_err());
}

#[test]
fn secrets_are_not_in_debug_texts() {
    let request = StartRequest::decode(example("request_workload_start_full.json").as_bytes()).unwrap();
    let workload: &WireWorkload = request.workload.as_ref().unwrap();
    for text in [format!("{request:?}"), format!("{workload:?}")] {
        assert!(!text.contains("s3cr3t") && !text.contains("from-secret") && !text.contains("cache-kv"), "{text}");
    }
}

/// A reply read back from an example: what the encoder is given to produce it again.
fn reply_of(status: &Value) -> Reply {
    let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    let state = match text("workloadState").as_str() {
        "WORKLOAD_STATE_STARTING" => WorkloadState::Starting,
        "WORKLOAD_STATE_RUNNING" => WorkloadState::Running,
        "WORKLOAD_STATE_COMPLETED" => WorkloadState::Completed,
        "WORKLOAD_STATE_STOPPING" => WorkloadState::Stopping,
        "WORKLOAD_STATE_ERROR" => WorkloadState::Error,
        "WORKLOAD_STATE_NOT_FOUND" => WorkloadState::NotFound,
        other => panic!("{other}"),
    };
    Reply { workload_id: text("workloadId"), state, message: text("message") }
}

#[test]
fn every_example_reply_is_what_the_encoder_writes() {
    let replies = examples("reply_");
    assert!(replies.len() >= 20);
    for (name, text) in replies {
        let wanted = json(text.as_bytes());
        let encoded = reply_of(&wanted["workloadStatus"]).encode(MAX_PAYLOAD);
        assert_eq!(json(&encoded), wanted, "{name}");
        operator_decoder::response(&encoded).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

fn heartbeat() -> HostHeartbeat {
    HostHeartbeat {
        id: HostId::try_from("cf1ee307-cf74-4f69-b92f-a9eb593e478b").unwrap(),
        hostname: "10.1.2.3".to_owned(),
        http_port: 9191,
        friendly_name: "happy-dancer-2971".to_owned(),
        version: "0.1.0".to_owned(),
        labels: BTreeMap::from([("hostgroup".to_owned(), "default".to_owned())]),
        // 2026-08-20T01:02:03.123456789Z
        started_at: UNIX_EPOCH + Duration::new(1_787_187_723, 123_456_789),
        os_arch: "x86_64".to_owned(),
        os_name: "linux".to_owned(),
        os_kernel: "unix".to_owned(),
        system_cpu_usage: 12.5,
        system_memory_total: 33_565_855_744,
        system_memory_free: 1024,
        component_count: 3,
        workload_count: 2,
        imports: [
            "wasi:keyvalue/atomics,batch,store@0.2.0-draft",
            "wasi:config/store@0.2.0-rc.1",
            "wasi:config/store@0.2.0-rc.1",
        ]
        .map(|text| text.parse::<WitInterface>().unwrap())
        .to_vec(),
        exports: vec!["wasmcloud:messaging/handler@0.2.0".parse().unwrap()],
        environment: "wasmcloud-system".to_owned(),
    }
}

#[test]
fn heartbeats_are_those_of_the_examples() {
    let encoded = encode_heartbeat(&heartbeat(), MAX_PAYLOAD);
    assert_eq!(json(&encoded), json(example("heartbeat_washlet.json").as_bytes()));
    operator_decoder::heartbeat(&encoded).unwrap();
    let idle = HostHeartbeat {
        http_port: 0,
        component_count: 0,
        workload_count: 0,
        imports: Vec::new(),
        exports: Vec::new(),
        environment: String::new(),
        ..heartbeat()
    };
    let encoded = encode_heartbeat(&idle, MAX_PAYLOAD);
    assert_eq!(json(&encoded), json(example("heartbeat_minimal_idle_no_http.json").as_bytes()));
    operator_decoder::heartbeat(&encoded).unwrap();
}

#[test]
fn a_heartbeat_never_holds_what_json_or_the_operator_cannot_take() {
    for cpu in [f32::NAN, f32::INFINITY, 0.0] {
        let encoded = encode_heartbeat(&HostHeartbeat { system_cpu_usage: cpu, ..heartbeat() }, MAX_PAYLOAD);
        assert_eq!(json(&encoded).get("systemCpuUsage"), None);
    }
    let encoded = encode_heartbeat(&HostHeartbeat { system_cpu_usage: 99.7799, ..heartbeat() }, MAX_PAYLOAD);
    assert!(String::from_utf8_lossy(&encoded).contains("\"systemCpuUsage\":99.7799,"));
    for (nanos, text) in [(0, "03Z"), (5_000_000, "03.005Z"), (5_000, "03.000005Z"), (5, "03.000000005Z")] {
        let started_at = UNIX_EPOCH + Duration::new(1_787_187_723, nanos);
        let encoded = encode_heartbeat(&HostHeartbeat { started_at, ..heartbeat() }, MAX_PAYLOAD);
        assert_eq!(json(&encoded)["startedAt"], format!("2026-08-20T01:02:{text}"));
        operator_decoder::heartbeat(&encoded).unwrap();
    }
    let secretive = WitInterface {
        config: BTreeMap::from([("password".to_owned(), "hunter2".to_owned())]),
        name: Some("label".to_owned()),
        ..heartbeat().imports.remove(0)
    };
    let encoded = encode_heartbeat(&HostHeartbeat { imports: vec![secretive], ..heartbeat() }, MAX_PAYLOAD);
    assert!(!String::from_utf8_lossy(&encoded).contains("hunter2"));
    assert!(encode_heartbeat(&heartbeat(), 600).len() <= 600, "interfaces go first");
}

#[test]
fn long_messages_are_cut_between_characters_and_replies_fit() {
    let reply = Reply { workload_id: "x".to_owned(), state: WorkloadState::Error, message: "ä".repeat(10_000) };
    let message = json(&reply.encode(MAX_PAYLOAD))["workloadStatus"]["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("ä...") && message.len() <= 8192 && message.len() > 8186);
    // Control characters take six bytes each on the wire.
    let reply = Reply { message: "\u{1}".repeat(8192), ..reply };
    assert!(reply.encode(4096).len() <= 4096);
    let reply = Reply { workload_id: "i".repeat(MAX_PAYLOAD), ..reply };
    let encoded = reply.encode(MAX_PAYLOAD);
    assert!(encoded.len() <= MAX_PAYLOAD);
    operator_decoder::response(&encoded).unwrap();
}

#[test]
fn the_test_decoder_agrees_with_the_operator_in_every_recorded_case() {
    let verdicts: Value = json(example("operator_decoder_verdicts.json").as_bytes());
    let verdicts = verdicts.as_array().unwrap();
    assert_eq!(verdicts.len(), 35);
    for case in verdicts {
        let input = match case["input"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            // The one case that is not UTF-8.
            None => b"{\"workloadStatus\":{\"message\":\"\xff\"}}".to_vec(),
        };
        let read = match case["message"].as_str().unwrap() {
            "HostHeartbeat" => operator_decoder::heartbeat(&input),
            _ => operator_decoder::response(&input),
        };
        match case["verdict"].as_str().unwrap() {
            "accept" => {
                let result = json(case["result"].as_str().unwrap().as_bytes());
                assert_eq!(read, Ok(result), "{}", case["case"]);
            }
            _ => assert!(read.is_err(), "{}: {read:?}", case["case"]),
        }
    }
}
