//! Requests in flight end where they began, whatever is replaced under them.

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::reload::file::{File, workload};
use crate::reload::{addr, apply, start, text_of};
use crate::support::http::{self, Connection, Protocol};
use crate::support::{PATIENCE, TestProcess, free_port};

fn text(port: u16, version: &str) -> String {
    let environment = format!("environment = {{ VERSION = \"{version}\" }}");
    format!("{}{}", File::new(port).text(), workload("guest", "http2.wasm", &environment))
}

async fn version(port: u16) -> String {
    text_of(port, "guest.test", "/env").await
}

/// Replaces the workload, then moves the listener; returns the new port.
async fn replace_and_move(process: &mut TestProcess, port: u16) -> u16 {
    assert_eq!(version(port).await, "VERSION=1");
    apply(process, &text(port, "2")).await;
    assert_eq!(version(port).await, "VERSION=2");
    let other_port = free_port();
    apply(process, &text(other_port, "2")).await;
    assert_eq!(version(other_port).await, "VERSION=2");
    other_port
}

/// Sends one request after the other, and goes to where it is told when its connection ends; says when it arrived.
async fn send_on(mut ports: watch::Receiver<Option<u16>>, protocol: Protocol, arrived_tx: mpsc::Sender<()>) {
    let mut at = None;
    loop {
        at = *ports.wait_for(|port| *port != at).await.expect("the test goes on");
        let Some(port) = at else { return };
        let mut connection = open(port, protocol).await;
        let mut arrived_tx = Some(arrived_tx.clone());
        while is_answered(&mut connection, protocol).await && ports.borrow().is_some() {
            if let Some(arrived_tx) = arrived_tx.take() {
                arrived_tx.send(()).await.expect("the test goes on");
            }
        }
    }
}

/// Sends a request; whether there can be another one.
async fn is_answered(connection: &mut Connection, protocol: Protocol) -> bool {
    let request = match protocol {
        Protocol::H1 => http::request("GET", "guest.test", "/sleep/5", http::full("")),
        Protocol::H2c => http::request_h2c("GET", "guest.test", "/sleep/5", http::full("")),
    };
    match connection.send(request).await {
        Ok(response) => {
            let answer = http::read(response).await.expect("a whole body");
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "slept 5 ms\n"));
            connection.is_reusable().await
        }
        // Not sent, or crossed with the goodbye, which says that it was not looked at (RFC 9113, 6.8): to be sent again.
        Err(error) => {
            let is_safe =
                error.is_canceled() || washlet::error::Chain(&error).to_string().contains("not a result of an error");
            assert!(is_safe, "only a goodbye ends a connection: {}", http::chain(error));
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_are_told_to_leave_and_none_is_broken() {
    const CLIENTS: [Protocol; 4] = [Protocol::H2c, Protocol::H2c, Protocol::H1, Protocol::H1];
    let mut port = free_port();
    let mut process = start(&text(port, "1")).await;
    let (port_tx, port_rx) = watch::channel(Some(port));
    let (arrived_tx, mut arrived_rx) = mpsc::channel(CLIENTS.len());
    let clients = CLIENTS.map(|protocol| tokio::spawn(send_on(port_rx.clone(), protocol, arrived_tx.clone())));
    for _ in 0..6 {
        for _ in CLIENTS {
            let arrived = tokio::time::timeout(PATIENCE, arrived_rx.recv()).await;
            arrived.expect("every client is told to leave").expect("the clients run");
        }
        port = free_port();
        apply(&mut process, &text(port, "1")).await;
        port_tx.send_replace(Some(port));
    }
    port_tx.send_replace(None);
    for client in clients {
        client.await.expect("no request fails");
    }
    process.finish().await;
}

async fn open(port: u16, protocol: Protocol) -> Connection {
    Connection::open(addr(port), protocol).await.expect("the host listens")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_its_head_is_answered() {
    let port = free_port();
    let mut process = start(&text(port, "1")).await;
    let requests = [Protocol::H1, Protocol::H2c].map(|protocol| {
        tokio::spawn(async move {
            let mut connection = open(port, protocol).await;
            let request = match protocol {
                Protocol::H1 => http::request("GET", "guest.test", "/sleep/3000", http::full("")),
                Protocol::H2c => http::request_h2c("GET", "guest.test", "/sleep/3000", http::full("")),
            };
            http::read(connection.send(request).await.expect("a response")).await.expect("a whole body")
        })
    });
    replace_and_move(&mut process, port).await;
    for request in requests {
        let answer = request.await.expect("no panic");
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "slept 3000 ms\n"));
    }
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_is_whole() {
    let port = free_port();
    let mut process = start(&text(port, "1")).await;
    let mut connection = open(port, Protocol::H1).await;
    let request = http::request("GET", "guest.test", "/sse", http::full(""));
    let mut events = connection.send(request).await.expect("a response").into_body();
    let mut received = http::next_piece(&mut events).await.expect("a first event").to_vec();
    replace_and_move(&mut process, port).await;
    while let Some(piece) = http::next_piece(&mut events).await {
        received.extend_from_slice(&piece);
    }
    let expected: String = (1..=10).map(|n| format!("data: {n}\n\n")).collect();
    assert_eq!(String::from_utf8_lossy(&received), expected);
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_still_sent_is_echoed_to_its_end() {
    let port = free_port();
    let mut process = start(&text(port, "1")).await;
    let mut connection = open(port, Protocol::H1).await;
    let (piece_tx, body) = http::streaming();
    let exchange = async |answer: &mut hyper::body::Incoming, piece: &'static str| {
        piece_tx.send(Bytes::from(piece)).await.expect("the body is taken");
        let mut echoed = Vec::new();
        while echoed.len() < piece.len() {
            echoed.extend_from_slice(&http::next_piece(answer).await.expect("more of the echo"));
        }
        assert_eq!(echoed, piece.as_bytes());
    };
    let response = connection.send(http::request("POST", "guest.test", "/echo", body)).await.expect("a response");
    let mut answer = response.into_body();
    exchange(&mut answer, "before").await;
    let other_port = replace_and_move(&mut process, port).await;
    exchange(&mut answer, "between").await;
    apply(&mut process, &File::new(other_port).text()).await;
    assert_eq!(http::get(addr(other_port), "guest.test", "/").await.status, 404);
    exchange(&mut answer, "after its workload was removed").await;
    drop(piece_tx);
    assert_eq!(http::next_piece(&mut answer).await, None);
    process.finish().await;
}
