//! `[http.tls]` through the real binary: who gets in, what they are shown, and files that are replaced under load.

pub(crate) mod authority;
mod client;
mod doors;
mod rotation;

use std::net::SocketAddr;

use hyper::header::HOST;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::http::{self, Connection, Protocol};
use crate::support::standalone::config;
use crate::support::{LogLine, PATIENCE, TestProcess, Workload, eventually, free_port};
use authority::{Authority, Issued};
use client::TlsClient;

/// The name in every server certificate.
const NAME: &str = "guest.test";

const APPLIED: &str = "configuration applied";
const REJECTED: &str = "configuration rejected";

/// TLS with the files that [`start`] writes.
const TLS: &str = "[http.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
const MUTUAL_TLS: &str = "[http.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nclient_ca = \"clients.pem\"\n";

/// The text of a file with one guest: `tables` come behind `[http]`.
fn file(port: u16, tables: &str) -> String {
    file_of("http2", port, tables)
}

fn file_of(fixture: &str, port: u16, tables: &str) -> String {
    let workload = config("", &[Workload::new("guest", fixture)]).replace("http.listen = \"127.0.0.1:0\"\n", "");
    format!("[http]\nlisten = \"127.0.0.1:{port}\"\n{tables}\n{workload}")
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A host with a pair beside its file, once that is applied.
async fn start(text: &str, pair: &Issued, clients: &Authority) -> TestProcess {
    let process = TestProcess::builder(text)
        .file("cert.pem", &pair.cert)
        .file("key.pem", &pair.key)
        .file("clients.pem", clients.pem())
        .start();
    process.wait_for_message(APPLIED).await;
    process
}

/// The next attempt's line since the mark.
async fn outcome(process: &TestProcess) -> LogLine {
    process.wait_for_log(|line| [APPLIED, REJECTED].contains(&line.message())).await
}

async fn apply(process: &mut TestProcess, text: &str) {
    process.rewrite_config(text);
    let line = outcome(process).await;
    assert_eq!(line.message(), APPLIED, "{line}");
}

async fn refuse(process: &mut TestProcess, text: &str) -> String {
    process.allow_log(REJECTED);
    process.rewrite_config(text);
    let line = outcome(process).await;
    assert_eq!(line.message(), REJECTED, "{line}");
    line.field("error").expect("a rejection says why")
}

fn request(protocol: Protocol, path: &str) -> hyper::Request<http::Body> {
    match protocol {
        Protocol::H1 => http::request("GET", NAME, path, http::full("")),
        Protocol::H2c => http::request_h2c("GET", NAME, path, http::full("")),
    }
}

/// The body of a 200 on this connection.
async fn text_on(connection: &mut Connection, protocol: Protocol, path: &str) -> Result<String, http::Failure> {
    let answered = async {
        // After an answer a client is not ready at once for the next request.
        if !connection.is_reusable().await {
            return Err("the connection was closed".to_owned());
        }
        http::read(connection.send(request(protocol, path)).await.map_err(http::chain)?).await
    };
    let answer = tokio::time::timeout(PATIENCE, answered).await.expect("an answer in time")?;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    Ok(answer.text().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_served_and_guests_are_told_https() {
    let authority = Authority::new("servers");
    for fixture in ["http2", "http3"] {
        let port = free_port();
        let process = start(&file_of(fixture, port, TLS), &authority.issue(NAME), &authority).await;
        for protocol in [Protocol::H1, Protocol::H2c] {
            let client = TlsClient::new(&authority, None, protocol);
            let mut connection = client.connect(addr(port)).await.expect("a handshake");
            let said = text_on(&mut connection.http, protocol, "/request").await.expect("an answer");
            assert!(said.contains("scheme=https\n"), "{said}");
            assert!(connection.http.is_reusable().await, "the connection is kept");
        }
        process.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_certificate_and_failed_handshakes_are_metrics() {
    let authority = Authority::new("servers");
    let (port, admin_port) = (free_port(), free_port());
    let text = file(port, &format!("{TLS}[admin]\nlisten = \"127.0.0.1:{admin_port}\"\n"));
    let process = start(&text, &authority.issue_until(NAME, 2099), &authority).await;
    let stranger = TlsClient::new(&Authority::new("others"), None, Protocol::H1);
    assert!(stranger.connect(addr(port)).await.is_err(), "the client does not know the authority");
    let is_told = async || {
        let metrics = http::get(addr(admin_port), "localhost", "/metrics").await;
        let is_counted = metrics.text().contains("washlet_http_tls_handshakes_failed_total 1\n");
        // The first second of 2099.
        let is_dated = metrics.text().contains("washlet_tls_not_after_timestamp_seconds{use=\"http\"} 4070908800");
        (is_counted && is_dated).then_some(())
    };
    eventually("both are among the metrics", PATIENCE, is_told).await;
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_a_certificate_of_the_right_authority() {
    let (servers, clients, strangers) = (Authority::new("servers"), Authority::new("clients"), Authority::new("x"));
    let port = free_port();
    let process = start(&file(port, MUTUAL_TLS), &servers.issue(NAME), &clients).await;
    let right = clients.issue("someone");
    for protocol in [Protocol::H1, Protocol::H2c] {
        let asks = async |identity: Option<&Issued>| {
            let mut connection = TlsClient::new(&servers, identity, protocol).connect(addr(port)).await?;
            text_on(&mut connection.http, protocol, "/").await
        };
        assert_eq!(asks(Some(&right)).await.expect("this one gets in"), "Hello from http2\n");
        asks(None).await.expect_err("no certificate");
        asks(Some(&strangers.issue("someone"))).await.expect_err("an unknown authority");
        asks(Some(&right)).await.expect("failed handshakes harm nobody else");
    }
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_and_silence_on_the_port_harm_nobody() {
    let authority = Authority::new("servers");
    let port = free_port();
    let text = file(port, &format!("header_read_timeout = \"500ms\"\n{TLS}"));
    let process = start(&text, &authority.issue(NAME), &authority).await;
    let client = TlsClient::new(&authority, None, Protocol::H1);
    let mut silent = TcpStream::connect(addr(port)).await.expect("a connection");
    let mut plain = TcpStream::connect(addr(port)).await.expect("a connection");
    plain.write_all(format!("GET / HTTP/1.1\r\n{HOST}: {NAME}\r\n\r\n").as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // An alert or a reset: either says no.
    let _ended = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("closed in time");
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    let mut connection = client.connect(addr(port)).await.expect("a handshake beside them");
    text_on(&mut connection.http, Protocol::H1, "/").await.expect("an answer");
    let ended = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 1])).await.expect("it is not waited for");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_does_not_fit_keeps_the_host_from_starting() {
    let authority = Authority::new("servers");
    let (one, other) = (authority.issue(NAME), authority.issue(NAME));
    let mut process =
        TestProcess::builder(&file(free_port(), TLS)).file("cert.pem", &one.cert).file("key.pem", &other.key).start();
    assert_eq!(process.wait_exit().await, Some(78));
    assert!(process.stderr().contains("does not belong to the certificate"), "{}", process.stderr());
    assert!(!process.stderr().contains("PRIVATE KEY-----"), "{}", process.stderr());
}
