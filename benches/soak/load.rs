//! HTTP at a fixed rate over blocking sockets: each request has a time at which it is due, and its latency counts from
//! then, so that a server that stalls is not asked less and does not look better for it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::measure::Sample;
use crate::response::{Outcome, read_response};

/// Clients, each with one request at a time. At 70 % of what two cores serve, each is busy a tenth of the time.
const CLIENTS: u64 = 24;

/// A client opens another connection after so many requests.
const REQUESTS_PER_CONNECTION: u64 = 50;

/// A response that takes longer failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Failures that are told in words.
const FAILURES_TOLD: usize = 5;

/// What clients do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Nothing, and hold no connection.
    Pause,
    /// One request after the other.
    Saturate,
    /// So many a second, all clients together.
    Rate(f64),
}

/// Who is asked for what, and what is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// Workloads `steady-0` and so on, which answer with their names.
    pub(crate) steady: u64,
    /// Workloads `counter-0` and so on, which count.
    pub(crate) counters: u64,
}

/// What clients and the one who directs them share.
#[derive(Debug)]
pub(crate) struct Shared {
    pace: Mutex<Pace>,
    /// Changes with the pace.
    pace_number: AtomicU64,
    is_stopped: AtomicBool,
    addrs: Mutex<Vec<SocketAddr>>,
    names: Names,
    /// The period that runs: samples are sorted by it.
    pub(crate) period: Arc<AtomicU32>,
    /// The greeting that was live for sure, and the newest that may be live, of the workload `edited`.
    pub(crate) greeting_live: AtomicU64,
    pub(crate) greeting_written: AtomicU64,
    pub(crate) tally: Tally,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Sent again on another connection, because a kept one was closed in the moment the request was sent, which RFC
    /// 9110 (9.2.2) tells clients to expect.
    pub(crate) retried: AtomicU64,
    /// Connections opened.
    pub(crate) connections: AtomicU64,
    /// Requests that counted, and the highest number that came back from each workload that counts.
    pub(crate) counted: AtomicU64,
    pub(crate) counts: Mutex<BTreeMap<u64, u64>>,
    /// The first failures, in words.
    pub(crate) told: Mutex<Vec<String>>,
}

/// The clients.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Sample>>>,
}

impl Load {
    /// Clients that pause.
    pub(crate) fn start(addr: SocketAddr, names: Names) -> Self {
        let shared = Arc::new(Shared {
            pace: Mutex::new(Pace::Pause),
            pace_number: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
            addrs: Mutex::new(vec![addr]),
            names,
            period: Arc::default(),
            greeting_live: AtomicU64::new(0),
            greeting_written: AtomicU64::new(0),
            tally: Tally::default(),
        });
        let clients = (0..CLIENTS).map(|number| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || Client::new(shared, number).run())
        });
        let clients = clients.collect();
        Self { shared, clients }
    }

    /// From now on.
    pub(crate) fn set_pace(&self, pace: Pace) {
        *self.shared.pace.lock().expect("no holder panics") = pace;
        self.shared.pace_number.fetch_add(1, Ordering::SeqCst);
    }

    /// Where new connections go: to the first that takes them.
    pub(crate) fn set_addrs(&self, addrs: Vec<SocketAddr>) {
        *self.shared.addrs.lock().expect("no holder panics") = addrs;
    }

    /// Ends, after the requests under way.
    pub(crate) fn stop(self) -> (Arc<Shared>, Vec<Sample>) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        let samples = self.clients.into_iter().flat_map(|client| client.join().expect("no client panics"));
        let samples = samples.collect();
        (self.shared, samples)
    }
}

struct Client {
    shared: Arc<Shared>,
    number: u64,
    connection: Option<TcpStream>,
    requests: u64,
    samples: Vec<Sample>,
}

/// What is asked.
enum Question {
    Steady(u64),
    Edited,
    Counter(u64),
}

impl Client {
    fn new(shared: Arc<Shared>, number: u64) -> Self {
        Self { shared, number, connection: None, requests: number, samples: Vec::new() }
    }

    fn run(mut self) -> Vec<Sample> {
        let (mut pace, mut pace_number) = (Pace::Pause, 0);
        let mut due = Instant::now();
        while !self.shared.is_stopped.load(Ordering::Relaxed) {
            let number = self.shared.pace_number.load(Ordering::Relaxed);
            if number != pace_number {
                (pace, pace_number) = (*self.shared.pace.lock().expect("no holder panics"), number);
                due = Instant::now();
                if let Pace::Rate(rate) = pace {
                    // Spread over the first turn.
                    due += Duration::from_secs_f64(self.number as f64 / rate);
                }
            }
            match pace {
                Pace::Pause => {
                    self.connection = None;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Pace::Saturate => self.request(Instant::now()),
                Pace::Rate(rate) => {
                    if let Some(wait) = due.checked_duration_since(Instant::now()) {
                        std::thread::sleep(wait);
                    }
                    self.request(due);
                    due += Duration::from_secs_f64(CLIENTS as f64 / rate);
                }
            }
        }
        self.samples
    }

    /// One request that was due at `due`, with all that is told of it.
    fn request(&mut self, due: Instant) {
        let period = self.shared.period.load(Ordering::Relaxed);
        self.requests += 1;
        // Neighbours ask for different things, and each client for all of them in turn.
        let turn = self.requests * CLIENTS + self.number;
        let question = match self.requests % 10 {
            0 => Question::Counter(turn % self.shared.names.counters),
            1 => Question::Edited,
            _ => Question::Steady(turn % self.shared.names.steady),
        };
        let live = self.shared.greeting_live.load(Ordering::SeqCst);
        let result = self.ask(&question).and_then(|body| self.judge(&question, &body, live));
        let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.samples.push(Sample { period, micros });
        let tally = &self.shared.tally;
        tally.sent.fetch_add(1, Ordering::Relaxed);
        if let Err(failure) = result {
            tally.failed.fetch_add(1, Ordering::Relaxed);
            let mut told = tally.told.lock().expect("no holder panics");
            if told.len() < FAILURES_TOLD {
                told.push(failure);
            }
        }
    }

    /// The body of the answer to one question.
    fn ask(&mut self, question: &Question) -> Result<String, String> {
        let (host, path) = match question {
            Question::Steady(number) => (format!("steady-{number}.test"), "/"),
            Question::Edited => ("edited.test".to_owned(), "/"),
            Question::Counter(number) => (format!("counter-{number}.test"), "/counter"),
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let mut is_retried = false;
        loop {
            let (mut connection, is_fresh) = match self.connection.take() {
                Some(connection) => (connection, false),
                None => (self.open()?, true),
            };
            let outcome = match connection.write_all(request.as_bytes()) {
                Ok(()) => read_response(&mut connection),
                Err(_closed) => Outcome::ClosedUnanswered,
            };
            match outcome {
                Outcome::Answer(answer) => {
                    if !answer.closes && !self.requests.is_multiple_of(REQUESTS_PER_CONNECTION) {
                        self.connection = Some(connection);
                    }
                    return match answer.status {
                        200 => Ok(answer.body),
                        status => Err(format!("{host}{path}: status {status}: {}", answer.body)),
                    };
                }
                Outcome::ClosedUnanswered if !is_fresh && !is_retried => {
                    is_retried = true;
                    self.shared.tally.retried.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::ClosedUnanswered => return Err(format!("{host}{path}: closed without an answer")),
                Outcome::Broken(failure) => return Err(format!("{host}{path}: {failure}")),
            }
        }
    }

    fn open(&self) -> Result<TcpStream, String> {
        let addrs = self.shared.addrs.lock().expect("no holder panics").clone();
        let mut failures = Vec::new();
        for addr in addrs {
            match TcpStream::connect(addr) {
                Ok(stream) => {
                    stream.set_nodelay(true).expect("a connected socket");
                    stream.set_read_timeout(Some(TIMEOUT)).expect("a connected socket");
                    self.shared.tally.connections.fetch_add(1, Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(failure) => failures.push(format!("cannot connect to {addr}: {failure}")),
            }
        }
        Err(failures.join("; "))
    }

    /// Whether it is the answer to the question, `live` being live before it was asked.
    fn judge(&self, question: &Question, body: &str, live: u64) -> Result<(), String> {
        let body = body.trim_end();
        let is_right = match question {
            Question::Steady(number) => body == format!("steady {number}"),
            Question::Edited => {
                let written = self.shared.greeting_written.load(Ordering::SeqCst);
                body.strip_prefix("edit ")
                    .and_then(|number| number.parse().ok())
                    .is_some_and(|number| (live..=written).contains(&number))
            }
            Question::Counter(number) => body.parse::<u64>().is_ok_and(|count| {
                self.shared.tally.counted.fetch_add(1, Ordering::Relaxed);
                let mut counts = self.shared.tally.counts.lock().expect("no holder panics");
                let known = counts.entry(*number).or_default();
                *known = count.max(*known);
                true
            }),
        };
        if is_right { Ok(()) } else { Err(format!("wrong answer {body:?} ({live} was live)")) }
    }
}
