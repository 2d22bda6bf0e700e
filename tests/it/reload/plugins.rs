//! Plugins come, go and change while workloads use them.

use crate::reload::file::{File, workload};
use crate::reload::{addr, apply, refuse, start, text_of};
use crate::support::{LogLine, PATIENCE, TestProcess, eventually, free_port, http};

/// A file with one workload, `kv`, and these tables.
fn with_kv(port: u16, tables: &str) -> String {
    let file = File { tables: tables.to_owned(), ..File::new(port) };
    format!("{}{}", file.text(), workload("kv", "kv2.wasm", ""))
}

fn is_started(line: &LogLine) -> bool {
    line.message() == "workload started"
}

async fn post(port: u16, path: &str, body: &str) -> (u16, String) {
    let answer = http::send(addr(port), http::request("POST", "kv.test", path, http::full(body.to_owned()))).await;
    (answer.status.as_u16(), answer.text().trim_end().to_owned())
}

fn assert_untouched(process: &TestProcess) {
    let started = process.log_lines().iter().filter(|line| is_started(line)).count();
    assert_eq!(started, 0, "the workload was not started again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_enabled_later_starts_the_workload_that_lacked_it() {
    let port = free_port();
    let mut process = TestProcess::builder(&with_kv(port, "")).file("kv2.wasm", crate::reload::KV2).start();
    process.allow_log("workload failed to start");
    let failed = process.wait_for_message("workload failed to start").await;
    let error = failed.field("error").unwrap_or_default();
    assert!(error.contains("wasi:keyvalue") && error.contains("[plugins.wasi-keyvalue]"), "{error}");
    process.wait_for_message("configuration applied").await;
    assert_eq!(http::get(addr(port), "kv.test", "/counter").await.status, 404);
    apply(&mut process, &with_kv(port, "[plugins.wasi-keyvalue]\n")).await;
    process.wait_for_log(is_started).await;
    assert_eq!(text_of(port, "kv.test", "/counter").await, "1");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_in_use_cannot_be_switched_off() {
    let port = free_port();
    let mut process = start(&with_kv(port, "[plugins.wasi-keyvalue]\n")).await;
    assert_eq!(text_of(port, "kv.test", "/counter").await, "1");
    for tables in ["[plugins.wasi-keyvalue]\nenabled = false\n", ""] {
        let (reason, error) = refuse(&mut process, &with_kv(port, tables)).await;
        assert_eq!(reason, "in_use", "{error}");
        assert!(error.contains("wasi:keyvalue/store") && error.contains("default/kv"), "{error}");
    }
    assert_eq!(text_of(port, "kv.test", "/counter").await, "2");
    assert_untouched(&process);
    // With the workload gone by the same edit, nobody uses it.
    let file = File { tables: "[plugins.wasi-keyvalue]\nenabled = false\n".to_owned(), ..File::new(port) };
    apply(&mut process, &file.text()).await;
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_in_use_may_be_taken_away_if_the_file_says_so_and_its_workloads_come_back_with_it() {
    let port = free_port();
    let says_so = "[reload]\nin_use = \"fail-workloads\"\n";
    let mut process = start(&with_kv(port, &format!("[plugins.wasi-keyvalue]\n{says_so}"))).await;
    assert_eq!(text_of(port, "kv.test", "/counter").await, "1");
    process.allow_log("workload failed");
    apply(&mut process, &with_kv(port, &format!("[plugins.wasi-keyvalue]\nenabled = false\n{says_so}"))).await;
    assert_eq!(http::get(addr(port), "kv.test", "/counter").await.status, 404);
    let failed = process.wait_for_message("workload failed").await;
    assert!(failed.field("error").unwrap().contains("wasi:keyvalue/store@0.2.0-draft"), "{failed:?}");
    apply(&mut process, &with_kv(port, &format!("[plugins.wasi-keyvalue]\n{says_so}"))).await;
    eventually("the workload serves again", PATIENCE, async || {
        (http::get(addr(port), "kv.test", "/counter").await.status == 200).then_some(())
    })
    .await;
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn allowed_buckets_change_under_a_running_workload_and_contents_stay() {
    let port = free_port();
    let allow = |buckets: &str| with_kv(port, &format!("[plugins.wasi-keyvalue]\nallow_buckets = [{buckets}]\n"));
    let mut process = start(&allow("\"*\"")).await;
    assert_eq!(post(port, "/first/set/key", "kept").await, (200, "ok".to_owned()));
    apply(&mut process, &allow("\"second\", \"third-*\"")).await;
    assert_eq!(post(port, "/first/get/key", "").await, (500, "access-denied".to_owned()));
    assert_eq!(post(port, "/second/set/key", "2").await, (200, "ok".to_owned()));
    assert_eq!(post(port, "/third-x/set/key", "3").await, (200, "ok".to_owned()));
    assert_untouched(&process);
    apply(&mut process, &allow("\"*\"")).await;
    assert_eq!(post(port, "/first/get/key", "").await, (200, "kept".to_owned()));
    assert_untouched(&process);
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_memory_survives_edits_that_do_not_name_it() {
    let port = free_port();
    let tables = "[plugins.wasi-keyvalue]\n";
    let mut process = start(&with_kv(port, tables)).await;
    assert_eq!(text_of(port, "kv.test", "/counter").await, "1");
    let more = with_kv(port, &format!("{tables}[plugins.wasi-config]\n[limits]\ncall_timeout = \"20s\"\n"));
    apply(&mut process, &more).await;
    assert_eq!(text_of(port, "kv.test", "/counter").await, "2");
    assert_untouched(&process);
    // Replaced, the workload is still the same one to its store.
    apply(
        &mut process,
        &more.replace("image = \"file:kv2.wasm\"\n", "image = \"file:kv2.wasm\"\nenvironment = { A = \"1\" }\n"),
    )
    .await;
    assert_eq!(text_of(port, "kv.test", "/counter").await, "3");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_component_are_edited_live() {
    let port = free_port();
    let text = |settings: &str| {
        let tables = "[plugins.wasi-config]\n[plugins.wasi-logging]\n".to_owned();
        let component = workload("conf", "conf-log.wasm", settings);
        format!("{}{component}", File { tables, ..File::new(port) }.text())
    };
    let mut process = start(&text("config = { color = \"red\", shape = \"round\" }")).await;
    assert_eq!(text_of(port, "conf.test", "/get/color").await, "red");
    apply(&mut process, &text("config = { color = \"blue\" }")).await;
    assert_eq!(text_of(port, "conf.test", "/get/color").await, "blue");
    assert_eq!(text_of(port, "conf.test", "/get-all").await, "color=blue");
    process.mark();
    assert_eq!(text_of(port, "conf.test", "/log/info/seen").await, "logged");
    process.wait_for_log(|line| line.contains("seen") && line.level() == "INFO").await;
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_and_its_plugin_come_and_go_by_one_edit() {
    let port = free_port();
    let file = File::new(port).with("a", "1").with("b", "2");
    let mut process = start(&file.text()).await;
    let tables = "[plugins.wasi-keyvalue]\n".to_owned();
    let with_plugin = File { tables, ..file.clone() };
    apply(&mut process, &format!("{}{}", with_plugin.text(), workload("kv", "kv2.wasm", ""))).await;
    assert_eq!(text_of(port, "kv.test", "/counter").await, "1");
    apply(&mut process, &file.text()).await;
    assert_eq!(http::get(addr(port), "kv.test", "/counter").await.status, 404);
    assert_eq!(text_of(port, "a.test", "/").await, "1");
    let stopped = async || process.log_lines().iter().any(|line| line.message() == "workload stopped").then_some(());
    eventually("the workload is stopped", PATIENCE, stopped).await;
    process.finish().await;
}
