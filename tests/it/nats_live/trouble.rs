//! A connection that is lost, and a host that does not read what it is sent: told by log and metrics, and got over.

use super::{HEARTBEATS, config, serves};
use crate::support::{NatsServer, PATIENCE, TestProcess, Workload, eventually, free_port, http, standalone};

/// Of each question that nobody reads.
const BYTES: usize = 100_000;
/// More than the sockets of both ends hold.
const QUESTIONS: usize = 1000;

async fn metric(admin: u16, name: &str) -> Option<f64> {
    let metrics = http::get(([127, 0, 0, 1], admin).into(), "admin", "/metrics").await;
    let wanted = format!("washlet_{name}{{plane=\"scheduler\"}} ");
    metrics.text().lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_reads_nothing_is_cut_off_and_joins_again_and_counts_it() {
    let nats = NatsServer::start("max_pending: 1048576").await;
    let client = nats.client().await;
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    let admin = free_port();
    let text = config(&format!("urls = [\"{}\"]", nats.url()));
    let mut washlet = TestProcess::start(&format!("{text}[admin]\nlisten = \"127.0.0.1:{admin}\"\n"));
    washlet.allow_log("lost the connection to NATS");
    washlet.allow_log("cannot connect to NATS");
    washlet.allow_log("cannot read a request");
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    let id = heartbeat["id"].as_str().expect("an id").to_owned();
    for (name, wanted) in [
        ("nats_connections", 1.0),
        ("nats_disconnects_total", 0.0),
        ("nats_reconnects_total", 0.0),
        ("nats_slow_consumers_total", 0.0),
    ] {
        assert_eq!(metric(admin, name).await, Some(wanted), "{name}");
    }
    assert_eq!(http::get(([127, 0, 0, 1], admin).into(), "admin", "/readyz").await.status, 200);

    washlet.signal("STOP");
    let subject = format!("runtime.host.{id}.workload.status");
    for _ in 0..QUESTIONS {
        client.publish(&subject, vec![b'x'; BYTES]).await;
        if nats.log().contains("Slow Consumer") {
            break;
        }
    }
    let is_told = async || nats.log().contains("Slow Consumer").then_some(());
    eventually("the server gives it up", PATIENCE, is_told).await;
    washlet.signal("CONT");
    washlet.wait_for_message("lost the connection to NATS").await;
    serves(&client, &id).await;
    eventually("it is counted", PATIENCE, async || {
        (metric(admin, "nats_connections").await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(metric(admin, "nats_disconnects_total").await, Some(1.0));
    assert_eq!(metric(admin, "nats_reconnects_total").await, Some(1.0));
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_nats_serves_what_its_file_lists_and_joins_when_it_appears() {
    let mut nats = NatsServer::down("");
    let (port, admin) = (free_port(), free_port());
    let tables = format!(
        "admin.listen = \"127.0.0.1:{admin}\"\nnats.scheduler.urls = [\"{}\"]\nnats.scheduler.heartbeat_interval = \"1s\"\n",
        nats.url()
    );
    let text = standalone::config(&tables, &[Workload::new("guest", "http2")]);
    let mut washlet = TestProcess::start(&text.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")));
    washlet.allow_log("cannot connect to NATS, trying on");
    washlet.wait_for_message("cannot connect to NATS, trying on").await;
    let guest = async || http::get(([127, 0, 0, 1], port).into(), "guest.test", "/").await.status;
    let ready = async || http::get(([127, 0, 0, 1], admin).into(), "admin", "/readyz").await;
    eventually("the guest serves", PATIENCE, async || (guest().await == 200).then_some(())).await;
    let answer = ready().await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().starts_with("nats: failed"), "{}", answer.text());
    assert_eq!(metric(admin, "nats_connections").await, Some(0.0));
    nats.up().await;
    eventually("it is ready", PATIENCE, async || (ready().await.status == 200).then_some(())).await;
    let (_, heartbeat) = nats.client().await.subscribe(HEARTBEATS).await.next(PATIENCE).await;
    assert_eq!(heartbeat["httpPort"], port);
    assert_eq!(guest().await, 200);
    washlet.finish().await;
}
