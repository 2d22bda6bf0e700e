//! Guests that fail: what the client hears, and that nobody else notices.

use std::time::Duration;

use hyper::StatusCode;

use crate::support::http::{self, Connection, Failure, Protocol, full, read, request, request_h2c};
use crate::support::{LogLine, PATIENCE, Standalone, Workload, eventually};

const GUESTS: [&str; 2] = ["http2", "http3"];
const PROTOCOLS: [Protocol; 2] = [Protocol::H1, Protocol::H2c];

async fn both(settings: &str) -> Standalone {
    let mut host = Standalone::start(settings, &GUESTS.map(|guest| Workload::new(guest, guest))).await;
    host.process.allow_log("guest failed");
    host
}

fn reason(answer: &http::Answer) -> &str {
    answer.headers["x-washlet-reason"].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_a_response_is_502_and_the_next_request_is_fine() {
    let host = both("").await;
    let cases = [
        ("http2", "/trap"),
        ("http3", "/trap"),
        ("http2", "/none"),
        ("http3", "/err/timeout"),
        ("http3", "/err/denied"),
        ("http3", "/err/anything"),
    ];
    for (guest, path) in cases {
        let name = format!("{guest}.test");
        let h1 = host.get(&name, path).await;
        let h2 = http::send_h2c(host.addr, request_h2c("GET", &name, path, full(""))).await.unwrap();
        for answer in [h1, h2] {
            assert_eq!((answer.status, reason(&answer)), (StatusCode::BAD_GATEWAY, "guest-failed"), "{guest}{path}");
            assert!(!answer.text().contains("wasm"), "no internals: {}", answer.text());
        }
        assert_eq!(host.get(&name, "/").await.status, 200);
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_in_the_log_with_its_cause_and_its_workload() {
    let host = both("").await;
    for guest in GUESTS {
        assert_eq!(host.get(&format!("{guest}.test"), "/trap").await.status, 502);
        let id = format!("static/default/{guest}");
        let wanted = |line: &LogLine| {
            line.message() == "guest failed before a response" && line.field("workload.id").as_deref() == Some(&id)
        };
        let line = host.process.wait_for_log(wanted).await;
        assert!(line.field("error").unwrap().contains("unreachable"), "{line}");
        assert_eq!((line.level(), line.field("component").as_deref()), ("WARN", Some(guest)), "{line}");
    }
    host.finish().await;
}

/// Sends a request over a fresh connection; what came of its head and, if there was one, of its body.
async fn outcome(
    host: &Standalone,
    protocol: Protocol,
    guest: &str,
    path: &str,
) -> Result<(StatusCode, bool), Failure> {
    let mut connection = Connection::open(host.addr, protocol).await.unwrap();
    let name = format!("{guest}.test");
    let request = match protocol {
        Protocol::H1 => request("GET", &name, path, full("")),
        Protocol::H2c => request_h2c("GET", &name, path, full("")),
    };
    let sent = tokio::time::timeout(PATIENCE, connection.send(request)).await.expect("a head or an end in time");
    let answer = sent.map_err(http::chain)?;
    let status = answer.status();
    let ended = tokio::time::timeout(PATIENCE, read(answer)).await.expect("an end of the body in time");
    Ok((status, ended.is_ok()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_never_looks_whole() {
    let host = both("").await;
    for guest in GUESTS {
        for path in ["/late-trap", "/late-error", "/length/10/5"] {
            for _ in 0..5 {
                let outcome = outcome(&host, Protocol::H1, guest, path).await;
                assert_eq!(outcome, Ok((StatusCode::OK, false)), "{guest}{path}: the head, and no end");
            }
            for _ in 0..5 {
                // A reset may overtake the head.
                let outcome = outcome(&host, Protocol::H2c, guest, path).await;
                assert!(matches!(outcome, Err(_) | Ok((StatusCode::OK, false))), "{guest}{path}: {outcome:?}");
            }
        }
        assert_eq!(host.get(&format!("{guest}.test"), "/").await.status, 200);
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_longer_than_announced_does_not_pass_for_a_next_response() {
    let host = both("").await;
    for guest in GUESTS {
        for protocol in PROTOCOLS {
            let outcome = outcome(&host, protocol, guest, "/length/5/10").await;
            let is_cut = matches!(outcome, Err(_) | Ok((StatusCode::OK | StatusCode::BAD_GATEWAY, _)));
            assert!(is_cut, "{guest} over {protocol:?}: {outcome:?}");
        }
        let mut connection = Connection::open(host.addr, Protocol::H1).await.unwrap();
        let name = format!("{guest}.test");
        if let Ok(answer) = connection.send(request("GET", &name, "/length/5/10", full(""))).await
            && let Ok(answer) = read(answer).await
        {
            assert_eq!(answer.text(), "xxxxx");
        }
        if connection.is_reusable().await {
            let answer = connection.send(request("GET", &name, "/", full(""))).await.unwrap();
            assert_eq!(read(answer).await.unwrap().text(), format!("Hello from {guest}\n"));
        }
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_too_slow_is_504() {
    let host = both("http.request_timeout = \"300ms\"").await;
    for guest in GUESTS {
        let name = format!("{guest}.test");
        for path in ["/sleep/60000", "/spin"] {
            let answer = host.get(&name, path).await;
            assert_eq!((answer.status, reason(&answer)), (StatusCode::GATEWAY_TIMEOUT, "deadline"), "{guest}{path}");
        }
        // The limit ends with the head: ten events take a second.
        assert_eq!(host.get(&name, "/sse").await.text().lines().filter(|line| !line.is_empty()).count(), 10);
        assert_eq!(host.get(&name, "/sleep/10").await.text(), "slept 10 ms\n");
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_gives_its_instance_back() {
    let mut host = both("engine.max_instances = 1").await;
    host.process.allow_log("guest went on after its response and was ended");
    for guest in GUESTS {
        for protocol in PROTOCOLS {
            for path in ["/spin", "/sleep/600000", "/stream/1000000", "/sse"] {
                let mut connection = Connection::open(host.addr, protocol).await.unwrap();
                let name = format!("{guest}.test");
                let request = match protocol {
                    Protocol::H1 => request("GET", &name, path, full("")),
                    Protocol::H2c => request_h2c("GET", &name, path, full("")),
                };
                let asking = tokio::spawn(async move {
                    let answer = connection.send(request).await;
                    // Holds connection and body until the test has seen enough.
                    std::future::pending::<()>().await;
                    drop((answer, connection));
                });
                eventually("the one instance is taken", PATIENCE, async || {
                    let probe = tokio::time::timeout(Duration::from_millis(200), host.get(&name, "/"));
                    probe.await.is_err().then_some(())
                })
                .await;
                asking.abort();
                let next = tokio::time::timeout(
                    Duration::from_secs(10),
                    eventually("an instance is free again", PATIENCE, async || {
                        (host.get(&name, "/").await.status == 200).then_some(())
                    }),
                );
                assert!(next.await.is_ok(), "{guest}{path} over {protocol:?} holds its instance");
            }
        }
    }
    host.finish().await;
}
