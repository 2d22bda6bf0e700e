//! A host as the chart runs it: another user, a root that cannot be written, two directories that can.

use serde_json::{Value, json};

use super::{chart_argv, mounts};
use crate::support::http::get;
use crate::support::{NatsServer, PATIENCE, Registry, TestProcess, free_port};

/// User and group of the chart's pods.
const USER: &str = "65532";

/// Makes a mount namespace with everything read-only but `oci-cache` and `tmp`, checks that, and goes on as nobody.
///
/// Whoever is not root gets there by a user namespace, and keeps their own id.
const POD: &str = r#"
set -eu
dir=$1 washlet=$2 user=$3; shift 3
cd "$dir"
chmod 755 .
[ "$(id -u)" != 0 ] || [ "$user" = "" ] || chown -R "$user:$user" oci-cache tmp tls-cert runtime-cert
: > washlet
chmod 755 washlet
mount --bind "$washlet" washlet
for name in oci-cache tmp; do mount --bind "$name" "$name"; done
while read -r _ place _; do
    case $place in "$dir"/oci-cache | "$dir"/tmp) ;; *) mount -o remount,bind,ro "$place" 2>/dev/null || true ;; esac
done < /proc/self/mounts
if touch "$dir/probe" 2>/dev/null || touch /probe 2>/dev/null; then
    echo "the root is not read-only" >&2
    exit 99
fi
cd /
export HOME="$dir/tmp" TMPDIR="$dir/tmp"
[ "$user" = "" ] && exec "$dir/washlet" "$@"
exec setpriv --reuid "$user" --regid "$user" --clear-groups --bounding-set -all --no-new-privs "$dir/washlet" "$@"
"#;

/// `unshare` with what the tests' own user is allowed.
fn pod(dir: &std::path::Path, argv: &[String]) -> Vec<String> {
    let is_allowed = |namespaces: &[&str]| {
        let tried = std::process::Command::new("unshare").args(namespaces).arg("true").output();
        tried.is_ok_and(|output| output.status.success())
    };
    let (namespaces, user): (&[&str], &str) = if is_allowed(&["--mount"]) {
        (&["--mount"], USER)
    } else if is_allowed(&["--user", "--map-root-user", "--mount"]) {
        (&["--user", "--map-root-user", "--mount"], "")
    } else {
        panic!(
            "a read-only root needs a mount namespace: run the tests as root, or allow user namespaces (unshare -Urm)"
        )
    };
    let dir = dir.display().to_string();
    let fixed = ["sh", "-c", POD, "sh", dir.as_str(), env!("CARGO_BIN_EXE_washlet"), user];
    namespaces.iter().chain(&fixed).map(|word| (*word).to_owned()).chain(argv.iter().cloned()).collect()
}

/// The argv of the chart without TLS of the ingress, and with a registry that has none either.
fn argv(dir: &std::path::Path, nats_url: &str, http_port: u16) -> Vec<String> {
    let mut argv = chart_argv(dir, nats_url, &format!("127.0.0.1:{http_port}"));
    argv.retain(|word| !word.starts_with("--tls-") && !word.starts_with("--host-name"));
    argv.extend(["--host-name=127.0.0.1", "--allow-insecure-registries"].map(str::to_owned));
    argv
}

#[tokio::test(flavor = "multi_thread")]
async fn the_argv_of_the_chart_joins_by_tls_and_serves_from_a_read_only_root() {
    let builder = mounts(TestProcess::builder("# not read\n")).program("unshare");
    let dir = builder.dir().to_owned();
    let path = |name: &str| dir.join("runtime-cert").join(name).display().to_string();
    let (cert, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let tls = format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}");
    let nats = NatsServer::start(&tls).await;
    let options = async_nats::ConnectOptions::new()
        .add_root_certificates(ca.into())
        .add_client_certificate(cert.into(), key.into())
        .require_tls(true);
    let client = nats.client_with(options).await;
    let mut heartbeats = client.subscribe("runtime.operator.heartbeat.*").await;

    let http_port = free_port();
    let words = pod(&dir, &argv(&dir, &nats.url(), http_port));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut washlet = builder.args(&words).start();
    washlet.allow_log("not implemented yet: it has no effect");
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    assert_eq!(
        (&heartbeat["hostname"], &heartbeat["environment"], &heartbeat["labels"]["hostgroup"], &heartbeat["httpPort"]),
        (&json!("127.0.0.1"), &json!("shop"), &json!("edge"), &json!(http_port))
    );

    let registry = Registry::shared();
    registry.push("pod-http2", "1", std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    let start = json!({ "workloadId": "w", "workload": { "namespace": "shop", "name": "hello", "witWorld": {
        "components": [{ "name": "hello", "image": registry.image("pod-http2", "1") }],
        "hostInterfaces": [{ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"],
            "config": { "host": "hello.test" } }],
    } } });
    let subject =
        |command: &str| format!("runtime.host.{}.workload.{command}", heartbeat["id"].as_str().expect("an id"));
    let answer: Value = client.request(&subject("start"), &start).await;
    assert_eq!(answer["workloadStatus"]["workloadState"], "WORKLOAD_STATE_RUNNING", "{answer}");
    let answer = get(([127, 0, 0, 1], http_port).into(), "hello.test", "/").await;
    assert_eq!(answer.text(), "Hello from http2\n");

    // The chart gives a pod 512 MiB.
    assert!(washlet.resident_bytes() < 512 << 20, "{} bytes are in RAM", washlet.resident_bytes());
    let status = std::fs::read_to_string(format!("/proc/{}/status", washlet.id())).expect("a process of ours");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("Linux says Uid");
    assert!(uid.split_whitespace().all(|uid| uid != "0"), "it is not root: {uid}");
    client.request(&subject("stop"), &json!({ "workloadId": "w" })).await;
    washlet.finish().await;
}
