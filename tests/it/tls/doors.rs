//! TLS and client certificates are required, or no longer, while the host runs.

use super::authority::Authority;
use super::client::TlsClient;
use super::{MUTUAL_TLS, NAME, TLS, addr, apply, file, refuse, request, start, text_on};
use crate::support::http::{self, Connection, Protocol};
use crate::support::{PATIENCE, eventually, free_port};

/// Sends a request that takes a while on each connection, lets `meanwhile` happen, and expects that the answers come
/// and that no connection is usable afterwards.
async fn are_told_to_leave(connections: Vec<(Connection, Protocol)>, meanwhile: impl AsyncFnOnce()) {
    let answers = connections.into_iter().map(|(mut connection, protocol)| {
        tokio::spawn(async move {
            let answer = connection.send(request(protocol, "/sleep/4000")).await.expect("a response");
            (http::read(answer).await.expect("a whole body"), connection, protocol)
        })
    });
    let answers: Vec<_> = answers.collect();
    meanwhile().await;
    for answer in answers {
        let (answer, mut connection, protocol) = answer.await.expect("no panic");
        assert_eq!(answer.text(), "slept 4000 ms\n");
        if let Protocol::H1 = protocol {
            assert_eq!(answer.headers.get("connection").expect("a header"), "close");
        }
        let what = "the connection is over";
        eventually(what, PATIENCE, async || (!connection.is_reusable().await).then_some(())).await;
    }
}

async fn plain(port: u16, protocol: Protocol) -> Connection {
    let mut connection = Connection::open(addr(port), protocol).await.expect("a connection");
    text_on(&mut connection, protocol, "/").await.expect("an answer");
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_switched_on_and_off_and_who_came_without_has_to_leave() {
    let authority = Authority::new("servers");
    let port = free_port();
    let mut process = start(&file(port, ""), &authority.issue(NAME), &authority).await;
    let both = [Protocol::H1, Protocol::H2c];
    let mut connections = Vec::new();
    for protocol in both {
        connections.push((plain(port, protocol).await, protocol));
    }
    are_told_to_leave(connections, async || apply(&mut process, &file(port, TLS)).await).await;
    assert!(Connection::open(addr(port), Protocol::H1).await.is_ok(), "the socket is the same");
    let refused = http::try_send(addr(port), request(Protocol::H1, "/")).await;
    refused.expect_err("without TLS nobody is answered");
    let mut encrypted = Vec::new();
    for protocol in both {
        let client = TlsClient::new(&authority, None, protocol);
        encrypted.push((client.connect(addr(port)).await.expect("a handshake").http, protocol));
    }

    let error = refuse(&mut process, &file(port, "")).await;
    assert!(error.contains("http.tls is live and gone"), "{error}");
    let allowed = "[reload]\nallow_mass_removal = true\n";
    apply(&mut process, &file(port, allowed)).await;
    for protocol in both {
        plain(port, protocol).await;
    }
    for (mut connection, protocol) in encrypted {
        text_on(&mut connection, protocol, "/").await.expect("no door was closed to this one");
    }
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_came_without_a_client_certificate_leaves_when_one_is_required() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let port = free_port();
    let mut process = start(&file(port, TLS), &servers.issue(NAME), &clients).await;
    let stranger = TlsClient::new(&servers, None, Protocol::H1);
    let known = TlsClient::new(&servers, Some(&clients.issue("someone")), Protocol::H1);
    let connection = stranger.connect(addr(port)).await.expect("a handshake").http;
    are_told_to_leave(vec![(connection, Protocol::H1)], async || apply(&mut process, &file(port, MUTUAL_TLS)).await)
        .await;
    let answer = async |client: &TlsClient| {
        let mut connection = client.connect(addr(port)).await?;
        text_on(&mut connection.http, Protocol::H1, "/").await
    };
    answer(&known).await.expect("this one has a certificate");
    answer(&stranger).await.expect_err("this one has none");

    // Another authority is added: who is in stays in.
    let mut kept = known.connect(addr(port)).await.expect("a handshake").http;
    let others = Authority::new("others");
    process.mark();
    process.rewrite_file("clients.pem", clients.pem() + &others.pem());
    assert_eq!(super::outcome(&process).await.message(), super::APPLIED);
    text_on(&mut kept, Protocol::H1, "/").await.expect("its authority is still trusted");
    answer(&TlsClient::new(&servers, Some(&others.issue("someone")), Protocol::H1)).await.expect("the new one is too");

    let error = refuse(&mut process, &file(port, TLS)).await;
    assert!(error.contains("http.tls.client_ca is live and gone"), "{error}");
    process.finish().await;
}
