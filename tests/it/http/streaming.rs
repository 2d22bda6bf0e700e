//! Bodies that are sent while they are made: both ways at once, events, trailers, and large ones in little memory.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::HeaderMap;
use hyper::body::Frame;

use crate::support::http::{self, Body, Connection, Protocol, full, next_piece, request, request_h2c, streaming};
use crate::support::{PATIENCE, Standalone, Workload, quiet};

const GUESTS: [&str; 2] = ["http2", "http3"];
const PROTOCOLS: [Protocol; 2] = [Protocol::H1, Protocol::H2c];
const MIB: u64 = 1 << 20;

async fn both() -> Standalone {
    Standalone::start("", &GUESTS.map(|guest| Workload::new(guest, guest))).await
}

fn request_over(protocol: Protocol, method: &str, name: &str, path: &str, body: Body) -> hyper::Request<Body> {
    match protocol {
        Protocol::H1 => request(method, name, path, body),
        Protocol::H2c => request_h2c(method, name, path, body),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_comes_back_while_the_upload_goes_on() {
    let host = both().await;
    let paths = [("http2", "/echo"), ("http3", "/echo"), ("http3", "/pass")];
    for (guest, path) in paths {
        for protocol in PROTOCOLS {
            let mut connection = Connection::open(host.addr, protocol).await.unwrap();
            let (piece_tx, body) = streaming();
            let request = request_over(protocol, "POST", &format!("{guest}.test"), path, body);
            let sent = tokio::time::timeout(PATIENCE, connection.send(request)).await;
            let mut answer = sent.unwrap_or_else(|_| panic!("{guest}{path} over {protocol:?}: no head")).unwrap();
            assert_eq!(answer.status(), 200);
            for piece in ["one", "two", "three"] {
                piece_tx.send(Bytes::from(piece)).await.unwrap();
                assert_eq!(next_piece(answer.body_mut()).await.unwrap(), piece, "{guest}{path} over {protocol:?}");
            }
            drop(piece_tx);
            assert_eq!(next_piece(answer.body_mut()).await, None);
        }
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_when_they_are_written() {
    let _quiet = quiet().await;
    let host = both().await;
    for guest in GUESTS {
        for protocol in PROTOCOLS {
            let mut connection = Connection::open(host.addr, protocol).await.unwrap();
            let request = request_over(protocol, "GET", &format!("{guest}.test"), "/sse", full(""));
            let mut answer = connection.send(request).await.unwrap();
            assert_eq!(answer.headers()["content-type"], "text/event-stream");
            let mut last = Instant::now();
            for event in 1..=10_u32 {
                let piece = next_piece(answer.body_mut()).await.unwrap();
                assert_eq!(piece, format!("data: {event}\n\n"), "one event at a time");
                // The guest writes one each 100 ms, the first with the head.
                let late = last.elapsed().saturating_sub(Duration::from_millis(100));
                assert!(late < Duration::from_millis(100), "{guest} {protocol:?}: event {event} came {late:?} late");
                last = Instant::now();
            }
            assert_eq!(next_piece(answer.body_mut()).await, None);
        }
    }
    host.finish().await;
}

/// A body of `mib` times 1 MiB in pieces of 64 KiB.
fn large(mib: u64) -> Body {
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    let pieces = futures::stream::iter(0..mib * 16).map(move |_| Ok(Frame::data(piece.clone())));
    StreamBody::new(pieces).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_passes_in_little_memory() {
    let host = both().await;
    // What the first request of each kind leaves behind is no growth.
    for guest in GUESTS {
        assert_eq!(host.send("POST", &format!("{guest}.test"), "/echo", large(1)).await.body.len(), 1 << 20);
    }
    let before = host.process.resident_bytes();
    let mut most = before;
    for guest in GUESTS {
        let mut connection = Connection::open(host.addr, Protocol::H1).await.unwrap();
        let request = request("POST", &format!("{guest}.test"), "/echo", large(64));
        let mut answer = connection.send(request).await.unwrap();
        let mut received = 0;
        let mut pieces = 0_u32;
        while let Some(piece) = next_piece(answer.body_mut()).await {
            received += piece.len() as u64;
            pieces += 1;
            if pieces.is_multiple_of(64) {
                most = most.max(host.process.resident_bytes());
            }
        }
        assert_eq!(received, 64 * MIB, "{guest}");
    }
    let growth = most.saturating_sub(before) / MIB;
    assert!(growth < 32, "{growth} MiB for bodies of 64 MiB");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_the_guest_from_writing() {
    let host = both().await;
    for guest in GUESTS {
        let mut connection = Connection::open(host.addr, Protocol::H1).await.unwrap();
        // 64 MiB that nobody reads for now.
        let path = "/stream/65536";
        let mut answer =
            connection.send(request("GET", &format!("{guest}.test"), path, full(""))).await.unwrap().into_body();
        let first = next_piece(&mut answer).await.unwrap().len() as u64;
        let before = host.process.resident_bytes();
        // Others are served meanwhile, and what is written meanwhile waits in the guest.
        for _ in 0..50 {
            assert_eq!(host.get(&format!("{guest}.test"), "/").await.status, 200);
        }
        let growth = host.process.resident_bytes().saturating_sub(before) / MIB;
        assert!(growth < 16, "{guest}: {growth} MiB");
        let mut received = first;
        while let Some(piece) = next_piece(&mut answer).await {
            received += piece.len() as u64;
        }
        assert_eq!(received, 64 * MIB);
    }
    host.finish().await;
}

/// A body of one piece, with trailers.
fn with_trailers() -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let frames = [Ok(Frame::data(Bytes::from("content"))), Ok(Frame::trailers(trailers))];
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() {
    let host = both().await;
    for guest in GUESTS {
        for protocol in PROTOCOLS {
            let mut connection = Connection::open(host.addr, protocol).await.unwrap();
            let mut request = request_over(protocol, "POST", &format!("{guest}.test"), "/trailers", with_trailers());
            // HTTP/1 announces them.
            if matches!(protocol, Protocol::H1) {
                request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            }
            request.headers_mut().insert("te", "trailers".parse().unwrap());
            let answer = connection.send(request).await.unwrap();
            let body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap();
            let trailers = body.trailers().cloned();
            assert_eq!(body.to_bytes(), "x-sum: 42\n", "{guest} over {protocol:?}");
            if matches!(protocol, Protocol::H2c) {
                assert_eq!(trailers.unwrap()["x-trailer"], "done", "{guest}");
            }
        }
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_nobody_reads_does_not_hold_the_answer_up() {
    let host = both().await;
    for guest in GUESTS {
        let mut connection = Connection::open(host.addr, Protocol::H1).await.unwrap();
        let (piece_tx, body) = streaming();
        let answer = connection.send(request("POST", &format!("{guest}.test"), "/", body)).await.unwrap();
        assert_eq!(http::read(answer).await.unwrap().text(), format!("Hello from {guest}\n"));
        drop(piece_tx);
    }
    host.finish().await;
}
