//! Requests in flight end where they began, whatever is replaced under them.

use bytes::Bytes;

use crate::reload::file::{File, workload};
use crate::reload::{addr, apply, start, text_of};
use crate::support::http::{self, Connection, Protocol};
use crate::support::{TestProcess, free_port};

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

/// Sends on until the server says that the connection ends, then goes to where it is told; returns how often.
async fn send_on(mut addrs: tokio::sync::watch::Receiver<u16>, protocol: Protocol) -> u32 {
    let (mut port, mut moves) = (*addrs.borrow(), 0);
    let mut connection = open(port, protocol).await;
    while port != 0 {
        let request = match protocol {
            Protocol::H1 => http::request("GET", "guest.test", "/sleep/5", http::full("")),
            Protocol::H2c => http::request_h2c("GET", "guest.test", "/sleep/5", http::full("")),
        };
        let is_open = match connection.send(request).await {
            Ok(response) => {
                let answer = http::read(response).await.expect("a whole body");
                assert_eq!((answer.status.as_u16(), answer.text()), (200, "slept 5 ms\n"));
                connection.is_reusable().await
            }
            // It crossed with the goodbye, which says that it was not looked at: RFC 9113 (6.8) has it sent again.
            Err(error) => {
                assert!(http::chain(error).contains("not a result of an error"), "only a goodbye ends a connection");
                false
            }
        };
        if !is_open {
            port = *addrs.wait_for(|now| *now != port).await.expect("the test goes on");
            if port != 0 {
                connection = open(port, protocol).await;
                moves += 1;
            }
        } else if *addrs.borrow() == 0 {
            break;
        }
    }
    moves
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_are_told_to_leave_and_none_is_broken() {
    const MOVES: u32 = 6;
    let port = free_port();
    let mut process = start(&text(port, "1")).await;
    let (port_tx, port_rx) = tokio::sync::watch::channel(port);
    let clients = [Protocol::H2c, Protocol::H2c, Protocol::H1, Protocol::H1]
        .map(|protocol| tokio::spawn(send_on(port_rx.clone(), protocol)));
    for _ in 0..MOVES {
        let port = free_port();
        apply(&mut process, &text(port, "1")).await;
        port_tx.send_replace(port);
        assert_eq!(version(port).await, "VERSION=1");
    }
    port_tx.send_replace(0);
    for client in clients {
        let moves = client.await.expect("no request fails");
        assert!(moves <= MOVES, "{moves}");
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
