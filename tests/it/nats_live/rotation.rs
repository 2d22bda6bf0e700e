//! Credentials that are replaced while the server is away are those that it is met with when it is back.

use async_nats::ConnectOptions;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::{HEARTBEATS, config, serves};
use crate::support::nats::NatsClient;
use crate::support::{NatsServer, PATIENCE, TestProcess, eventually, free_port, http};

/// Nothing watches the files: only a connect reads them.
const UNWATCHED: &str = "watch = false\npoll_interval = \"0s\"\n";

/// Starts a host by `lines` of its table and with `files`, and waits for its heartbeat.
async fn join(nats: &NatsServer, client: &NatsClient, lines: &str, files: &[(&str, &str)]) -> (TestProcess, String) {
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    let text = config(&format!("urls = [\"{}\"]\n{lines}", nats.url()));
    let mut builder = TestProcess::builder(&format!("{text}{UNWATCHED}"));
    for (name, content) in files {
        builder = builder.file(name, content);
    }
    let mut washlet = builder.start();
    washlet.allow_log("lost the connection to NATS");
    washlet.allow_log("cannot connect to NATS");
    // A mounted file could not be seen to change; that nobody looks is on purpose here.
    washlet.allow_log("watch");
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    (washlet, heartbeat["id"].as_str().expect("an id").to_owned())
}

async fn with_token(nats: &NatsServer, token: &str) -> NatsClient {
    nats.client_with(ConnectOptions::with_token(token.to_owned())).await
}

async fn with_password(nats: &NatsServer, password: &str) -> NatsClient {
    nats.client_with(ConnectOptions::with_user_and_password("u".to_owned(), password.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_replaced_while_the_server_is_away_is_used_when_it_is_back() {
    let mut nats = NatsServer::start("authorization { token: first }").await;
    let client = with_token(&nats, "first").await;
    let (washlet, id) = join(&nats, &client, "token_file = \"token\"", &[("token", "first\n")]).await;
    nats.stop().await;
    washlet.rewrite_file("token", "second\n");
    nats.rewrite_config("authorization { token: second }");
    nats.up().await;
    serves(&with_token(&nats, "second").await, &id).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_replaced_while_the_server_is_away_is_used_when_it_is_back() {
    let user = |password: &str| format!("authorization {{ user: u, password: {password} }}");
    let mut nats = NatsServer::start(&user("first")).await;
    let client = with_password(&nats, "first").await;
    let lines = "user = \"u\"\npassword_file = \"password\"";
    let (washlet, id) = join(&nats, &client, lines, &[("password", "first\n")]).await;
    nats.stop().await;
    washlet.rewrite_file("password", "second\n");
    nats.rewrite_config(&user("second"));
    nats.up().await;
    serves(&with_password(&nats, "second").await, &id).await;
    washlet.finish().await;
}

/// An operator of accounts with one account, as nats-server believes it.
struct Accounts {
    operator: KeyPair,
    account: KeyPair,
}

impl Accounts {
    fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account() }
    }

    /// The configuration of a server that lets in users of the account, those of `revoked` keys aside.
    fn server(&self, revoked: &[&KeyPair]) -> String {
        let key = self.operator.public_key();
        let operator = signed(&self.operator, &key, "operator", &json!({ "type": "operator", "version": 2 }));
        let until: serde_json::Map<String, Value> =
            revoked.iter().map(|user| (user.public_key(), json!(4_000_000_000_u64))).collect();
        let unlimited = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        });
        let claims = json!({ "type": "account", "version": 2, "limits": unlimited, "revocations": until });
        let key = self.account.public_key();
        let account = signed(&self.operator, &key, "account", &claims);
        format!("operator: \"{operator}\"\nresolver: MEMORY\nresolver_preload: {{ {key}: \"{account}\" }}\n")
    }

    /// The `.creds` file of `user`.
    fn creds(&self, user: &KeyPair) -> String {
        let claims =
            json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} });
        let jwt = signed(&self.account, &user.public_key(), "user", &claims);
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed().expect("a pair with its seed")
        )
    }
}

/// A JWT of NATS: `issuer` says `claims` of `subject`.
fn signed(issuer: &KeyPair, subject: &str, name: &str, claims: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject, "name": name, "nats": claims,
    });
    let signed = format!("{}.{}", base64(header.to_string().as_bytes()), base64(body.to_string().as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).expect("a pair with its seed");
    format!("{signed}.{}", base64(&signature))
}

/// Base64 for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            text.push(char::from(DIGITS[bits >> (18 - 6 * digit) & 63]));
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creds_file_replaced_while_the_server_is_away_is_used_when_it_is_back() {
    let accounts = Accounts::new();
    let (old, new, person) = (KeyPair::new_user(), KeyPair::new_user(), accounts.creds(&KeyPair::new_user()));
    let mut nats = NatsServer::start(&accounts.server(&[])).await;
    let operator = || ConnectOptions::with_credentials(&person).expect("credentials");
    let client = nats.client_with(operator()).await;
    let files = [("host.creds", &*accounts.creds(&old))];
    let (washlet, id) = join(&nats, &client, "creds_file = \"host.creds\"", &files).await;
    serves(&client, &id).await;
    nats.stop().await;
    washlet.rewrite_file("host.creds", accounts.creds(&new));
    nats.rewrite_config(&accounts.server(&[&old]));
    nats.up().await;
    serves(&nats.client_with(operator()).await, &id).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_one_that_is_there_is_used_and_another_when_it_is_lost() {
    let absent = NatsServer::down("");
    let (mut second, third) = (NatsServer::start("").await, NatsServer::start("").await);
    let urls = [&absent, &second, &third].map(|server| format!("\"{}\"", server.url())).join(", ");
    let mut heartbeats = second.client().await.subscribe(HEARTBEATS).await;
    let mut washlet = TestProcess::start(&config(&format!("urls = [{urls}]")));
    washlet.allow_log("lost the connection to NATS");
    washlet.allow_log("cannot connect to NATS");
    // Which of those that are there is not said: until it is this one, the other is the one that is lost.
    let client = third.client().await;
    let (_, heartbeat) = tokio::select! {
        heard = heartbeats.next(PATIENCE) => heard,
        () = async { client.subscribe(HEARTBEATS).await.next(PATIENCE).await; } => panic!("the list is tried in order"),
    };
    let id = heartbeat["id"].as_str().expect("an id").to_owned();
    second.stop().await;
    serves(&client, &id).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_by_the_probe_until_it_is_put_right() {
    let nats = NatsServer::start("authorization { user: u, password: right }").await;
    let admin = free_port();
    let text = config(&format!("urls = [\"{}\"]\nuser = \"u\"\npassword_file = \"password\"", nats.url()));
    let text = format!("{text}{UNWATCHED}[admin]\nlisten = \"127.0.0.1:{admin}\"\n");
    let mut washlet = TestProcess::builder(&text).file("password", "canary\n").start();
    washlet.allow_log("the NATS server does not let us in");
    washlet.allow_log("watch");
    washlet.wait_for_message("the NATS server does not let us in").await;
    let ready = async || http::get(([127, 0, 0, 1], admin).into(), "admin", "/readyz").await;
    let answer = ready().await;
    assert_eq!(answer.status, 503);
    let text = answer.text();
    let named = format!("cannot connect to NATS at {}", nats.url().trim_start_matches("nats://"));
    assert!(text.contains(&named) && text.contains("authorization violation"), "{text}");
    assert!(!text.contains("canary"), "{text}");
    washlet.rewrite_file("password", "right\n");
    eventually("it is ready", PATIENCE, async || (ready().await.status == 200).then_some(())).await;
    washlet.finish().await;
}
