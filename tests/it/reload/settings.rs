//! Live keys take effect, and keys that need a restart say so.

use crate::reload::edit::{Style, edit};
use crate::reload::file::{File, workload};
use crate::reload::{APPLIED, HELLO, MISSING, addr, apply, outcome, start, text_of};
use crate::support::{NatsServer, PATIENCE, TestProcess, eventually, free_port, http};

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_is_live() {
    let port = free_port();
    let mut file = File::new(port).with("a", "1");
    let mut process = start(&file.text()).await;
    file.level = "warn".to_owned();
    file.greeters[0].greeting = "2".to_owned();
    edit(&mut process, Style::RenameOver, &file.text());
    let says = async |greeting: &str| (text_of(port, "a.test", "/").await == greeting).then_some(());
    eventually("the edit is live", PATIENCE, async || says("2").await).await;
    file.greeters[0].greeting = "3".to_owned();
    edit(&mut process, Style::RenameOver, &file.text());
    eventually("the edit is live", PATIENCE, async || says("3").await).await;
    assert!(process.log_lines().is_empty(), "nothing below a warning is logged");
    file.level = "info,washlet::workload=debug".to_owned();
    file.greeters[0].greeting = "4".to_owned();
    apply(&mut process, &file.text()).await;
    file.greeters[0].greeting = "5".to_owned();
    apply(&mut process, &file.text()).await;
    assert!(process.log_lines().iter().any(|line| line.level() == "DEBUG"));
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_timeout_is_live_on_the_same_socket() {
    let port = free_port();
    let mut file = File::new(port);
    let text = |file: &File| format!("{}{}", file.text(), workload("guest", "http2.wasm", ""));
    let mut process = start(&text(&file)).await;
    assert_eq!(text_of(port, "guest.test", "/sleep/400").await, "slept 400 ms");
    file.request_timeout = "200ms".to_owned();
    apply(&mut process, &text(&file)).await;
    assert_eq!(http::get(addr(port), "guest.test", "/sleep/5000").await.status, 504);
    file.request_timeout = "0s".to_owned();
    apply(&mut process, &text(&file)).await;
    assert_eq!(text_of(port, "guest.test", "/sleep/400").await, "slept 400 ms");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_group_and_port_are_in_the_next_heartbeat_which_comes_at_once() {
    let nats = NatsServer::start("").await;
    let mut heartbeats = nats.client().await.subscribe("runtime.operator.heartbeat.*").await;
    let mut file = File::new(free_port());
    file.tables = format!("[nats.scheduler]\nurls = [\"{}\"]\nheartbeat_interval = \"1h\"\n", nats.url());
    file.host = "group = \"first\"\n".to_owned();
    let mut process = start(&file.text()).await;
    let (subject, beat) = heartbeats.next(PATIENCE).await;
    assert_eq!(beat["labels"]["hostgroup"], "first");
    file.host = "group = \"second\"\nenvironment = \"test\"\nlabels = { zone = \"a\" }\n".to_owned();
    file.port = free_port();
    apply(&mut process, &file.text()).await;
    let (same_subject, beat) = heartbeats.next(PATIENCE).await;
    assert_eq!(same_subject, subject, "the host is the same one");
    assert_eq!((&beat["labels"]["hostgroup"], &beat["labels"]["zone"]), (&"second".into(), &"a".into()));
    assert_eq!((&beat["environment"], &beat["httpPort"]), (&"test".into(), &file.port.into()));
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_need_a_restart_are_named_and_the_others_apply() {
    let port = free_port();
    let mut file = File::new(port).with("a", "1");
    let before = file.clone();
    let mut process = start(&file.text()).await;
    file.tables = "[engine]\nmax_instances = 77\n[artifacts]\ncache_dir = \"cache\"\n".to_owned();
    file.greeters[0].greeting = "2".to_owned();
    let applied = apply(&mut process, &file.text()).await;
    let pending = applied.field("restart_pending").unwrap_or_default();
    assert!(pending.contains("engine.max_instances") && pending.contains("artifacts.cache_dir"), "{applied}");
    assert!(!applied.field("changed").unwrap_or_default().contains("engine"), "{applied}");
    assert_eq!(text_of(port, "a.test", "/").await, "2");
    // They stay pending, and are no longer once they are taken back.
    file.greeters[0].greeting = "3".to_owned();
    let applied = apply(&mut process, &file.text()).await;
    assert_eq!(applied.field("restart_pending").as_deref(), Some(pending.as_str()));
    let applied = apply(&mut process, &before.text()).await;
    assert_eq!(applied.field("restart_pending"), None);
    // Alone they are no new generation.
    let alone = File { tables: "[engine]\nmax_instances = 78\n".to_owned(), ..before };
    edit(&mut process, Style::RenameOver, &alone.text());
    let unchanged = outcome(&process).await;
    assert_eq!(unchanged.message(), "configuration unchanged");
    let line = alone.text().lines().position(|line| line.starts_with("max_instances")).unwrap() + 1;
    let pending = unchanged.field("restart_pending").unwrap_or_default();
    let place = format!("/washlet.toml:{line})");
    assert!(pending.starts_with("engine.max_instances(") && pending.ends_with(&place), "{pending}");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_fails_at_the_start_is_not_told_as_started() {
    let text = File::new(free_port()).with("good", "1").text() + &workload("bad", "missing.wasm", "");
    let mut process = TestProcess::builder(&text).file("hello.wasm", HELLO).file("missing.wasm", MISSING).start();
    process.allow_log("workload failed to start");
    let changed = process.wait_for_message(APPLIED).await.field("changed").unwrap_or_default();
    assert!(changed.contains("workloads.default/good(start)"), "{changed}");
    assert!(changed.contains("workloads.default/bad(fail)"), "{changed}");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_in_vain_names_the_key_and_what_decides() {
    let file = |timeout: &str| format!("[log]\nformat = \"json\"\n[drain]\ntimeout = \"{timeout}\"\n");
    let mut process = TestProcess::builder(&file("5s")).env("WASHLET_DRAIN__TIMEOUT", "1s").start();
    process.wait_for_message(APPLIED).await;
    process.allow_log("a key was set in vain");
    edit(&mut process, Style::RenameOver, &file("6s"));
    let warning = process.wait_for_log(|line| line.message().starts_with("a key was set in vain")).await;
    let field = |name| warning.field(name).unwrap_or_default();
    assert_eq!((field("key").as_str(), field("by").as_str()), ("drain.timeout", "WASHLET_DRAIN__TIMEOUT"));
    assert_eq!(outcome(&process).await.message(), "configuration unchanged");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_line_looks_as_the_file_says() {
    let mut process = TestProcess::builder("[log]\nformat = \"text\"\n").start();
    process.wait_for_log(|line| line.contains("configuration applied")).await;
    process.sigterm();
    assert_eq!(process.wait_exit().await, Some(0));
    let log = process.stderr();
    assert!(log.lines().next().is_some_and(|line| line.contains("washlet starts")), "{log}");
    assert!(log.lines().all(|line| !line.starts_with('{')), "{log}");
}
