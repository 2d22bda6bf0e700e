//! Real faults: what hangs, what is taken, what was never meant to be changed together.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::reload::edit::{Style, edit};
use crate::reload::file::{File, workload};
use crate::reload::{HTTP2, addr, apply, outcome, refuse, start, text_of};
use crate::support::http::{self, Connection, Protocol};
use crate::support::{FakeServer, NatsServer, PATIENCE, Registry, TestProcess, eventually, free_port, quiet};

/// How long the stream lasts over which is reloaded; `WASHLET_TEST_STREAM_SECONDS` makes it longer.
const STREAM: u64 = 5;

/// Of a rejected attempt, on average. The goal is 20 ms of a release build.
const REJECTED_CPU_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 40 } else { 20 });

/// The inode of the socket that listens on `port`, as the kernel tells it of the process.
fn listener(process: &TestProcess, port: u16) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", process.id())).expect("a process of ours");
    let rows = table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let listens = |row: &Vec<String>| row[3] == "0A" && row[1].ends_with(&format!(":{port:04X}"));
    rows.skip(1).filter(listens).map(|row| row[9].clone()).collect()
}

/// Number and port of every client that the server knows.
async fn clients(monitor: u16) -> Vec<(Value, Value)> {
    let answer = http::get(addr(monitor), "nats", "/connz").await;
    let answer: Value = serde_json::from_str(answer.text()).expect("JSON");
    let connections = answer["connections"].as_array().expect("a list").clone();
    connections.into_iter().map(|it| (it["cid"].clone(), it["port"].clone())).collect()
}

async fn monitored_nats() -> (NatsServer, u16) {
    let monitor = free_port();
    (NatsServer::start(&format!("http: \"127.0.0.1:{monitor}\"")).await, monitor)
}

/// A server that lets everyone connect and says nothing.
fn black_hole() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("nats://{}", listener.local_addr().expect("a bound socket"));
    (listener, url)
}

fn scheduler(url: &str, limit: &str) -> String {
    format!("[nats.scheduler]\nurls = [\"{url}\"]\n[reload]\nprepare_timeout = \"{limit}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_costs_no_more_than_the_prepare_timeout_and_leaves_nothing() {
    let (nats, monitor) = monitored_nats().await;
    let (hole, hole_url) = black_hole();
    let mut file = File::new(free_port()).with("a", "1");
    file.tables = scheduler(&nats.url(), "10s");
    let good = file.clone();
    let mut process = start(&file.text()).await;
    eventually("the host has joined", PATIENCE, async || (clients(monitor).await.len() == 1).then_some(())).await;
    assert_eq!(text_of(file.port, "a.test", "/").await, "1");
    let before = (listener(&process, file.port), clients(monitor).await);
    let fds = process.entries_of("fd");
    let began = Instant::now();
    // Everything before the connection is prepared, and undone.
    let old_port = file.port;
    file.port = free_port();
    file.greeters[0].greeting = "never".to_owned();
    file.tables = scheduler(&hole_url, "2s");
    let (reason, error) = refuse(&mut process, &file.text()).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(reason, "prepare");
    assert!(error.starts_with("nats.scheduler: ") && error.contains("prepare_timeout"), "{error}");
    assert_eq!(text_of(old_port, "a.test", "/").await, "1");
    assert_eq!((listener(&process, old_port), clients(monitor).await), before);
    assert_eq!(listener(&process, file.port), Vec::<String>::new());
    drop(hole);
    // The next one works, and takes none of what stays.
    file = good;
    file.host = "group = \"next\"\n".to_owned();
    apply(&mut process, &file.text()).await;
    assert_eq!((listener(&process, file.port), clients(monitor).await), before);
    eventually("what it had opened is closed", PATIENCE, async || (process.entries_of("fd") <= fds).then_some(()))
        .await;
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_process_does_not_wait_for_a_reload_that_hangs() {
    let registry = FakeServer::hanging().await;
    let mut file = File::new(free_port()).with("a", "1");
    file.tables = "[registry]\nallow_insecure = true\n[reload]\nprepare_timeout = \"60s\"\n".to_owned();
    let mut process = start(&file.text()).await;
    let image = workload("b", "x", "").replace("file:x", &format!("{}/a/b:1", registry.addr()));
    edit(&mut process, Style::RenameOver, &format!("{}{image}", file.text()));
    eventually("the pull begins", PATIENCE, async || (registry.requests() > 0).then_some(())).await;
    assert_eq!(text_of(file.port, "a.test", "/").await, "1");
    let began = Instant::now();
    process.sigterm();
    assert_eq!(process.wait_exit().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_edit_adds_is_pulled_from_and_limited_by_what_the_same_edit_says() {
    let registry = Registry::shared();
    registry.push("model/together", "1", Bytes::from_static(HTTP2)).await;
    let mut file = File::new(free_port());
    let mut process = start(&file.text()).await;
    file.tables = "[registry]\nallow_insecure = true\n[limits]\ncall_timeout = \"300ms\"\n".to_owned();
    let image = registry.image("model/together", "1");
    let added = workload("guest", "x", "").replace("file:x", &image);
    apply(&mut process, &format!("{}{added}", file.text())).await;
    assert_eq!(text_of(file.port, "guest.test", "/sleep/5").await, "slept 5 ms");
    assert_eq!(http::get(addr(file.port), "guest.test", "/sleep/5000").await.status, 504);
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_workload_more_among_a_hundred_builds_one_and_a_plugin_more_builds_none() {
    let mut file = File::new(free_port());
    for number in 0..100 {
        file = file.with(&format!("w{number}"), "same");
    }
    let mut process = start(&file.text()).await;
    let socket = listener(&process, file.port);
    let built = |process: &TestProcess| {
        let lines = process.log_lines();
        let count = |message: &str| lines.iter().filter(|line| line.message() == message).count();
        (count("workload started"), count("workload stopped"), count("component compiled"))
    };
    apply(&mut process, &file.clone().with("more", "more").text()).await;
    assert_eq!(built(&process), (1, 0, 0));
    assert_eq!(text_of(file.port, "more.test", "/").await, "more");
    let with_plugin = File { tables: "[plugins.wasi-keyvalue]\n".to_owned(), ..file.clone().with("more", "more") };
    apply(&mut process, &with_plugin.text()).await;
    assert_eq!(built(&process), (0, 0, 0));
    assert_eq!(listener(&process, file.port), socket);
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_the_same_bytes_over_as_many_reloads_as_fit_into_it() {
    let seconds = std::env::var("WASHLET_TEST_STREAM_SECONDS").map_or(STREAM, |text| text.parse().expect("seconds"));
    let mut file = File::new(free_port()).with("a", "0");
    let mut ports = [file.port, free_port()];
    let guest = workload("guest", "http2.wasm", "");
    file.tables = "[drain]\ntimeout = \"10m\"\n".to_owned();
    let text = |file: &File| format!("{}{guest}", file.text());
    let mut process = start(&text(&file)).await;
    let mut connection = Connection::open(addr(file.port), Protocol::H1).await.expect("the host listens");
    let (piece_tx, body) = http::streaming();
    let response = connection.send(http::request("POST", "guest.test", "/echo", body)).await.expect("a response");
    let mut answer = response.into_body();
    let began = Instant::now();
    let mut reloads = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        reloads += 1;
        file.greeters[0].greeting = reloads.to_string();
        match reloads % 5 {
            0 => {
                ports.reverse();
                file.port = ports[0];
            }
            1 => file.request_timeout = format!("{}s", 600 + reloads),
            2 => file.host = format!("group = \"{reloads}\"\n"),
            _ => {}
        }
        apply(&mut process, &text(&file)).await;
        let piece = format!("piece {reloads} ").repeat(50);
        piece_tx.send(Bytes::from(piece.clone())).await.expect("the body is taken");
        let mut echoed = Vec::new();
        while echoed.len() < piece.len() {
            echoed.extend_from_slice(&http::next_piece(&mut answer).await.expect("more of the echo"));
        }
        assert_eq!(String::from_utf8_lossy(&echoed), piece);
    }
    drop(piece_tx);
    assert_eq!(http::next_piece(&mut answer).await, None);
    assert!(reloads >= 5, "{reloads} reloads in {seconds} s");
    process.finish().await;
}

/// What all threads of it have computed.
fn computed(process: &TestProcess) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.id())).expect("a process of ours");
    let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(of_thread).sum())
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a figure for whoever runs it")]
async fn a_rejected_attempt_costs_little() {
    const ATTEMPTS: u32 = 20;
    let _quiet = quiet().await;
    let mut file = File::new(free_port()).with("a", "1");
    file.tables = "[reload]\nwatch = false\npoll_interval = \"0s\"\n".to_owned();
    let mut process = start(&file.text()).await;
    process.allow_log("configuration rejected");
    let mut cost = Duration::ZERO;
    for number in 0..ATTEMPTS {
        process.rewrite_config(&file.text().replace("[http]\n", &format!("[http]\nlissten{number} = 1\n")));
        let before = computed(&process);
        process.sighup();
        assert_eq!(outcome(&process).await.message(), "configuration rejected");
        cost += computed(&process) - before;
    }
    eprintln!("a rejected attempt costs {:?}", cost / ATTEMPTS);
    assert!(cost / ATTEMPTS <= REJECTED_CPU_MAX, "{:?}", cost / ATTEMPTS);
    process.finish().await;
}
