//! `wasi:keyvalue` on the memory backend: every operation, and a counter under concurrency.

use crate::support::http::{Answer, Connection, Protocol, full, read, request};
use crate::support::{Standalone, Workload};

fn kv(name: &str) -> Workload {
    Workload::new(name, "kv2").interface("wasi:keyvalue/store,atomics,batch@0.2.0-draft")
}

async fn two() -> Standalone {
    Standalone::start("plugins.wasi-keyvalue = {}", &[kv("kv"), kv("other")]).await
}

impl Standalone {
    async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", "kv.test", path, full(body.to_owned())).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_set_read_and_deleted() {
    let host = two().await;
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
    // Buckets do not share keys, nor do workloads.
    assert_eq!(host.post("/b/set/k", "mine").await.text(), "ok\n");
    assert_eq!(host.post("/c/get/k", "").await.status, 404);
    assert_eq!(host.send("POST", "other.test", "/b/get/k", full("")).await.status, 404);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_keep_order_and_length() {
    let host = two().await;
    assert_eq!(host.post("/b/set-many", "a=1\nb=2\nc=\n").await.text(), "ok\n");
    assert_eq!(host.post("/b/get-many", "c\nmissing\na\na\n").await.text(), "c=\nmissing\na=1\na=1\n");
    assert_eq!(host.post("/b/delete-many", "a\nmissing\nb\n").await.text(), "ok\n");
    assert_eq!(host.post("/b/get-many", "a\nb\nc\n").await.text(), "a\nb\nc=\n");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_in_pages_each_once_and_sorted() {
    let host = two().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_loses_no_increment() {
    let host = two().await;
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
    // It saturates, and starts at nothing in another workload.
    assert_eq!(host.post(&format!("/b/increment/n/{}", u64::MAX - 1), "").await.text(), format!("{}\n", u64::MAX - 1));
    assert_eq!(host.post("/b/increment/n/5", "").await.text(), format!("{}\n", u64::MAX));
    assert_eq!(host.send("POST", "other.test", "/counter", full("")).await.text(), "1\n");
    host.finish().await;
}
