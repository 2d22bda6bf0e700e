//! `wasmcloud:messaging@0.3.0`: bodies are streams, and errors have names.

use super::nats::ask;
use super::over;
use crate::support::standalone::fixture;
use crate::support::{NatsServer, Standalone, TestProcess, Workload};

fn workload() -> String {
    format!(
        "\n[[workloads]]\nname = \"m\"\nhost_interfaces = [{{ interface = \"wasmcloud:messaging/consumer,handler@0.3.0\" }}]\n\
         [[workloads.components]]\nname = \"m\"\nimage = {:?}\nconfig = {{ subscriptions = \"in.>\" }}\n",
        fixture("msg3")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_the_third_version_answers_asks_and_is_told_by_name_what_is_wrong() {
    let server = NatsServer::start("").await;
    let client = server.client().await;
    let process = TestProcess::start(&format!("http.listen = \"127.0.0.1:0\"\n{}{}", over(&server), workload()));
    process.wait_for_message("configuration applied").await;
    assert_eq!(ask(&client, "in.a", "hello").await, "hello");
    let long = "long ".repeat(50_000);
    assert_eq!(ask(&client, "in.a", &long).await, long, "in many pieces");
    assert_eq!(ask(&client, "in.a", "request in.b\nfrom a guest").await, "from a guest");
    assert_eq!(ask(&client, "in.a", "sleep 10\nlater").await, "later");
    for (question, error) in [
        ("publish runtime.host.x", "access-denied"),
        ("publish a..b", "subject-invalid"),
        ("request nobody", "failed to send request: no responders"),
        ("request in.b 30\nsleep 2000", "timeout"),
        ("large out 2000000", "message-too-large"),
        ("large out 17000000", "message-too-large"),
    ] {
        assert_eq!(ask(&client, "in.a", question).await, format!("error: {error}"), "{question}");
    }
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_talk_to_each_other_over_one_server() {
    let server = NatsServer::start("").await;
    let client = server.client().await;
    let second = Workload::new("two", "msg2")
        .interface("wasmcloud:messaging/consumer,handler@0.2.0")
        .key("config = { subscriptions = \"second\" }");
    let host = Standalone::start(&over(&server), &[second]).await;
    let other = TestProcess::start(&format!("http.listen = \"127.0.0.1:0\"\n{}{}", over(&server), workload()));
    other.wait_for_message("configuration applied").await;
    assert_eq!(ask(&client, "in.a", "request second\nto 0.2").await, "to 0.2");
    assert_eq!(ask(&client, "second", "request in.a 5000\nto 0.3").await, "to 0.3");
    other.finish().await;
    host.finish().await;
}
