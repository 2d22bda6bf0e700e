//! Steady HTTP load on kept connections, and what became of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::http::{Answer, Connection, Protocol, chain, full, read, request};
use super::wait::{PATIENCE, eventually};

/// What became of the requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadStats {
    /// Answered with 200 and a whole body.
    pub(crate) ok: u64,
    /// Everything else.
    pub(crate) failed: u64,
    /// Sent a second time because the server closed a kept connection in the moment the request was sent, which RFC
    /// 9110 (9.2.2) tells clients to expect. Counted in `ok` or `failed` too.
    pub(crate) retried: u64,
    /// The first failure, in words.
    pub(crate) first_failure: Option<String>,
    /// The longest wait for a whole answer.
    pub(crate) slowest: Duration,
}

/// Clients that send one request after the other. Dropped, they stop in the middle.
#[derive(Debug)]
pub(crate) struct Load {
    stats: Arc<Mutex<LoadStats>>,
    stop_tx: watch::Sender<bool>,
    clients: tokio::task::JoinSet<()>,
}

impl Load {
    /// Starts `connections` clients that ask for `http://host/path` at `addr`.
    pub(crate) fn start(addr: SocketAddr, host: &str, path: &str, connections: usize) -> Self {
        Self::follow(&watch::channel(vec![addr]).1, host, path, [Keep::Connection].repeat(connections))
    }

    /// As [`Load::start`], at a server that moves: a connection goes to the first of `addrs` that takes it. A client
    /// for each of `keep`.
    pub(crate) fn follow(addrs: &watch::Receiver<Vec<SocketAddr>>, host: &str, path: &str, keep: Vec<Keep>) -> Self {
        let stats = Arc::<Mutex<LoadStats>>::default();
        let (stop_tx, stop_rx) = watch::channel(false);
        let mut clients = tokio::task::JoinSet::new();
        for keep in keep {
            let (host, path) = (host.to_owned(), path.to_owned());
            let client = Client { addrs: addrs.clone(), host, path, keep, connection: None };
            clients.spawn(client.run(Arc::clone(&stats), stop_rx.clone()));
        }
        Self { stats, stop_tx, clients }
    }

    /// The numbers so far.
    pub(crate) fn stats(&self) -> LoadStats {
        self.stats.lock().expect("no holder panics").clone()
    }

    /// Waits until `more` further requests were answered, well or badly.
    pub(crate) async fn wait_for_more(&self, more: u64) {
        let sum = |stats: LoadStats| stats.ok + stats.failed;
        let target = sum(self.stats()) + more;
        eventually("requests under load", PATIENCE, async || (sum(self.stats()) >= target).then_some(())).await;
    }

    /// Lets each client end its request, and returns the numbers.
    pub(crate) async fn stop(mut self) -> LoadStats {
        self.stop_tx.send_replace(true);
        let ended = async { while self.clients.join_next().await.is_some() {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("the requests under way are answered in time");
        self.stats()
    }
}

/// What a client does with its connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Keeps it for the next request.
    Connection,
    /// Opens another one.
    Nothing,
}

struct Client {
    addrs: watch::Receiver<Vec<SocketAddr>>,
    host: String,
    path: String,
    keep: Keep,
    connection: Option<Connection>,
}

impl Client {
    async fn run(mut self, stats: Arc<Mutex<LoadStats>>, stop_rx: watch::Receiver<bool>) {
        while !*stop_rx.borrow() {
            let started = Instant::now();
            let (result, retried) = self.ask().await;
            let mut stats = stats.lock().expect("no holder panics");
            stats.slowest = stats.slowest.max(started.elapsed());
            stats.retried += u64::from(retried);
            match result {
                Ok(answer) if answer.status == 200 => stats.ok += 1,
                Ok(answer) => {
                    stats.fail(format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body)))
                }
                Err(failure) => stats.fail(failure),
            }
        }
    }

    /// One request, and whether it had to be sent twice.
    async fn ask(&mut self) -> (Result<Answer, String>, bool) {
        let mut retried = false;
        loop {
            let (mut connection, is_fresh) = match self.kept().await {
                Some(connection) => (connection, false),
                None => match self.open().await {
                    Ok(connection) => (connection, true),
                    Err(failure) => return (Err(failure), retried),
                },
            };
            let response = match connection.send(request("GET", &self.host, &self.path, full(""))).await {
                Ok(response) => response,
                Err(error) if !is_fresh && !retried && is_closed_unanswered(&error) => {
                    retried = true;
                    continue;
                }
                Err(error) => return (Err(chain(error)), retried),
            };
            let answer = read(response).await;
            self.connection = Some(connection).filter(|_| answer.is_ok() && self.keep == Keep::Connection);
            return (answer, retried);
        }
    }

    /// A new connection, to the first address that takes it.
    async fn open(&self) -> Result<Connection, String> {
        let addrs = self.addrs.borrow().clone();
        let mut failures = Vec::new();
        for addr in addrs {
            match Connection::open(addr, Protocol::H1).await {
                Ok(connection) => return Ok(connection),
                Err(failure) => failures.push(failure),
            }
        }
        Err(failures.join("; "))
    }

    /// The connection of the request before, if the server has not said that it closes it.
    async fn kept(&mut self) -> Option<Connection> {
        let mut connection = self.connection.take()?;
        connection.is_reusable().await.then_some(connection)
    }
}

impl LoadStats {
    fn fail(&mut self, failure: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(failure);
    }
}

/// The server closed the connection before the first byte of a response.
fn is_closed_unanswered(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed() || error.is_incomplete_message()
}
