//! What takes too long, is too much, or is one too many.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::support::{
    Fake, Raw, client, eventually, full, get, h2_client, named, ok, reason, serve_with, settings, text, within,
};
use crate::config;
use crate::types::ByteSize;
use crate::workload::http::CallError;

#[tokio::test]
async fn no_head_within_the_request_timeout_is_504_and_cancels_the_call() {
    let slow = Fake::new("slow", |_request| std::future::pending());
    let settings = config::Http { request_timeout: Some(Duration::from_millis(50)), ..settings() };
    let (server, _router) = serve_with(settings, Arc::clone(&slow));
    for client in [client(), h2_client()] {
        let response = within(client.request(get(&server, "/"))).await.unwrap();
        assert_eq!((response.status(), reason(&response)), (StatusCode::GATEWAY_TIMEOUT, "deadline"));
    }
    assert_eq!(slow.cancelled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_408_and_others_are_served() {
    let settings = config::Http { header_read_timeout: Duration::from_millis(200), ..settings() };
    let (server, _router) = serve_with(settings, named("a"));
    let mut silent = Raw::connect(&server).await;
    let mut slow = Raw::connect(&server).await;
    slow.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    assert_eq!(text(client().request(get(&server, "/")).await.unwrap()).await, "a");
    let heard = slow.rest().await;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    assert_eq!(silent.rest().await, "");
    let mut h2 = Raw::connect(&server).await;
    h2.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(h2.rest().await, "", "half a preface");
}

#[tokio::test]
async fn the_header_limit_holds_for_each_request_but_not_between_them() {
    let settings = config::Http { header_read_timeout: Duration::from_millis(300), ..settings() };
    let (server, _router) = serve_with(settings, named("a"));
    let mut raw = Raw::connect(&server).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.until("\r\n\r\na").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.until("\r\n\r\na").await;
    let began = Instant::now();
    raw.send("GET / HTTP/1.1\r\n").await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 408 "));
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_slow_body_is_not_a_slow_head() {
    let settings = config::Http { header_read_timeout: Duration::from_millis(100), ..settings() };
    let (server, _router) = serve_with(
        settings,
        Fake::new("a", |request| async move {
            let read = request.into_body().collect().await.map_err(|error| CallError::Guest(error.into()))?;
            ok(read.to_bytes())
        }),
    );
    let mut raw = Raw::connect(&server).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    raw.send("cd").await;
    raw.until("abcd").await;
}

#[tokio::test]
async fn a_body_of_known_length_over_the_limit_never_reaches_the_guest() {
    let settings = config::Http { max_request_body: Some(ByteSize::bytes(1024)), ..settings() };
    let (server, _router) = serve_with(settings, Fake::new("a", |_request| async move { panic!("reached") }));
    for client in [client(), h2_client()] {
        let mut request = get(&server, "/").map(|_| Full::new(Bytes::from(vec![0; 2048])));
        *request.method_mut() = http::Method::POST;
        let response = client.request(request).await.unwrap();
        assert_eq!((response.status(), reason(&response)), (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"));
    }
    // So much more that it is still being sent when the response comes: which must not be lost to a reset.
    for _ in 0..10 {
        let body = Full::new(Bytes::from(vec![0; 700 << 10]));
        let request = Request::post(format!("http://{}/", server.local_addr())).header("host", "a").body(body).unwrap();
        assert_eq!(client().request(request).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}

#[tokio::test]
async fn a_streamed_body_over_the_limit_fails_for_the_guest_and_is_413_for_the_client() {
    for recovers in [false, true] {
        let settings = config::Http { max_request_body: Some(ByteSize::bytes(1024)), ..settings() };
        let guest = Fake::new("a", move |request| async move {
            match request.into_body().collect().await {
                Ok(read) => ok(format!("{}", read.to_bytes().len())),
                Err(_) if recovers => Ok(http::Response::builder().status(500).body(full("oh")).unwrap()),
                Err(error) => Err(CallError::Guest(error.into())),
            }
        });
        let (server, _router) = serve_with(settings, guest);
        let ask = async |chunks: usize| {
            let mut raw = Raw::connect(&server).await;
            raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for _ in 0..chunks {
                raw.send(&format!("200\r\n{}\r\n", "x".repeat(512))).await;
            }
            raw.send("0\r\n\r\n").await;
            raw.until("\r\n\r\n").await
        };
        assert!(ask(2).await.starts_with("HTTP/1.1 200 "));
        assert!(ask(3).await.starts_with("HTTP/1.1 413 "));
    }
}

#[tokio::test]
async fn heads_over_the_limits_are_431() {
    let (server, _router) = serve_with(settings(), named("a"));
    let many = |count: usize| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    for (headers, status) in [(many(120), "200"), (many(140), "431"), (format!("x: {}\r\n", "y".repeat(70_000)), "431")]
    {
        let mut raw = Raw::connect(&server).await;
        raw.send(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")).await;
        let heard = raw.rest().await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_room_is_used_again() {
    let settings = config::Http { max_connections: std::num::NonZeroUsize::new(2), ..settings() };
    let (server, _router) = serve_with(settings.clone(), named("a"));
    let first = Raw::connect(&server).await;
    let _second = Raw::connect(&server).await;
    eventually("two connections", || server.connections() == 2 && server.is_full()).await;
    let mut third = Raw::connect(&server).await;
    assert_eq!(within(third.0.read(&mut [0; 1])).await.unwrap_or(0), 0);
    assert_eq!(server.totals().connections_refused(), 1);
    drop(first);
    eventually("room for one", || !server.is_full()).await;
    assert_eq!(text(client().request(get(&server, "/")).await.unwrap()).await, "a");
    server.apply(config::Http { max_connections: None, ..settings }, None);
    assert!(!server.is_full());
}
