//! A reload under load loses no message and doubles none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::messages;
use crate::admin::post;
use crate::support::nats::NatsClient;
use crate::support::standalone::config;
use crate::support::{NatsServer, PATIENCE, Standalone, Workload, eventually, free_port};

/// Edits of the test; `WASHLET_TEST_EDITS` makes a soak of it.
const EDITS: u64 = 12;

/// Messages that are under way at once.
const WINDOW: u64 = 32;

/// Messages that have to come through between two edits.
const BETWEEN: u64 = 100;

/// Sends numbered messages, each of which the guest is to hand on once, and counts what comes back.
struct Flow {
    back: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u64, BTreeMap<u64, usize>)>,
}

impl Flow {
    async fn start(client: NatsClient, into: &'static str, out: &'static str) -> Self {
        let (back, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut returned = client.subscribe(out).await;
        let (counted, stopped) = (Arc::clone(&back), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let (mut sent, mut seen) = (0, BTreeMap::new());
            loop {
                let goes_on = !stopped.load(Ordering::SeqCst);
                while goes_on && sent < seen.len() as u64 + WINDOW {
                    client.publish(into, format!("publish {out}\n{sent}")).await;
                    sent += 1;
                }
                if !goes_on && seen.len() as u64 == sent {
                    break;
                }
                let message = returned.next_message(PATIENCE).await;
                let number = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
                *seen.entry(number).or_default() += 1;
                counted.store(seen.len() as u64, Ordering::SeqCst);
            }
            // A second copy is not far behind the first.
            while let Ok(message) = returned.try_next(Duration::from_millis(300)).await {
                *seen.entry(std::str::from_utf8(&message.payload).unwrap().parse().unwrap()).or_default() += 1;
            }
            (sent, seen)
        });
        Self { back, stop, task }
    }

    async fn wait_for_more(&self) {
        let enough = self.back.load(Ordering::SeqCst) + BETWEEN;
        eventually("messages come through", PATIENCE * 3, async || {
            (self.back.load(Ordering::SeqCst) >= enough || self.task.is_finished()).then_some(())
        })
        .await;
    }

    /// Each message came back once.
    async fn check(self, what: &str) {
        self.stop.store(true, Ordering::SeqCst);
        let (sent, seen) = self.task.await.expect("no message was lost");
        let doubled: Vec<_> = seen.iter().filter(|(_number, times)| **times != 1).collect();
        assert!(doubled.is_empty(), "{what}: of {sent} messages came not once: {doubled:?}");
        assert!(seen.len() as u64 == sent, "{what}: {} of {sent} messages came", seen.len());
    }
}

fn settings(url: &str, messaging: &str) -> String {
    format!(
        "nats.data.urls = [\"{url}\"]\nplugins.wasmcloud-messaging = {{ backend = \"nats\"{messaging} }}\n\
         plugins.wasi-config = {{}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_or_doubled_while_connection_and_rules_change() {
    let server = NatsServer::start("").await;
    let url = server.url();
    let other_url = url.replace("127.0.0.1", "localhost");
    let workloads = |value: &str| -> Vec<Workload> {
        vec![
            messages("grouped", "in.grouped", ""),
            messages("broadcast", "in.broadcast", ", consumer_group = \"broadcast\""),
            // Changed by some edits: another version takes over.
            messages("replaced", "in.replaced", "").key(&format!("environment = {{ VALUE = \"{value}\" }}")),
        ]
    };
    let mut host = Standalone::start(&settings(&url, ""), &workloads("0")).await;
    let flows = [
        Flow::start(server.client().await, "in.grouped", "out.grouped").await,
        Flow::start(server.client().await, "in.broadcast", "out.broadcast").await,
        Flow::start(server.client().await, "in.replaced", "out.replaced").await,
    ];
    let edits = std::env::var("WASHLET_TEST_EDITS").map_or(EDITS, |edits| edits.parse().expect("a number of edits"));
    for edit in 1..=edits {
        let url = if edit % 2 == 1 { &other_url } else { &url };
        let messaging = match edit % 4 {
            0 => String::new(),
            1 => ", max_in_flight = 20".to_owned(),
            2 => format!(", queue_group = \"workload\", deny_subjects = [\"runtime.>\", \"edit.{edit}\"]"),
            _ => ", max_in_flight_per_component = 3".to_owned(),
        };
        host.process.rewrite_config(&config(&settings(url, &messaging), &workloads(&(edit / 3).to_string())));
        host.process.wait_for_message("configuration applied").await;
        for flow in &flows {
            flow.wait_for_more().await;
        }
    }
    let [grouped, broadcast, replaced] = flows;
    grouped.check("in a queue group").await;
    broadcast.check("broadcast").await;
    replaced.check("from version to version").await;
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_by_checks_and_rejected_reloads_that_would_replace_the_subscriber() {
    let server = NatsServer::start("").await;
    let port = free_port();
    let settings = format!(
        "admin.listen = \"127.0.0.1:{port}\"\nreload.watch = false\nreload.poll_interval = \"0s\"\n{}",
        settings(&server.url(), "")
    );
    let versions = |number: u64| -> Vec<Workload> {
        let value = format!("environment = {{ VALUE = \"{number}\" }}");
        // The rewired one has another subscription besides, so that the versions are not alike.
        let rewired = if number == 0 { "in.rewired".to_owned() } else { format!("in.rewired, in.other.{number}") };
        vec![
            messages("grouped", "in.grouped", "").key(&value),
            messages("rewired", &rewired, "").key(&value),
            messages("broadcast", "in.broadcast", ", consumer_group = \"broadcast\"").key(&value),
        ]
    };
    let mut host = Standalone::start(&settings, &versions(0)).await;
    host.process.allow_log("configuration rejected");
    let flows = [
        Flow::start(server.client().await, "in.grouped", "out.grouped").await,
        Flow::start(server.client().await, "in.rewired", "out.rewired").await,
        Flow::start(server.client().await, "in.broadcast", "out.broadcast").await,
    ];
    for edit in 1..=3 {
        let mut workloads = versions(edit);
        host.process.rewrite_config(&config(&settings, &workloads));
        assert_eq!(post(port, "/check").await.0, 200);
        // One that cannot be had: everything else is prepared, and given up.
        workloads.push(messages("denied", "runtime.x", ""));
        host.process.rewrite_config(&config(&settings, &workloads));
        assert_eq!(post(port, "/reload").await.0, 409);
        for flow in &flows {
            flow.wait_for_more().await;
        }
    }
    let [grouped, rewired, broadcast] = flows;
    grouped.check("in a queue group").await;
    rewired.check("with other subscriptions").await;
    broadcast.check("broadcast").await;
    host.finish().await;
}
