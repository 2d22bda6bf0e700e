//! The end of a server: nothing that a client was promised is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::support::{
    Fake, Raw, client, eventually, get, h2_client, named, ok, reason, serve, settings, soon, start, text, within,
};
use crate::config;
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

/// Clients in closed loops: what they got, and where they go next.
#[derive(Debug, Default)]
struct Load {
    done: AtomicUsize,
    failed: AtomicUsize,
    stop: AtomicBool,
    address: std::sync::Mutex<Option<SocketAddr>>,
}

impl Load {
    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    fn goes_to(&self, server: &HttpServer) {
        *self.address.lock().unwrap() = Some(server.local_addr());
    }

    /// Requests on one connection after another; each is used until the server says close, or for one request.
    async fn run(self: Arc<Self>, keeps_alive: bool) {
        while !self.stop.load(Ordering::SeqCst) {
            let address = self.address.lock().unwrap().unwrap();
            let Ok(stream) = tokio::net::TcpStream::connect(address).await else {
                // Only a client that was still told an old address may find nobody there.
                let is_old = *self.address.lock().unwrap() != Some(address);
                self.failed.fetch_add(usize::from(!is_old), Ordering::SeqCst);
                continue;
            };
            let mut raw = Raw(stream);
            loop {
                let is_usable = self.ask(&mut raw).await;
                if !is_usable || !keeps_alive || self.stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        }
    }

    /// Whether the connection may be used again.
    async fn ask(&self, raw: &mut Raw) -> bool {
        let mut heard = Vec::new();
        if raw.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.is_ok() {
            while !heard.ends_with(b"\r\n\r\na") {
                let mut part = [0; 512];
                match raw.0.read(&mut part).await {
                    Ok(read) if read > 0 => heard.extend_from_slice(&part[..read]),
                    Ok(_) | Err(_) => break,
                }
            }
        }
        let is_whole = heard.ends_with(b"\r\n\r\na");
        (if is_whole { &self.done } else { &self.failed }).fetch_add(1, Ordering::SeqCst);
        is_whole && !heard.windows(17).any(|part| part == b"connection: close")
    }
}

/// Sixteen clients on `first` while `change` does what it does; requests that failed.
async fn failed_under_load<T>(first: &HttpServer, keeps_alive: bool, change: impl AsyncFnOnce(&Load) -> T) -> usize {
    let load = Arc::new(Load::default());
    load.goes_to(first);
    let clients: Vec<_> = (0..16).map(|_| task::spawn("client", Arc::clone(&load).run(keeps_alive))).collect();
    eventually("load", || load.done() > 200).await;
    let _serves_on = change(&load).await;
    let before = load.done();
    eventually("load after the change", || load.done() > before + 200).await;
    load.stop.store(true, Ordering::SeqCst);
    for client in clients {
        within(client).await.unwrap().unwrap();
    }
    load.failed.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_the_address_changes_under_load() {
    for keeps_alive in [true, false] {
        let (old, router) = serve(named("a"));
        let new = start(settings(), &router);
        let failed = failed_under_load(&old, keeps_alive, async |load: &Load| {
            load.goes_to(&new);
            assert_eq!(within(old.drain(soon())).await, 0);
        });
        assert_eq!(failed.await, 0, "keep-alive: {keeps_alive}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_the_port_moves_between_wide_and_narrow_under_load() {
    for keeps_alive in [true, false] {
        let (first, router) = serve(named("a"));
        let port = first.local_addr().port();
        let failed = failed_under_load(&first, keeps_alive, async |_load: &Load| {
            let mut live = None;
            for ip in [[0, 0, 0, 0], [127, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]] {
                let next = config::Http { listen: Some(SocketAddr::from((ip, port))), ..settings() };
                let bound = HttpServer::bind(&next, Some(live.as_ref().unwrap_or(&first))).unwrap();
                let next = bound.serve(Arc::clone(&router), next, &Handle::current());
                let old = live.replace(next);
                assert_eq!(within(old.as_ref().unwrap_or(&first).drain(soon())).await, 0);
            }
            live
        });
        assert_eq!(failed.await, 0, "keep-alive: {keeps_alive}");
    }
}
