//! The connection of the data plane, and what keeps values over it, are changed while guests use them.

mod change;
mod trouble;

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::nats::{JETSTREAM, NatsClient};
use crate::support::{LogLine, NatsServer, PATIENCE, TestProcess, Workload, eventually, free_port, http, standalone};

const APPLIED: &str = "configuration applied";
const REJECTED: &str = "configuration rejected";
const CONNECTED: &str = "connected to NATS";

/// A host with the guest `kv`, taking requests and answering questions about itself.
struct Host {
    process: TestProcess,
    http: u16,
    admin: u16,
}

/// The tables of a store in the memory of the host.
fn memory() -> String {
    "plugins.wasi-keyvalue.backend = \"memory\"\n".to_owned()
}

/// Those of a store at `server`, with more about the connection.
fn nats(server: &NatsServer, more: &str) -> String {
    format!("nats.data.urls = [\"{}\"]\n{more}plugins.wasi-keyvalue.backend = \"nats\"\n", server.url())
}

impl Host {
    async fn start(settings: &str) -> Self {
        Self::start_with(settings, &[]).await
    }

    /// With further files beside the configuration.
    async fn start_with(settings: &str, files: &[(&str, &str)]) -> Self {
        let (http, admin) = (free_port(), free_port());
        let mut builder = TestProcess::builder(&text(http, admin, settings));
        for (name, content) in files {
            builder = builder.file(name, content);
        }
        let process = builder.start();
        process.wait_for_message(APPLIED).await;
        Self { process, http, admin }
    }

    /// Edits, and waits for what comes of it, retries of an older file aside.
    async fn edit(&mut self, settings: &str) -> LogLine {
        self.process.rewrite_config(&text(self.http, self.admin, settings));
        self.outcome().await
    }

    async fn outcome(&self) -> LogLine {
        let is_retry = |line: &LogLine| line.field("trigger").as_deref() == Some("retry");
        let is_outcome = |line: &LogLine| line.message() == APPLIED || (line.message() == REJECTED && !is_retry(line));
        self.process.wait_for_log(is_outcome).await
    }

    async fn apply(&mut self, settings: &str) {
        let outcome = self.edit(settings).await;
        assert_eq!(outcome.message(), APPLIED, "{outcome}");
    }

    /// Edits, and waits until that is refused; returns the error.
    async fn refuse(&mut self, settings: &str) -> String {
        self.process.allow_log(REJECTED);
        let outcome = self.edit(settings).await;
        assert_eq!(outcome.message(), REJECTED, "{outcome}");
        outcome.field("error").unwrap_or_default()
    }

    fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.http))
    }

    /// Status and text of the guest's answer.
    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let request = http::request("POST", "kv.test", path, http::full(body.to_owned()));
        let answer = http::send(self.addr(), request).await;
        (answer.status.as_u16(), answer.text().trim_end().to_owned())
    }

    async fn admin(&self, path: &str) -> String {
        let addr = SocketAddr::from(([127, 0, 0, 1], self.admin));
        http::get(addr, "admin", path).await.text().to_owned()
    }

    /// What the host says of the plugin.
    async fn plugin(&self) -> Value {
        let status: Value = serde_json::from_str(&self.admin("/status").await).expect("JSON");
        let plugins = status["config"]["plugins"].as_array().cloned().unwrap_or_default();
        plugins.into_iter().find(|plugin| plugin["id"] == "wasi-keyvalue").expect("the plugin is on")
    }

    /// Waits until nothing of an older configuration is left.
    async fn is_retired(&self) {
        eventually("what was replaced is gone", PATIENCE, async || {
            let status: Value = serde_json::from_str(&self.admin("/status").await).expect("JSON");
            (status["config"]["retiring"] == 0).then_some(())
        })
        .await;
    }

    /// How many calls and connections were cut.
    async fn forced(&self) -> f64 {
        let metrics = self.admin("/metrics").await;
        // One for each kind of part that was ever cut.
        let kinds = metrics.lines().filter(|line| line.starts_with("washlet_retired_forced_total{"));
        kinds.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
    }
}

fn text(http: u16, admin: u16, settings: &str) -> String {
    let kv = Workload::new("kv", "kv2").interface("wasi:keyvalue/store,atomics,batch@0.2.0-draft");
    let text = standalone::config(&format!("admin.listen = \"127.0.0.1:{admin}\"\n{settings}"), &[kv]);
    text.replace("127.0.0.1:0", &format!("127.0.0.1:{http}"))
}

/// A server that keeps buckets.
async fn jetstream() -> NatsServer {
    NatsServer::start(JETSTREAM).await
}

/// The last value of a key, as any other host reads it.
async fn stored(client: &NatsClient, bucket: &str, key: &str) -> Vec<u8> {
    let subject = format!("$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}");
    client.try_request(&subject, "", PATIENCE).await.expect("the bucket answers").to_vec()
}
