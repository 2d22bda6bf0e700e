//! What is refused although it is valid, what is no change, and what makes the host look.

use std::fs;
use std::net::TcpListener;

use crate::reload::edit::{STYLES, edit};
use crate::reload::file::{File, workload};
use crate::reload::{
    APPLIED, HELLO, HTTP2, addr, apply, apply_as, attempts, outcome, refuse, refuse_as, start, text_of,
};
use crate::support::{NatsServer, PATIENCE, TestProcess, eventually, free_port, http};

fn started(process: &TestProcess) -> Vec<String> {
    let lines = process.log_lines();
    lines.iter().filter(|line| line.message() == "workload started").map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_most_workloads_at_once_is_refused_unless_the_file_allows_it() {
    let port = free_port();
    let many = File::new(port).with("a", "1").with("b", "2").with("c", "3");
    let mut few = File::new(port).with("c", "3");
    let mut process = start(&many.text()).await;
    let (reason, error) = refuse(&mut process, &few.text()).await;
    assert_eq!(reason, "guard");
    assert!(error.contains("2 of 3 workloads") && error.contains("allow_mass_removal"), "{error}");
    assert!(error.contains("default/a") && error.contains("default/b"), "{error}");
    assert_eq!(text_of(port, "a.test", "/").await, "1");
    few.tables = "[reload]\nallow_mass_removal = true\n".to_owned();
    apply(&mut process, &few.text()).await;
    assert_eq!(text_of(port, "c.test", "/").await, "3");
    assert_eq!(http::get(addr(port), "a.test", "/").await.status, 404);
    assert_eq!(started(&process), Vec::<String>::new(), "what stays is not touched");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_listener_or_the_scheduler_is_refused() {
    let nats = NatsServer::start("").await;
    let port = free_port();
    let mut file = File::new(port).with("a", "1");
    let alone = file.text();
    file.tables = format!("[nats.scheduler]\nurls = [\"{}\"]\n", nats.url());
    let mut process = start(&file.text()).await;
    let (reason, error) = refuse(&mut process, &alone).await;
    assert_eq!(reason, "guard");
    assert!(error.contains("nats.scheduler") && error.contains("allow_mass_removal"), "{error}");
    let deaf = file.text().replace(&format!("listen = \"127.0.0.1:{port}\"\n"), "");
    let (reason, error) = refuse(&mut process, &deaf).await;
    assert_eq!(reason, "guard");
    assert!(error.contains("http.listen") && error.contains("allow_mass_removal"), "{error}");
    assert_eq!(text_of(port, "a.test", "/").await, "1");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_refused_and_its_repair_applied() {
    let port = free_port();
    let mut process = start(&File::new(port).with("a", "1").text()).await;
    for style in STYLES {
        let (reason, error) = refuse_as(&mut process, style, " \n").await;
        assert_eq!(reason, "guard");
        assert!(error.contains("washlet.toml is empty"), "{error}");
        let greeting = format!("after {style:?}");
        apply_as(&mut process, style, &File::new(port).with("a", &greeting).text()).await;
        assert_eq!(text_of(port, "a.test", "/").await, greeting);
    }
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_is_told_and_coming_back_it_is_no_change() {
    let port = free_port();
    let file = File::new(port).with("a", "1");
    let mut process = start(&file.text()).await;
    process.allow_log("configuration rejected");
    fs::remove_file(process.dir().join("washlet.toml")).expect("the file is there");
    let gone = outcome(&process).await;
    assert_eq!(gone.field("reason").as_deref(), Some("missing"), "{gone}");
    assert!(gone.field("error").is_some_and(|error| error.contains("washlet.toml")), "{gone}");
    assert_eq!(text_of(port, "a.test", "/").await, "1");
    assert_eq!(attempts(&process).len(), 1);
    process.rewrite_config(&file.text());
    assert_eq!(outcome(&process).await.message(), "configuration unchanged");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_applies_what_nobody_watches() {
    let port = free_port();
    let mut file = File::new(port).with("a", "1");
    file.tables = "[reload]\nwatch = false\npoll_interval = \"0s\"\n".to_owned();
    let mut process = start(&file.text()).await;
    file.greeters[0].greeting = "2".to_owned();
    process.rewrite_config(&file.text());
    process.sighup();
    let applied = outcome(&process).await;
    assert_eq!((applied.message(), applied.field("trigger").as_deref()), (APPLIED, Some("sighup")), "{applied}");
    assert_eq!(text_of(port, "a.test", "/").await, "2");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_comments_and_order_touches_nothing() {
    let port = free_port();
    let file = File::new(port).with("a", "1").with("b", "2");
    let mut process = start(&file.text()).await;
    let generation = apply(&mut process, &file.text().replace("30s", "31s")).await.field("generation");
    let comments = format!("# A comment.\n{}", file.text().replace("30s", "31000ms")).replace(" = ", "  =  ");
    edit(&mut process, STYLES[1], &comments);
    let unchanged = outcome(&process).await;
    assert_eq!(unchanged.message(), "configuration unchanged");
    assert_eq!(unchanged.field("generation"), generation);
    assert_eq!(started(&process), Vec::<String>::new());
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_for_a_passing_reason_is_tried_again_by_itself() {
    let port = free_port();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken_port = taken.local_addr().expect("a bound socket").port();
    let mut process = start(&File::new(port).with("a", "1").text()).await;
    let (reason, error) = refuse(&mut process, &File::new(taken_port).with("a", "2").text()).await;
    assert_eq!(reason, "prepare");
    assert!(error.contains(&format!("127.0.0.1:{taken_port}")), "{error}");
    assert_eq!(text_of(port, "a.test", "/").await, "1", "all or nothing");
    drop(taken);
    let applied = process.wait_for_message(APPLIED).await;
    assert_eq!(applied.field("trigger").as_deref(), Some("retry"));
    assert_eq!(text_of(taken_port, "a.test", "/").await, "2");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_variable_pins_is_not_changed_by_the_file() {
    let (port, other_port) = (free_port(), free_port());
    let listen = format!("127.0.0.1:{port}");
    let builder = TestProcess::builder(&File::new(other_port).with("a", "1").text()).file("hello.wasm", HELLO);
    let mut process = builder.env("WASHLET_HTTP__LISTEN", &listen).start();
    process.wait_for_message(APPLIED).await;
    assert_eq!(text_of(port, "a.test", "/").await, "1");
    let applied = apply(&mut process, &File::new(free_port()).with("a", "2").text()).await;
    assert!(!applied.contains("http.listen("), "{applied}");
    process.allow_log("a key was set in vain");
    assert_eq!(text_of(port, "a.test", "/").await, "2");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_shows_no_secret() {
    let port = free_port();
    let file = File::new(port).with("a", "1");
    let mut process = start(&file.text()).await;
    for secret in ["token = \"canary", "token = [\"canary\"]", "tokken = \"canary\"", "token = \"canary\"\nurls = 3"] {
        let tables = format!("[nats.scheduler]\n{secret}\n");
        let (reason, error) = refuse(&mut process, &File { tables, ..file.clone() }.text()).await;
        assert_eq!(reason, "invalid", "{error}");
    }
    let stderr = process.stderr();
    assert!(!stderr.contains("canary"), "{stderr}");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_in_quick_succession_end_with_the_last_one() {
    const EDITS: usize = 50;
    let port = free_port();
    let mut process = start(&File::new(port).with("a", "0").text()).await;
    for number in 1..=EDITS {
        edit(&mut process, STYLES[number % STYLES.len()], &File::new(port).with("a", &number.to_string()).text());
    }
    let last = EDITS.to_string();
    let is_live = async || (text_of(port, "a.test", "/").await == last).then_some(());
    eventually("the last edit is live", PATIENCE, is_live).await;
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_built_again_is_live() {
    let port = free_port();
    let text = format!("{}{}", File::new(port).text(), workload("a", "guest.wasm", ""));
    let builder = TestProcess::builder(&text).file("guest.wasm", HELLO);
    let mut process = builder.start();
    process.wait_for_message(APPLIED).await;
    assert_eq!(text_of(port, "a.test", "/").await, "Hello from washlet");
    process.mark();
    process.rewrite_file("guest.wasm", HTTP2);
    process.wait_for_message(APPLIED).await;
    assert_eq!(text_of(port, "a.test", "/").await, "Hello from http2");
    process.allow_log("configuration rejected");
    process.mark();
    process.rewrite_file("guest.wasm", &HTTP2[..1000]);
    let refused = outcome(&process).await;
    assert_eq!(refused.message(), "configuration rejected");
    assert!(refused.field("error").is_some_and(|error| error.contains("default/a")), "{refused}");
    assert_eq!(text_of(port, "a.test", "/").await, "Hello from http2");
    process.finish().await;
}
