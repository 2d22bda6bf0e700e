//! From one store to another, with requests all the time: none fails, and a call ends where it began.

use async_nats::ConnectOptions;
use bytes::Bytes;

use super::{Host, jetstream, memory, nats, stored};
use crate::support::http::{self, Connection, Protocol};
use crate::support::load::Load;
use crate::support::nats::{JETSTREAM, NatsClient};
use crate::support::{NatsServer, PATIENCE, eventually};

/// Requests between two edits.
const BETWEEN: u64 = 50;

/// The counter of the guest, as other hosts read it.
async fn hits(client: &NatsClient) -> u64 {
    let bytes = stored(client, "default", "hits").await;
    u64::from_be_bytes(bytes.try_into().expect("8 bytes, as other hosts write them"))
}

#[tokio::test(flavor = "multi_thread")]
async fn from_memory_to_nats_and_back_no_request_fails() {
    let server = jetstream().await;
    let mut host = Host::start(&memory()).await;
    let load = Load::start(host.addr(), "kv.test", "/counter", 8);
    load.wait_for_more(BETWEEN).await;
    for _ in 0..3 {
        host.apply(&nats(&server, "")).await;
        load.wait_for_more(BETWEEN).await;
        host.apply(&memory()).await;
        load.wait_for_more(BETWEEN).await;
    }
    let stats = load.stop().await;
    assert_eq!(stats.failed, 0, "{:?}", stats.first_failure);
    host.is_retired().await;
    assert_eq!(host.forced().await, 0.0);
    let in_nats = hits(&server.client().await).await;
    let (_, in_memory) = host.post("/default/increment/hits/0", "").await;
    let in_memory: u64 = in_memory.parse().expect("a number");
    assert!(in_nats > 0 && in_memory > 0, "{in_nats} {in_memory}");
    assert!(in_nats + in_memory < stats.ok, "what the memory held when it was left is lost: {in_nats} {in_memory}");
    host.process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_another_server_and_with_rotated_credentials_no_request_fails() {
    let login = format!("{JETSTREAM}authorization {{ users: [ {{ user: host, password: one }} ] }}");
    let (a, b) = (jetstream().await, NatsServer::start(&login).await);
    let with_login = "nats.data.user = \"host\"\nnats.data.password_file = \"password\"\n";
    let mut host = Host::start_with(&nats(&a, ""), &[("password", "wrong\n")]).await;
    let load = Load::start(host.addr(), "kv.test", "/counter", 8);
    load.wait_for_more(BETWEEN).await;

    let error = host.refuse(&nats(&b, with_login)).await;
    assert!(error.contains("nats.data: the new connection cannot be made"), "{error}");
    load.wait_for_more(BETWEEN).await;
    host.process.mark();
    host.process.rewrite_file("password", "one\n");
    assert_eq!(host.outcome().await.message(), super::APPLIED);
    load.wait_for_more(BETWEEN).await;

    // The same login, written anew, is a rotation too: another connection with what is in the file now.
    host.process.mark();
    host.process.rewrite_file("password", "one");
    load.wait_for_more(BETWEEN).await;
    host.apply(&nats(&a, "")).await;
    load.wait_for_more(BETWEEN).await;
    let stats = load.stop().await;
    assert_eq!(stats.failed, 0, "{:?}", stats.first_failure);
    host.is_retired().await;
    assert_eq!(host.forced().await, 0.0);
    let login = ConnectOptions::with_user_and_password("host".to_owned(), "one".to_owned());
    let sum = hits(&a.client().await).await + hits(&b.client_with(login).await).await;
    assert_eq!(sum, stats.ok, "every increment is at one of the servers, once");
    host.process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_opened_before_is_opened_again_where_the_values_are_then() {
    let server = jetstream().await;
    let mut host = Host::start(&memory()).await;
    // The guest opens the bucket, then reads the value that is still being sent, then sets it.
    let mut connection = Connection::open(host.addr(), Protocol::H1).await.expect("it listens");
    let (piece_tx, body) = http::streaming();
    let answering = connection.send(http::request("POST", "kv.test", "/later/set/key", body));
    let sending = async {
        piece_tx.send(Bytes::from("both ")).await.expect("the body is taken");
        host.apply(&nats(&server, "")).await;
        piece_tx.send(Bytes::from("halves")).await.expect("the body is taken");
        drop(piece_tx);
    };
    let (answer, ()) = tokio::join!(answering, sending);
    assert_eq!(http::read(answer.expect("an answer")).await.expect("a whole body").text(), "ok\n");
    assert_eq!(stored(&server.client().await, "later", "key").await, b"both halves");
    assert_eq!(host.post("/later/get/key", "").await, (200, "both halves".to_owned()));
    host.process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nothing_uses_is_closed_and_one_that_did_not_change_is_kept() {
    let server = jetstream().await;
    let mut host = Host::start(&nats(&server, "")).await;
    assert_eq!(host.post("/b/set/k", "v").await.0, 200);
    let files = host.process.entries_of("fd");
    host.process.mark();
    host.apply(&format!("{}plugins.wasi-keyvalue.allow_buckets = [\"b\"]\n", nats(&server, ""))).await;
    assert_eq!(host.post("/b/get/k", "").await, (200, "v".to_owned()));
    assert_eq!(host.post("/c/get/k", "").await, (500, "access-denied".to_owned()));
    let connected = host.process.log_lines().iter().filter(|line| line.message() == super::CONNECTED).count();
    assert_eq!(connected, 0, "the connection is the same one");
    host.apply(&memory()).await;
    host.is_retired().await;
    eventually("the socket is closed", PATIENCE, async || (host.process.entries_of("fd") < files).then_some(())).await;
    host.process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_keeps_the_buckets_of_namespaces_apart() {
    let server = jetstream().await;
    let mut host = Host::start(&nats(&server, "plugins.wasi-keyvalue.bucket_prefix = \"{namespace}-\"\n")).await;
    assert_eq!(host.post("/b/set/k", "v").await, (200, "ok".to_owned()));
    assert_eq!(stored(&server.client().await, "default-b", "k").await, b"v");
    host.apply(&nats(&server, "")).await;
    assert_eq!(host.post("/b/get/k", "").await.0, 404);
    assert_eq!(host.post("/no.such/get/k", "").await, (500, "no-such-store".to_owned()));
    let (status, text) = host.post("/b/get/a%20b", "").await;
    assert!(status == 500 && text.starts_with("other: invalid key"), "{text}");
    host.process.finish().await;
}
