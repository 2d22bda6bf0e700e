//! The servers that `scripts/test` started answer.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{NatsServer, PATIENCE, Registry, http, server};

/// Sends `question` to the server of `url` and returns what it answers first.
async fn ask(url: &str, question: &[u8]) -> Vec<u8> {
    let url = url::Url::parse(url).expect("the address of a server is a URL");
    let addr = (url.host_str().expect("a URL with a host"), url.port().expect("a URL with a port"));
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await.expect("the server listens");
        stream.write_all(question).await.expect("the server reads");
        let mut answer = vec![0; 64];
        let length = stream.read(&mut answer).await.expect("the server answers");
        answer.truncate(length);
        answer
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the server answers in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_answers_whether_it_speaks_tls() {
    // SSLRequest: length 8, code 80877103 (PostgreSQL protocol, "Message Formats").
    let answer = ask(&server("WASHLET_TEST_POSTGRES"), &[0, 0, 0, 8, 4, 210, 22, 47]).await;
    assert!(answer == b"N" || answer == b"S", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_lets_the_user_of_the_url_in() {
    let url = server("WASHLET_TEST_POSTGRES");
    let user = url::Url::parse(&url).expect("a URL").username().to_owned();
    let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
    startup.extend_from_slice(format!("user\0{user}\0database\0postgres\0\0").as_bytes());
    let length = u32::try_from(startup.len()).expect("a short message");
    startup[..4].copy_from_slice(&length.to_be_bytes());
    let answer = ask(&url, &startup).await;
    // AuthenticationOk: 'R', length 8, code 0.
    assert!(answer.starts_with(&[b'R', 0, 0, 0, 8, 0, 0, 0, 0]), "{:?}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_a_ping() {
    assert_eq!(ask(&server("WASHLET_TEST_REDIS"), b"PING\r\n").await, b"+PONG\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_speaks_the_distribution_protocol() {
    let registry = Registry::shared();
    let answer = http::get(registry.addr(), &registry.addr().to_string(), "/v2/").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_server_carries_a_message() {
    let nats = NatsServer::start("").await;
    let client = nats.client().await;
    let mut subscription = client.subscribe("greeting.*").await;
    client.publish("greeting.test", r#"{"hello":"world"}"#).await;
    let (subject, value) = subscription.next(PATIENCE).await;
    assert_eq!((subject.as_str(), value), ("greeting.test", serde_json::json!({ "hello": "world" })));
}
