//! One port, two servers after each other: what a reload of `http.listen` does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::runtime::Handle;

use super::support::{Raw, client, get, named, serve, settings, soon, start, text, within};
use crate::config;
use crate::host::http::HttpServer;
use crate::host::http::listener::BindError;

fn at(ip: &str, port: u16) -> config::Http {
    config::Http { listen: Some(SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)), ..settings() }
}

async fn asks(address: SocketAddr) -> String {
    let uri = format!("http://127.0.0.1:{}/", address.port());
    let request = http::Request::get(uri).header("host", "a").body(http_body_util::Full::default()).unwrap();
    text(within(client().request(request)).await.unwrap()).await
}

#[tokio::test]
async fn port_0_becomes_a_real_port() {
    let (server, _router) = serve(named("a"));
    assert_ne!(server.local_addr().port(), 0);
    assert_eq!(text(client().request(get(&server, "/")).await.unwrap()).await, "a");
}

#[tokio::test]
async fn a_taken_address_fails_the_bind_and_names_it() {
    let (server, _router) = serve(named("a"));
    // The accept task has made it listen once a connection is through.
    Raw::connect(&server).await;
    let taken = at("127.0.0.1", server.local_addr().port());
    let error = HttpServer::bind(&taken, None).unwrap_err();
    assert!(matches!(error, BindError::Bind(address, _) if address == server.local_addr()));
    assert!(HttpServer::bind(&config::Http { listen: None, ..settings() }, None).is_err());
}

#[tokio::test]
async fn a_bound_listener_takes_no_connection_and_leaves_none_behind() {
    let bound = HttpServer::bind(&settings(), None).unwrap();
    let address = bound.local_addr();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    drop(bound);
    assert!(std::net::TcpListener::bind(address).is_ok());
}

#[tokio::test]
async fn a_port_moves_between_one_address_and_all_of_them_and_back() {
    let (one, router) = serve(named("a"));
    let port = one.local_addr().port();
    let mut servers = vec![one];
    for (moves, ip) in (1..).zip(["0.0.0.0", "127.0.0.1", "0.0.0.0", "0.0.0.0"]) {
        let live = servers.last().unwrap();
        let settings = at(ip, port);
        let next = HttpServer::bind(&settings, Some(live)).unwrap();
        assert_eq!(asks(live.local_addr()).await, "a", "while {ip} is prepared");
        let next = next.serve(Arc::clone(&router), settings, &Handle::current());
        assert_eq!(asks(next.local_addr()).await, "a", "after {ip} was committed");
        assert_eq!(within(live.drain(soon())).await, 0);
        assert_eq!(asks(next.local_addr()).await, "a", "after what was before {ip} is gone");
        assert_eq!(next.totals().requests(), moves * 3, "the counters of the host go on");
        servers.push(next);
    }
    let last = servers.pop().unwrap();
    within(last.drain(soon())).await;
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test]
async fn a_dropped_draft_leaves_the_live_server_alone() {
    let (live, _router) = serve(named("a"));
    let port = live.local_addr().port();
    drop(HttpServer::bind(&at("0.0.0.0", port), Some(&live)).unwrap());
    drop(HttpServer::bind(&at("127.0.0.1", port), Some(&live)).unwrap());
    assert_eq!(asks(live.local_addr()).await, "a");
    assert!(HttpServer::bind(&at("0.0.0.0", port), None).is_err(), "the port is not shared any more");
}

#[tokio::test]
async fn applied_settings_hold_for_new_connections_on_the_same_socket() {
    let (server, router) = serve(named("a"));
    let address = server.local_addr();
    let mut old = Raw::connect(&server).await;
    old.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    old.until("\r\n\r\na").await;
    let settings_with_limit = config::Http {
        max_request_body: Some(crate::types::ByteSize::bytes(1)),
        cluster_domain: "other.local".to_owned(),
        ..settings()
    };
    server.apply(settings_with_limit, None);
    assert_eq!(server.local_addr(), address);
    let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy";
    old.send(body).await;
    assert!(old.until("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    let mut new = Raw::connect(&server).await;
    new.send(body).await;
    assert!(new.until("\r\n\r\n").await.starts_with("HTTP/1.1 413 "));
    let second = start(settings(), &router);
    assert_eq!(asks(second.local_addr()).await, "a");
}
