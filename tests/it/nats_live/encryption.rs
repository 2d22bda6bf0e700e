//! Authorities, client certificates, and TLS before everything else: each comes live.

use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

use super::{HEARTBEATS, apply, config, join, outcome, refuse, serves, with_url};
use crate::support::nats::NatsClient;
use crate::support::{NatsServer, PATIENCE};

/// An authority, and certificates of its own making, as files.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let dir = TempDir::with_prefix("washlet-tls-").expect("a temporary directory");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("the file can be written");
        let authority = Self { dir, issuer };
        authority.issue("server", ExtendedKeyUsagePurpose::ServerAuth);
        authority.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
        authority
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).expect("the file can be written");
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("the file can be written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ca(&self) -> String {
        self.issuer.pem()
    }

    /// A server with this authority's certificate.
    async fn server(&self, more: &str) -> NatsServer {
        let path = |name: &str| self.path(name).display().to_string();
        let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
        NatsServer::start(&format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, {more} }}")).await
    }

    async fn client(&self, nats: &NatsServer, is_first: bool) -> NatsClient {
        let options = ConnectOptions::new()
            .add_root_certificates(self.path("ca.pem"))
            .add_client_certificate(self.path("client.pem"), self.path("client.key"))
            .require_tls(true);
        nats.client_with(if is_first { options.tls_first() } else { options }).await
    }
}

fn tls(nats: &NatsServer, lines: &str) -> String {
    config(&format!("urls = [\"{}\"]\n[nats.scheduler.tls]\n{lines}", nats.url()))
}

fn pair(authority: &Authority) -> String {
    let path = |name: &str| authority.path(name).display().to_string();
    format!("cert = {:?}\nkey = {:?}", path("client.pem"), path("client.key"))
}

fn ca(path: &Path) -> String {
    format!("ca = {:?}", path.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_encrypt_comes_live() {
    let authority = Authority::new();
    let plain = NatsServer::start("").await;
    let trusted = authority.server("").await;
    let mutual = authority.server("verify: true").await;
    let first = authority.server("verify: true, handshake_first: true").await;
    let (mut washlet, id) = join(&with_url(&plain.url()), &plain.client().await).await;
    let ca = ca(&authority.path("ca.pem"));

    let error = refuse(&mut washlet, &with_url(&trusted.url())).await;
    assert!(error.contains("invalid peer certificate"), "{error}");
    apply(&mut washlet, &tls(&trusted, &ca)).await;
    serves(&authority.client(&trusted, false).await, &id).await;

    let error = refuse(&mut washlet, &tls(&mutual, &ca)).await;
    assert!(error.contains("cannot connect to NATS at"), "{error}");
    apply(&mut washlet, &tls(&mutual, &format!("{ca}\n{}", pair(&authority)))).await;
    serves(&authority.client(&mutual, false).await, &id).await;

    apply(&mut washlet, &tls(&first, &format!("{ca}\n{}\nfirst = true", pair(&authority)))).await;
    serves(&authority.client(&first, true).await, &id).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_authorities_that_is_replaced_is_used_for_another_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = old.server("").await;
    let client = old.client(&server, false).await;
    let mut heartbeats = client.subscribe(HEARTBEATS).await;
    let mut washlet =
        crate::support::TestProcess::builder(&tls(&server, "ca = \"ca.pem\"")).file("ca.pem", old.ca()).start();
    let (_, heartbeat) = heartbeats.next(PATIENCE).await;
    let id = heartbeat["id"].as_str().expect("an id");

    washlet.allow_log(super::REJECTED);
    washlet.mark();
    washlet.rewrite_file("ca.pem", new.ca());
    let rejected = outcome(&washlet).await;
    assert!(rejected.field("error").unwrap_or_default().contains("invalid peer certificate"), "{rejected}");
    serves(&client, id).await;

    washlet.mark();
    washlet.rewrite_file("ca.pem", format!("{}{}", new.ca(), old.ca()));
    let applied = outcome(&washlet).await;
    assert_eq!(applied.field("changed").as_deref(), Some("nats.scheduler.tls.ca(rotate)"), "{applied}");
    serves(&client, id).await;
    washlet.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_the_user_where_the_server_maps_it() {
    let authority = crate::tls::authority::Authority::new("cluster");
    let (server, host, op) =
        (authority.issue("127.0.0.1"), authority.issue("wasmcloud-runtime"), authority.issue("wasmcloud-operator"));
    let dir = TempDir::with_prefix("washlet-map-").expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    for (name, issued) in [("server", &server), ("tls", &host), ("op", &op)] {
        std::fs::write(path(&format!("{name}.crt")), &issued.cert).expect("the file can be written");
        std::fs::write(path(&format!("{name}.key")), &issued.key).expect("the file can be written");
    }
    std::fs::write(path("ca.crt"), authority.pem()).expect("the file can be written");
    let (cert, key, ca) = (path("server.crt"), path("server.key"), path("ca.crt"));
    let nats = NatsServer::start(&format!(
        "tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify_and_map: true }}\n\
         authorization {{ users: [ {{ user: wasmcloud-runtime }}, {{ user: wasmcloud-operator }} ] }}"
    ))
    .await;
    let options = ConnectOptions::new()
        .add_root_certificates(path("ca.crt").into())
        .add_client_certificate(path("op.crt").into(), path("op.key").into())
        .require_tls(true);
    let client = nats.client_with(options).await;
    let lines = format!("ca = {ca:?}\ncert = {:?}\nkey = {:?}", path("tls.crt"), path("tls.key"));
    let (washlet, id) = join(&tls(&nats, &lines), &client).await;
    serves(&client, &id).await;
    washlet.finish().await;
}
