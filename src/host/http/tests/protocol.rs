//! Versions, keep-alive, pipelining and half-closed connections.

use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use super::support::{Fake, Raw, client, get, h2_client, named, ok, serve, text};
use crate::workload::http::CallError;

#[tokio::test]
async fn one_port_speaks_http_1_and_http_2() {
    let (server, _router) = serve(named("a"));
    let clients = [client(), h2_client()];
    for client in &clients {
        for _ in 0..3 {
            assert_eq!(text(client.request(get(&server, "/")).await.unwrap()).await, "a");
        }
    }
    assert_eq!(server.connections(), 2, "each client keeps its connection");
    assert_eq!(server.totals().requests(), 6);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (server, _router) = serve(Fake::new("a", |request| async move { ok(request.uri().path().to_owned()) }));
    let mut raw = Raw::connect(&server).await;
    raw.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHo").await;
    raw.until("/1").await;
    raw.until("/2").await;
    raw.send("st: a\r\nConnection: close\r\n\r\n").await;
    assert!(raw.rest().await.ends_with("/3"));
}

#[tokio::test]
async fn a_client_that_only_closed_its_sending_side_gets_its_response() {
    let (server, _router) = serve(Fake::new("a", |_request| async move {
        // The end of the client's input must be there first: nothing else tells when it was read.
        sleep(Duration::from_millis(100)).await;
        ok("late")
    }));
    let mut raw = Raw::connect(&server).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.0.shutdown().await.unwrap();
    assert!(raw.rest().await.ends_with("late"));
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let (server, _router) = serve(named("a"));
    let mut raw = Raw::connect(&server).await;
    raw.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let heard = raw.rest().await;
    assert!(heard.starts_with("HTTP/1.0 200 OK") && heard.ends_with("\r\n\r\na"), "{heard}");
}

#[tokio::test]
async fn an_upgrade_is_an_ordinary_request() {
    let (server, _router) = serve(named("a"));
    let mut raw = Raw::connect(&server).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert!(raw.until("\r\n\r\na").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_small_unread_body_does_not_cost_the_connection() {
    let (server, _router) = serve(named("a"));
    let mut raw = Raw::connect(&server).await;
    let body = "x".repeat(40 << 10);
    for _ in 0..2 {
        raw.send(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        raw.send(&body).await;
        raw.until("\r\n\r\na").await;
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on_only_if_the_body_is_wanted() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (server, _router) = serve(Fake::new("a", |request| async move {
        let read = request.into_body().collect().await.map_err(|error| CallError::Guest(error.into()))?;
        ok(read.to_bytes())
    }));
    let mut raw = Raw::connect(&server).await;
    raw.send(head).await;
    assert_eq!(raw.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send("hi").await;
    raw.until("\r\n\r\nhi").await;

    let (server, _router) = serve(named("a"));
    let mut raw = Raw::connect(&server).await;
    raw.send(head).await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 200 OK"));
}
