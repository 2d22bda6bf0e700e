//! The end of a server: nothing that a client was promised is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::support::{
    Fake, Raw, client, eventually, get, h2_client, named, ok, reason, serve, settings, soon, start, text, within,
};
use crate::host::http::HttpServer;
use crate::task;
use crate::workload::http::HttpTarget;

/// Answers once it is let go.
fn held(gate: &Arc<Semaphore>) -> Arc<Fake> {
    let gate = Arc::clone(gate);
    Fake::new("held", move |_request| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            ok("done")
        }
    })
}

#[tokio::test]
async fn requests_in_flight_finish_and_idle_connections_are_closed() {
    let gate = Arc::new(Semaphore::new(0));
    let target = held(&gate);
    let (server, _router) = serve(Arc::clone(&target));
    let mut idle = Raw::connect(&server).await;
    let mut busy = Raw::connect(&server).await;
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let h2_client = h2_client();
    let h2 = task::spawn("client", h2_client.request(get(&server, "/")));
    eventually("both are in flight", || target.in_flight() == 2).await;

    let (forced, ()) = tokio::join!(server.drain(soon()), async {
        assert_eq!(idle.rest().await, "");
        gate.add_permits(2);
        let heard = busy.rest().await;
        assert!(heard.contains("connection: close\r\n") && heard.ends_with("done"), "{heard}");
        assert_eq!(text(within(h2).await.unwrap().unwrap().unwrap()).await, "done");
    });
    assert_eq!((forced, server.connections()), (0, 0));
    assert!(tokio::net::TcpStream::connect(server.local_addr()).await.is_err());
}

#[tokio::test]
async fn what_is_not_done_by_the_deadline_is_cut() {
    let target = held(&Arc::new(Semaphore::new(0)));
    let (server, _router) = serve(Arc::clone(&target));
    let mut busy = Raw::connect(&server).await;
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let h2_client = h2_client();
    let h2 = task::spawn("client", h2_client.request(get(&server, "/")));
    eventually("both are in flight", || target.in_flight() == 2).await;
    let forced = within(server.drain(Instant::now() + Duration::from_millis(50))).await;
    assert_eq!((forced, server.connections()), (2, 0));
    assert_eq!(busy.0.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(within(h2).await.unwrap().unwrap().is_err());
    eventually("both calls are cancelled", || target.cancelled.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn while_it_begins_to_drain_it_serves_on_and_tells_clients_to_leave() {
    let (server, router) = serve(named("a"));
    server.begin_drain();
    for client in [client(), h2_client()] {
        for _ in 0..3 {
            let response = client.request(get(&server, "/")).await.unwrap();
            let closes = response.headers().get("connection").is_some_and(|value| value == "close");
            assert_eq!(closes, response.version() == http::Version::HTTP_11);
            assert_eq!(text(response).await, "a");
        }
    }
    let mut request = get(&server, "/");
    request.headers_mut().insert("host", "b".parse().unwrap());
    let response = client().request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), reason(&response)), (503, "draining"));
    assert!(response.headers().contains_key("retry-after"));
    drop(router);
    eventually("clients have left", || server.connections() == 0).await;
}

/// Clients in closed loops, each on one connection for as long as the server lets it: how many requests failed.
async fn under_load(servers: Vec<HttpServer>, change: impl AsyncFn(&[HttpServer])) -> (usize, usize) {
    let (done, failed, stop) = (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(false)));
    let port: Arc<AtomicUsize> = Arc::default();
    let mut loops = Vec::new();
    for _ in 0..16 {
        let (done, failed): (Arc<AtomicUsize>, Arc<AtomicUsize>) = (Arc::clone(&done), Arc::clone(&failed));
        let (stop, port) = (Arc::clone(&stop), Arc::clone(&port));
        let addresses: Vec<_> = servers.iter().map(HttpServer::local_addr).collect();
        loops.push(task::spawn("client", async move {
            while !stop.load(Ordering::SeqCst) {
                let address = addresses[port.load(Ordering::SeqCst)];
                let Ok(stream) = tokio::net::TcpStream::connect(address).await else {
                    // A client that was told the old address before the switch.
                    continue;
                };
                let mut raw = Raw(stream);
                loop {
                    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                    let mut heard = Vec::new();
                    while !heard.ends_with(b"\r\n\r\na") {
                        let mut part = [0; 512];
                        match raw.0.read(&mut part).await {
                            Ok(read) if read > 0 => heard.extend_from_slice(&part[..read]),
                            Ok(_) | Err(_) => break,
                        }
                    }
                    let is_whole = heard.ends_with(b"\r\n\r\na");
                    (if is_whole { &done } else { &failed }).fetch_add(1, Ordering::SeqCst);
                    let closes = heard.windows(17).any(|part| part == b"connection: close");
                    if !is_whole || closes || stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
            }
        }));
    }
    eventually("load", || done.load(Ordering::SeqCst) > 200).await;
    port.store(1, Ordering::SeqCst);
    change(&servers).await;
    let before = done.load(Ordering::SeqCst);
    eventually("load after the change", || done.load(Ordering::SeqCst) > before + 200).await;
    stop.store(true, Ordering::SeqCst);
    for task in loops {
        within(task).await.unwrap().unwrap();
    }
    (done.load(Ordering::SeqCst), failed.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_a_server_is_drained_under_load() {
    let (old, router) = serve(named("a"));
    let new = start(settings(), &router);
    let (done, failed) = under_load(vec![old, new], async |servers: &[HttpServer]| {
        assert_eq!(within(servers[0].drain(soon())).await, 0);
    })
    .await;
    assert!(done > 400);
    assert_eq!(failed, 0);
}
