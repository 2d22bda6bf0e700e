//! A connection that is lost, and a host that does not read what it is sent: told by log and metrics, and got over.

use super::{HEARTBEATS, config, serves};
use crate::support::{NatsServer, PATIENCE, TestProcess, eventually, free_port, http};

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
