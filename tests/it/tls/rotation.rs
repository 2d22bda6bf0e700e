//! Certificates are replaced while connections are open and requests run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::authority::{Authority, Issued};
use super::client::TlsClient;
use super::{APPLIED, NAME, REJECTED, TLS, addr, file, outcome, start, text_on};
use crate::support::http::Protocol;
use crate::support::{PATIENCE, TestProcess, eventually, free_port, rounds, say, volume};

/// Swaps of the pair, one after the other, without waiting for most of them; `WASHLET_TEST_PAIRS` makes a soak of it.
const PAIRS: usize = 300;

/// From the swap to the first handshake with the new certificate (contract of the ingress: 5 s).
const LIVE_WITHIN: Duration = Duration::from_secs(5);

/// A mounted Secret.
struct Mounted(TempDir);

impl Mounted {
    fn new(first: &Issued) -> Self {
        let mounted = Self(TempDir::with_prefix("washlet-certs-").expect("a temporary directory"));
        mounted.swap(first);
        mounted
    }

    fn swap(&self, pair: &Issued) {
        volume::swap(self.0.path(), &[("tls.crt", &pair.cert), ("tls.key", &pair.key)]);
    }
}

/// A host whose pair is mounted.
async fn start_mounted(port: u16, first: &Issued) -> (TestProcess, Mounted) {
    let mounted = Mounted::new(first);
    let dir = mounted.0.path().display();
    let tables = format!("[http.tls]\ncert = \"{dir}/tls.crt\"\nkey = \"{dir}/tls.key\"\n");
    let mut process = TestProcess::start(&file(port, &tables));
    process.wait_for_message(APPLIED).await;
    process.mark();
    (process, mounted)
}

/// Clients that ask all the time: some on the one connection they were given, some on a new one for each request.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: JoinSet<Result<(), String>>,
}

impl Clients {
    async fn start(authority: &Arc<Authority>, port: u16) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for (protocol, keeps) in
            [(Protocol::H1, true), (Protocol::H2c, true), (Protocol::H1, false), (Protocol::H2c, false)]
        {
            let client = TlsClient::new(authority, None, protocol);
            let mut connection = client.connect(addr(port)).await.expect("a handshake");
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    text_on(&mut connection.http, protocol, "/").await?;
                    answered.fetch_add(1, Ordering::SeqCst);
                    if !keeps {
                        connection = client.connect(addr(port)).await?;
                    }
                }
                Ok(())
            });
        }
        Self { stop, answered, tasks }
    }

    async fn wait_for_more(&self, more: u64) {
        let target = self.answered.load(Ordering::SeqCst) + more;
        let is_reached = async || (self.answered.load(Ordering::SeqCst) >= target).then_some(());
        eventually("answers under load", PATIENCE, is_reached).await;
    }

    /// Fails over the first request or handshake that failed, and over each connection that was closed.
    async fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            assert_eq!(ended.expect("no panic"), Ok(()));
        }
        self.answered.load(Ordering::SeqCst)
    }
}

async fn shown(client: &TlsClient, port: u16) -> CertificateDer<'static> {
    client.connect(addr(port)).await.expect("a handshake").certificate
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_secret_serves_new_handshakes_and_fails_no_request() {
    let authority = Arc::new(Authority::new("servers"));
    let port = free_port();
    let first = authority.issue(NAME);
    let (mut process, mounted) = start_mounted(port, &first).await;
    let client = TlsClient::new(&authority, None, Protocol::H1);
    assert_eq!(shown(&client, port).await, first.der);
    let clients = Clients::start(&authority, port).await;
    for _ in 0..10 {
        let next = authority.issue(NAME);
        process.mark();
        let swapped = Instant::now();
        mounted.swap(&next);
        let is_new = async || (shown(&client, port).await == next.der).then_some(());
        eventually("the new certificate is shown", LIVE_WITHIN, is_new).await;
        let line = outcome(&process).await;
        assert_eq!(line.message(), APPLIED, "{line}");
        assert!(line.contains("http.tls.cert(rotate) http.tls.key(rotate)"), "{line}");
        assert!(swapped.elapsed() < LIVE_WITHIN, "{:?}", swapped.elapsed());
        assert_eq!(shown(&client, port).await, next.der);
        clients.wait_for_more(20).await;
    }
    assert!(clients.finish().await >= 200);
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_hundred_rapid_swaps_no_torn_pair_is_used() {
    let authority = Arc::new(Authority::new("servers"));
    let port = free_port();
    let pairs = [authority.issue(NAME), authority.issue(NAME), authority.issue(NAME)];
    let (process, mounted) = start_mounted(port, &pairs[0]).await;
    let client = TlsClient::new(&authority, None, Protocol::H1);
    // Each of their handshakes fails if the certificate shown is not the one of the key.
    let clients = Clients::start(&authority, port).await;
    let swaps = rounds("WASHLET_TEST_PAIRS", PAIRS);
    for swap in 1..=swaps {
        let pair = &pairs[swap % pairs.len()];
        mounted.swap(pair);
        // Most are overtaken before they settle; now and then one may be read in peace.
        if swap % 20 == 0 {
            let is_live = async || (shown(&client, port).await == pair.der).then_some(());
            eventually("the pair is live", PATIENCE, is_live).await;
        }
        clients.wait_for_more(1).await;
    }
    let last = authority.issue(NAME);
    mounted.swap(&last);
    let is_last = async || (shown(&client, port).await == last.der).then_some(());
    eventually("the last pair is live", PATIENCE, is_last).await;
    let answered = clients.finish().await;
    let applied = process.log_lines().iter().filter(|line| line.message() == APPLIED).count();
    say(&format!("{swaps} swaps of a pair: {applied} generations, {answered} answers, no failed handshake or request"));
    let refused = process.log_lines().into_iter().find(|line| line.message() == REJECTED);
    assert!(refused.is_none(), "{refused:?}");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_does_not_fit_is_refused_until_the_other_half_comes() {
    let authority = Authority::new("servers");
    let port = free_port();
    let (first, next) = (authority.issue(NAME), authority.issue(NAME));
    let mut process = start(&file(port, TLS), &first, &authority).await;
    let client = TlsClient::new(&authority, None, Protocol::H1);
    process.allow_log(REJECTED);
    process.mark();
    process.rewrite_file("cert.pem", &next.cert);
    let line = outcome(&process).await;
    assert_eq!(line.message(), REJECTED, "{line}");
    assert!(line.contains("does not belong to the certificate"), "{line}");
    assert_eq!(shown(&client, port).await, first.der);
    process.mark();
    process.rewrite_file("key.pem", &next.key);
    assert_eq!(outcome(&process).await.message(), APPLIED);
    assert_eq!(shown(&client, port).await, next.der);

    // A renewer writes one file after the other: nothing is refused in between.
    process.mark();
    process.rewrite_file("key.pem", &first.key);
    process.rewrite_file("cert.pem", &first.cert);
    let line = outcome(&process).await;
    assert_eq!(line.message(), APPLIED, "{line}");
    assert_eq!(shown(&client, port).await, first.der);
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_by_a_reload_and_taken_at_a_start() {
    let authority = Authority::new("servers");
    let port = free_port();
    let (good, expired) = (authority.issue(NAME), authority.issue_until(NAME, 2020));
    let mut process = start(&file(port, TLS), &good, &authority).await;
    process.allow_log(REJECTED);
    process.mark();
    process.rewrite_file("key.pem", &expired.key);
    process.rewrite_file("cert.pem", &expired.cert);
    let line = outcome(&process).await;
    assert!(line.contains("the certificate expired at 2020-01-01T00:00:00Z"), "{line}");
    assert_eq!(shown(&TlsClient::new(&authority, None, Protocol::H1), port).await, good.der);
    process.finish().await;

    let mut process = start(&file(free_port(), TLS), &expired, &authority).await;
    process.allow_log("has expired");
    process.wait_for_message("the certificate of http.tls.cert has expired: clients will refuse it").await;
    process.finish().await;
}
