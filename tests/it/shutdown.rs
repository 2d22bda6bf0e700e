//! The host ends in order, or early when it must.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::reload::{HELLO, HTTP2, addr};
use crate::support::http::{self, Answer, Connection, Protocol};
use crate::support::{FakeServer, TestProcess, free_port};

fn text(port: u16, more: &str) -> String {
    format!(
        "{more}\n[http]\nlisten = \"127.0.0.1:{port}\"\n[[workloads]]\nname = \"guest\"\n\
         host_interfaces = [{{ interface = \"wasi:http/incoming-handler\", config = {{ host = \"guest.test\" }} }}]\n\
         [[workloads.components]]\nname = \"main\"\nimage = \"file:http2.wasm\"\n"
    )
}

async fn start(port: u16, more: &str) -> TestProcess {
    let process = TestProcess::builder(&text(port, more)).file("http2.wasm", HTTP2).start();
    process.wait_for_message("configuration applied").await;
    process
}

/// A request whose first piece of body has come: the guest is at work.
async fn events(port: u16) -> (Connection, hyper::body::Incoming) {
    let mut connection = Connection::open(addr(port), Protocol::H1).await.expect("the host listens");
    let response = connection.send(http::request("GET", "guest.test", "/sse", http::full(""))).await;
    let mut body = response.expect("a response").into_body();
    http::next_piece(&mut body).await.expect("a first event");
    (connection, body)
}

async fn rest(mut body: hyper::body::Incoming) -> usize {
    let mut events = 0;
    while let Some(piece) = http::next_piece(&mut body).await {
        events += String::from_utf8_lossy(&piece).matches("data: ").count();
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_host_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let port = free_port();
        let mut process = start(port, "").await;
        let _idle = Connection::open(addr(port), Protocol::H1).await.expect("the host listens");
        assert_eq!(http::get(addr(port), "guest.test", "/").await.status, 200);
        let began = Instant::now();
        process.signal(signal);
        assert_eq!(process.wait_exit().await, Some(0), "after SIG{signal}");
        assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
        process.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_finished() {
    for signal in ["TERM", "INT"] {
        let port = free_port();
        let mut process = start(port, "").await;
        let waits = tokio::spawn(async move { http::get(addr(port), "guest.test", "/sleep/1500").await });
        let (_connection, body) = events(port).await;
        process.signal(signal);
        process.wait_for_message("draining").await;
        assert_eq!(rest(body).await, 9, "the other nine events come after SIG{signal}");
        let answer: Answer = waits.await.expect("no panic");
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "slept 1500 ms\n"));
        assert_eq!(process.wait_exit().await, Some(0));
        process.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_end_is_cut_at_the_drain_timeout() {
    let port = free_port();
    let mut process = start(port, "[drain]\ntimeout = \"2s\"\nlame_duck = \"0s\"").await;
    process.allow_log("not drained within drain.timeout");
    process.allow_log("were cut");
    let stuck =
        tokio::spawn(http::try_send(addr(port), http::request("GET", "guest.test", "/sleep/60000", http::full(""))));
    let (connection, body) = events(port).await;
    drop((connection, body));
    let began = Instant::now();
    process.sigterm();
    assert_eq!(process.wait_exit().await, Some(0));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_millis(3500), "it took {took:?}");
    let cut = stuck.await.expect("no panic");
    assert!(cut.as_ref().map_or(true, |answer| answer.status.is_server_error()), "{cut:?}");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_early() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let port = free_port();
        let mut process = start(port, "").await;
        let stuck = tokio::spawn(http::try_send(
            addr(port),
            http::request("GET", "guest.test", "/sleep/60000", http::full("")),
        ));
        let (connection, body) = events(port).await;
        process.sigterm();
        process.wait_for_message("draining").await;
        let began = Instant::now();
        process.signal(signal);
        assert_eq!(process.wait_exit().await, Some(code));
        assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
        drop((connection, body));
        stuck.abort();
        process.allow_log("second signal");
        process.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_drains_the_probe_says_so_and_requests_are_served_for_the_last_time() {
    let (port, admin) = (free_port(), free_port());
    let mut process = start(port, &format!("[admin]\nlisten = \"127.0.0.1:{admin}\"")).await;
    let (_connection, body) = events(port).await;
    process.sigterm();
    process.wait_for_message("draining").await;
    let ready = http::get(addr(admin), "admin", "/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().starts_with("draining: failed"), "{}", ready.text());
    assert_eq!(http::get(addr(admin), "admin", "/livez").await.status, 200);
    let answer = http::get(addr(port), "guest.test", "/").await;
    let connection = answer.headers.get("connection").map(|value| value.as_bytes().to_ascii_lowercase());
    assert_eq!((answer.status.as_u16(), connection.as_deref()), (200, Some(&b"close"[..])));
    assert_eq!(rest(body).await, 9);
    assert_eq!(process.wait_exit().await, Some(0));
    process.finish().await;
}

/// washlet as the first process of a namespace, where signals without a handler are ignored. Its id outside.
async fn first_process(port: u16) -> (TestProcess, String) {
    let is_allowed = |args: &[&str]| {
        let tried = std::process::Command::new("unshare").args(args).arg("true").output();
        tried.is_ok_and(|output| output.status.success())
    };
    let own = ["--pid", "--fork", "--kill-child"];
    let namespaces = if is_allowed(&own) { own.to_vec() } else { [&["--user", "--map-root-user"], &own[..]].concat() };
    let words = [&namespaces[..], &[env!("CARGO_BIN_EXE_washlet"), "--config", "{dir}/washlet.toml"]].concat();
    let process =
        TestProcess::builder(&text(port, "")).file("http2.wasm", HTTP2).program("unshare").args(&words).start();
    process.wait_for_message("configuration applied").await;
    let parent = process.id();
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("a process of ours");
    let id = children.split_whitespace().next().expect("unshare has one child").to_owned();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a process of ours");
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("Linux says NSpid");
    assert_eq!(ids.split_whitespace().last(), Some("1"), "{ids}");
    (process, id)
}

fn signal(id: &str, name: &str) {
    let status = std::process::Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, id]).status();
    assert!(status.expect("sh runs").success(), "cannot send SIG{name} to process {id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_first_process_it_ends_in_order_and_at_once_at_a_second_signal() {
    for name in ["TERM", "INT"] {
        let port = free_port();
        let (mut process, id) = first_process(port).await;
        let (_connection, body) = events(port).await;
        signal(&id, name);
        assert_eq!(rest(body).await, 9, "what is in flight is finished after SIG{name}");
        assert_eq!(process.wait_exit().await, Some(0), "after SIG{name}");
        process.finish().await;
    }
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let port = free_port();
        let (mut process, id) = first_process(port).await;
        process.allow_log("second signal");
        let stuck = http::request("GET", "guest.test", "/sleep/60000", http::full(""));
        let stuck = tokio::spawn(http::try_send(addr(port), stuck));
        let (_connection, _body) = events(port).await;
        signal(&id, name);
        process.wait_for_message("draining").await;
        signal(&id, name);
        assert_eq!(process.wait_exit().await, Some(code), "after a second SIG{name}");
        stuck.abort();
        process.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_start_ends_it() {
    let registry = FakeServer::hanging().await;
    let image = format!("image = \"{}/a/b:1\"", registry.addr());
    let text = text(free_port(), "[registry]\nallow_insecure = true").replace("image = \"file:http2.wasm\"", &image);
    let mut process = TestProcess::start(&text);
    crate::support::eventually("the pull begins", crate::support::PATIENCE, async || {
        (registry.requests() > 0).then_some(())
    })
    .await;
    let began = Instant::now();
    process.sigterm();
    assert_eq!(process.wait_exit().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_the_start_at_once_with_every_problem() {
    let began = Instant::now();
    let wrong = "[http]\nlissten = 1\nrequest_timeout = 10\n[log]\nlevel = 3\n";
    let mut process = TestProcess::builder(wrong).file("hello.wasm", HELLO).start();
    assert_eq!(process.wait_exit().await, Some(78));
    assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    for problem in
        ["washlet.toml:2:1: http.lissten", "washlet.toml:3:19: http.request_timeout", "washlet.toml:5:9: log.level"]
    {
        assert!(process.stderr().contains(problem), "{problem} is in:\n{}", process.stderr());
    }
    let mut process = TestProcess::builder("").args(&["--config", "none.toml"]).start();
    assert_eq!(process.wait_exit().await, Some(78));
    assert!(process.stderr().contains("none.toml"), "{}", process.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("a bound socket").port();
    let mut process = TestProcess::builder(&text(port, "")).file("http2.wasm", HTTP2).start();
    assert_eq!(process.wait_exit().await, Some(1));
    let said = process.stderr();
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("ddress already in use"), "{said}");
}
