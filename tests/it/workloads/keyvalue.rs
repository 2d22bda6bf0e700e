//! `wasi:keyvalue` on every backend: every operation, and a counter under concurrency.

use crate::support::http::{Answer, Connection, Protocol, full, read, request};
use crate::support::nats::JETSTREAM;
use crate::support::{NatsServer, Standalone, Workload};

fn kv(name: &str) -> Workload {
    Workload::new(name, "kv2").interface("wasi:keyvalue/store,atomics,batch@0.2.0-draft")
}

/// Where values are kept, and what has to run for that.
#[derive(Debug)]
enum Backend {
    Memory,
    Nats(Box<NatsServer>),
}

impl Backend {
    async fn nats() -> Self {
        Self::Nats(Box::new(NatsServer::start(JETSTREAM).await))
    }

    /// Two workloads on one host.
    async fn two(&self) -> Standalone {
        let settings = match self {
            Self::Memory => "plugins.wasi-keyvalue = {}".to_owned(),
            Self::Nats(server) => {
                format!("nats.data.urls = [\"{}\"]\nplugins.wasi-keyvalue.backend = \"nats\"", server.url())
            }
        };
        let host = Standalone::start(&settings, &[kv("kv"), kv("other")]).await;
        if let Self::Nats(_) = self {
            host.process.wait_for_message("connected to NATS").await;
        }
        host
    }

    /// What another workload finds of a key in a bucket of the same name.
    fn shares_buckets(&self) -> bool {
        matches!(self, Self::Nats(_))
    }
}

/// Each of them on each backend.
macro_rules! on_each_backend {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Backend::Memory).await;
            })*
        }

        mod nats {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Backend::nats().await).await;
            })*
        }
    };
}

on_each_backend!(
    values_are_set_read_and_deleted,
    batches_keep_order_and_length,
    keys_are_listed_in_pages_each_once_and_sorted,
    a_counter_loses_no_increment,
);

impl Standalone {
    async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", "kv.test", path, full(body.to_owned())).await
    }
}

async fn values_are_set_read_and_deleted(backend: Backend) {
    let host = backend.two().await;
    assert_eq!(host.post("/b/get/k", "").await.status, 404);
    assert_eq!(host.post("/b/exists/k", "").await.text(), "false\n");
    assert_eq!(host.post("/b/set/k", "value").await.text(), "ok\n");
    assert_eq!(host.post("/b/get/k", "").await.text(), "value");
    assert_eq!(host.post("/b/exists/k", "").await.text(), "true\n");
    assert_eq!(host.post("/b/set/k", "").await.text(), "ok\n");
    let empty = host.post("/b/get/k", "").await;
    assert_eq!((empty.status.as_u16(), empty.text()), (200, ""), "an empty value is a value");
    assert_eq!(host.post("/b/exists/k", "").await.text(), "true\n");
    for _ in 0..2 {
        assert_eq!(host.post("/b/delete/k", "").await.text(), "ok\n", "also of what is not there");
    }
    assert_eq!(host.post("/b/get/k", "").await.status, 404);
    // Buckets do not share keys; nor do workloads, where nobody else sees the store.
    assert_eq!(host.post("/b/set/k", "mine").await.text(), "ok\n");
    assert_eq!(host.post("/c/get/k", "").await.status, 404);
    let of_other = if backend.shares_buckets() { 200 } else { 404 };
    assert_eq!(host.send("POST", "other.test", "/b/get/k", full("")).await.status, of_other);
    host.finish().await;
}

async fn batches_keep_order_and_length(backend: Backend) {
    let host = backend.two().await;
    assert_eq!(host.post("/b/set-many", "a=1\nb=2\nc=\n").await.text(), "ok\n");
    assert_eq!(host.post("/b/get-many", "c\nmissing\na\na\n").await.text(), "c=\nmissing\na=1\na=1\n");
    assert_eq!(host.post("/b/delete-many", "a\nmissing\nb\n").await.text(), "ok\n");
    assert_eq!(host.post("/b/get-many", "a\nb\nc\n").await.text(), "a\nb\nc=\n");
    host.finish().await;
}

async fn keys_are_listed_in_pages_each_once_and_sorted(backend: Backend) {
    let host = backend.two().await;
    let lines: String = (0..2500).map(|n| format!("key-{n:04}=x\n")).collect();
    assert_eq!(host.post("/b/set-many", &lines).await.text(), "ok\n");
    let mut keys = Vec::new();
    let mut pages = Vec::new();
    let mut path = "/b/list".to_owned();
    loop {
        let page = host.post(&path, "").await;
        keys.extend(page.text().lines().map(str::to_owned));
        pages.push(page.text().lines().count());
        let Some(cursor) = page.headers.get("x-cursor") else { break };
        path = format!("/b/list/{}", cursor.to_str().unwrap());
    }
    assert_eq!(pages, [1000, 1000, 500]);
    let expected: Vec<String> = (0..2500).map(|n| format!("key-{n:04}")).collect();
    assert_eq!(keys, expected);
    assert_eq!(host.post("/empty/list", "").await.text(), "");
    host.finish().await;
}

async fn a_counter_loses_no_increment(backend: Backend) {
    let host = backend.two().await;
    let addr = host.addr;
    let client = move || async move {
        let mut connection = Connection::open(addr, Protocol::H1).await.unwrap();
        for _ in 0..100 {
            assert!(connection.is_reusable().await);
            let answer = connection.send(request("POST", "kv.test", "/counter", full(""))).await.unwrap();
            let answer = read(answer).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    let clients: Vec<_> = (0..32).map(|_| tokio::spawn(client())).collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(host.post("/default/increment/hits/0", "").await.text(), "3200\n");
    // It saturates, is 0 where there was no number, and another workload has its own where it has its own store.
    assert_eq!(host.post(&format!("/b/increment/n/{}", u64::MAX - 1), "").await.text(), format!("{}\n", u64::MAX - 1));
    assert_eq!(host.post("/b/increment/n/5", "").await.text(), format!("{}\n", u64::MAX));
    assert_eq!(host.post("/b/set/text", "abc").await.text(), "ok\n");
    assert_eq!(host.post("/b/increment/text/2", "").await.text(), "2\n");
    let of_other = if backend.shares_buckets() { "3201\n" } else { "1\n" };
    assert_eq!(host.send("POST", "other.test", "/counter", full("")).await.text(), of_other);
    host.finish().await;
}
