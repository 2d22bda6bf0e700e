//! The support tested by itself, with a shell script in the place of washlet.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use serde_json::json;

use super::http::{self, Connection, Protocol};
use super::*;

/// Logs as washlet does, says `reloaded` at SIGHUP and `ended` at SIGTERM.
const SCRIPT: &str = r#"
say() { printf '{"level":"%s","fields":{"message":"%s","home":"%s"},"spans":[{"workload.id":"w1"}]}\n' "$1" "$2" "$HOME" >&2; }
trap 'say INFO reloaded; say WARN "half done"' HUP
trap 'say INFO ended; exit 0' TERM
echo "out ${WASHLET_TEST_X-unset}"
say INFO started
while :; do sleep 0.05; done
"#;

fn script() -> TestProcess {
    let builder = TestProcess::builder("first").file("run.sh", SCRIPT).env("OTHER", "1");
    builder.program("sh").args(&["{dir}/run.sh"]).start()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_logs_reloads_and_ends() {
    let mut process = script();
    let started = process.wait_for_message("started").await;
    assert_eq!(started.level(), "INFO");
    assert_eq!(started.field("workload.id").as_deref(), Some("w1"));
    assert_eq!(started.field("home").as_deref(), process.dir().to_str());
    process.rewrite_config("second");
    assert_eq!(std::fs::read_to_string(process.dir().join("washlet.toml")).unwrap(), "second");
    process.sighup();
    process.wait_for_log(|line| line.contains("half done")).await;
    assert_eq!(process.log_lines().len(), 2);
    process.allow_log("half done");
    process.sigterm();
    assert_eq!(process.wait_exit().await, Some(0));
    assert_eq!(process.stdout(), "out unset\n");
    assert!(process.stderr().contains("ended"));
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "unexpected lines in the log")]
async fn a_warning_nobody_allowed_fails_the_test() {
    let mut process = script();
    process.wait_for_message("started").await;
    process.sighup();
    process.wait_for_message("half done").await;
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_binary_can_be_started_and_killed() {
    let mut process = TestProcess::start("[log]\nformat = \"json\"\n");
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_server_keeps_its_port_over_a_restart() {
    let mut nats = NatsServer::down("authorization { token: \"secret\" }");
    let url = nats.url();
    nats.up().await;
    nats.restart().await;
    assert_eq!(nats.url(), url);
    let client = nats.client_with(async_nats::ConnectOptions::with_token("secret".to_owned())).await;
    let error = client.try_request("nobody.listens", "{}", Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error, RequestErrorKind::NoResponders);
    nats.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_nats_is_answered() {
    let nats = NatsServer::start("").await;
    // One connection: on two, the request may reach the server before the subscription does.
    let answerer = nats.client().await;
    let asker = answerer.clone();
    let mut requests = answerer.subscribe("echo").await;
    let answer = tokio::spawn(async move { asker.request("echo", &json!({ "n": 1 })).await });
    let request = requests.next_message(PATIENCE).await;
    answerer.publish(&request.reply.expect("a request wants a reply"), request.payload).await;
    assert_eq!(answer.await.unwrap(), json!({ "n": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_component_can_be_pulled_by_its_digest() {
    let registry = Registry::shared();
    let digest = registry.push("support/pushed", "1", "not really wasm").await;
    let path = format!("/v2/support/pushed/manifests/{digest}");
    let request = hyper::Request::builder().uri(path).header("host", "registry").header("accept", registry::MANIFEST);
    let answer = http::send(registry.addr(), request.body(http::full("")).unwrap()).await;
    assert_eq!(answer.body, registry::manifest(b"not really wasm"));
    assert!(registry.image("support/pushed", "1").ends_with("/support/pushed:1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fakes_hang_close_lie_and_fail_for_a_while() {
    let hanging = FakeServer::hanging().await;
    let call = http::try_send(hanging.addr(), http::request("GET", "h", "/v2/", http::full("")));
    let call = tokio::spawn(call);
    eventually("the request arrives", PATIENCE, async || (hanging.requests() == 1).then_some(())).await;
    drop(hanging);
    assert!(call.await.unwrap().is_err());

    let closing = FakeServer::start(|_path, _before| Reply::Close).await;
    assert!(http::try_send(closing.addr(), http::request("GET", "h", "/", http::full(""))).await.is_err());

    let flaky = FakeServer::flaky_registry(Bytes::from("wasm"), 1).await;
    assert_eq!(http::get(flaky.addr(), "h", "/v2/x/manifests/1").await.status, 503);
    assert_eq!(http::get(flaky.addr(), "h", "/v2/x/manifests/1").await.status, 200);

    let lying = FakeServer::lying_registry(Bytes::from("promised"), Bytes::from("given")).await;
    assert_eq!(http::get(lying.addr(), "h", "/v2/x/blobs/y").await.text(), "given");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_counts_what_is_answered_and_what_is_not() {
    let server = FakeServer::start(|_path, before| match before {
        100 => Reply::Answer(hyper::StatusCode::BAD_GATEWAY, "text/plain", Bytes::from("broken")),
        _ => Reply::Answer(hyper::StatusCode::OK, "text/plain", Bytes::from("fine")),
    })
    .await;
    let load = Load::start(server.addr(), "h", "/", 4);
    load.wait_for_more(200).await;
    let stats = load.stop().await;
    assert!(stats.ok >= 199 && stats.failed == 1 && stats.retried == 0, "{stats:?}");
    assert_eq!(stats.first_failure.as_deref(), Some("status 502 Bad Gateway: broken"));
    assert!(stats.slowest > Duration::ZERO);
    assert_eq!(server.requests(), usize::try_from(stats.ok + stats.failed).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_in_both_directions_and_h2c_is_spoken() {
    let echo = EchoServer::start().await;
    let mut connection = Connection::open(echo.addr, Protocol::H1).await.unwrap();
    let (piece_tx, body) = http::streaming();
    let response = connection.send(http::request("POST", "h", "/", body)).await.unwrap();
    let mut answer = response.into_body();
    for piece in ["one", "two"] {
        piece_tx.send(Bytes::from(piece)).await.unwrap();
        assert_eq!(http::next_piece(&mut answer).await.unwrap(), piece);
    }
    drop(piece_tx);
    assert_eq!(http::next_piece(&mut answer).await, None);

    let answer = http::send_h2c(echo.addr, http::request_h2c("POST", "h", "/", http::full("two"))).await.unwrap();
    assert_eq!(answer.text(), "two");
}

/// Answers each request with its own body, while it still comes.
struct EchoServer {
    addr: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl EchoServer {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _peer)) = listener.accept().await {
                let echo = hyper::service::service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(request.into_body()))
                });
                let executor = hyper_util::rt::TokioExecutor::new();
                let server = hyper_util::server::conn::auto::Builder::new(executor);
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(async move { drop(server.serve_connection(io, echo).await) });
            }
        });
        Self { addr, task }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[test]
fn free_ports_differ() {
    assert_ne!(free_port(), free_port());
}

#[test]
fn text_that_is_no_log_line_is_alarming() {
    let log = super::log::Log::new();
    log.push(LogLine::parse("thread 'main' panicked"));
    log.push(LogLine::parse(r#"{"level":"INFO","fields":{"message":"fine"}}"#));
    assert_eq!(log.unexpected(&[]).len(), 1);
}
