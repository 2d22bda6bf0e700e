//! A hundred edits while requests run: no request fails, valid edits are live, invalid ones are refused.

use std::net::TcpListener;
use std::time::Duration;

use tokio::sync::watch;

use crate::nats_live::traffic::{Heartbeats, Traffic};
use crate::reload::edit::{STYLES, edit};
use crate::reload::file::{File, Greeter, place, workload};
use crate::reload::{addr, apply_as, attempts, outcome, refuse_as, start, text_of};
use crate::support::load::Keep;
use crate::support::nats::NatsSubscription;
use crate::support::{Load, NatsServer, PATIENCE, TestProcess, free_port, http, rounds, say};

/// Edits of the test; `WASHLET_TEST_EDITS` makes a soak of it.
const EDITS: usize = 100;

/// Edits after which the process has everything that it keeps: what it holds from then on should not grow.
const WARM: usize = 20;

/// Connections come and go with the load: descriptors that differ by fewer are not a leak.
const DESCRIPTORS_OF_LOAD: usize = 16;

/// Heartbeats come each second; a second more is granted.
const GAP_MAX: Duration = Duration::from_secs(2);

/// Requests that have to be answered between two edits.
const REQUESTS_BETWEEN: u64 = 4;

/// The host under edit, and what its file says.
struct Session {
    process: TestProcess,
    file: File,
    addrs_tx: watch::Sender<Vec<std::net::SocketAddr>>,
    /// Where the listener moves to, and back.
    other_port: u16,
    /// A port that somebody else listens on.
    taken: TcpListener,
    heartbeats: NatsSubscription,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_edits_under_load_fail_no_request_and_each_is_live_or_refused() {
    let nats = NatsServer::start("").await;
    let port = free_port();
    let mut file = File::new(port).with("steady", "steady").with("edited", "edit 0");
    file.tables = format!("[nats.scheduler]\nurls = [\"{}\"]\nheartbeat_interval = \"1s\"\n", nats.url());
    let mut heartbeats = nats.client().await.subscribe("runtime.operator.heartbeat.*").await;
    let process = start(&file.text()).await;
    let (_subject, first) = heartbeats.next(PATIENCE).await;
    let questions = Traffic::start(&nats.url(), first["id"].as_str().expect("an id")).await;
    let beats = Heartbeats::watch(&[&nats.url()]).await;
    let (addrs_tx, addrs_rx) = watch::channel(vec![addr(port)]);
    let keep = [
        ("steady.test", vec![Keep::Connection, Keep::Nothing]),
        ("edited.test", vec![Keep::Connection, Keep::Nothing]),
    ];
    let loads = keep.map(|(host, keep)| Load::follow(&addrs_rx, host, "/", keep));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut session = Session { process, file, addrs_tx, other_port: free_port(), taken, heartbeats };
    let edits = rounds("WASHLET_TEST_EDITS", EDITS);
    let mut warm = Held::default();
    for number in 1..=edits {
        session.edit(number).await;
        if number == WARM {
            warm = Held::by(&session.process);
        }
        for load in &loads {
            load.wait_for_more(REQUESTS_BETWEEN).await;
        }
    }
    for load in loads {
        let stats = load.stop().await;
        assert_eq!((stats.failed, &stats.first_failure), (0, &None), "{stats:?}");
        assert!(stats.ok >= REQUESTS_BETWEEN * edits as u64, "{stats:?}");
        say(&format!("{edits} edits: {stats:?}"));
    }
    assert!(beats.longest_gap() <= GAP_MAX, "{:?}", beats.longest_gap());
    let answers = questions.finish().await;
    answers.assert_exact();
    assert_eq!(answers.no_responders, 0, "somebody was there all the time");
    let held = Held::by(&session.process);
    say(&format!("held after {WARM} edits: {warm}; after {edits}: {held}"));
    assert!(held.descriptors <= warm.descriptors + DESCRIPTORS_OF_LOAD, "{warm}, then {held}");
    session.process.finish().await;
}

/// What a process holds.
#[derive(Debug, Default)]
struct Held {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { descriptors, threads, resident_kib } = self;
        write!(f, "{descriptors} descriptors, {threads} threads, {resident_kib} KiB resident")
    }
}

impl Held {
    fn by(process: &TestProcess) -> Self {
        Self {
            descriptors: process.entries_of("fd"),
            threads: process.entries_of("task"),
            resident_kib: process.resident_bytes() / 1024,
        }
    }
}

impl Session {
    /// One edit in one of the styles: three valid ones, then an invalid one.
    async fn edit(&mut self, number: usize) {
        match number % 4 {
            0 => self.invalid(number).await,
            _ => self.valid(number).await,
        }
    }

    async fn valid(&mut self, number: usize) {
        let style = STYLES[number % STYLES.len()];
        let (port, last) = (self.file.port, self.file.greeters.len() - 1);
        match number % 7 {
            0 => self.file.greeters.push(Greeter::new(&format!("added-{number}"), "added")),
            1 if last > 1 => drop(self.file.greeters.remove(last)),
            2 => self.file.port = std::mem::replace(&mut self.other_port, port),
            3 => self.file.host = format!("group = \"group-{number}\"\nlabels = {{ edit = \"{number}\" }}\n"),
            4 => self.file.level = format!("info,some_crate_{number}=debug"),
            5 => self.file.request_timeout = format!("{}s", 30 + number),
            _ => {}
        }
        self.file.greeters[1].greeting = format!("edit {number}");
        self.addrs_tx.send_modify(|addrs| addrs.extend((self.file.port != port).then(|| addr(self.file.port))));
        apply_as(&mut self.process, style, &self.file.text()).await;
        self.addrs_tx.send_replace(vec![addr(self.file.port)]);
        assert_eq!(attempts(&self.process).len(), 1, "one attempt an edit: {:?}", attempts(&self.process));
        self.is_live(number).await;
    }

    /// What the file says is what is answered.
    async fn is_live(&mut self, number: usize) {
        for greeter in &self.file.greeters {
            assert_eq!(text_of(self.file.port, &greeter.host(), "/").await, greeter.greeting);
        }
        let gone = http::get(addr(self.file.port), "nobody.test", "/").await;
        assert_eq!(gone.status, 404);
        if self.file.host.contains(&format!("\"{number}\"")) {
            self.heartbeat_says(number).await;
        }
    }

    async fn heartbeat_says(&mut self, number: usize) {
        loop {
            let (_subject, beat) = self.heartbeats.next(PATIENCE).await;
            if beat["labels"]["edit"].as_str() == Some(&number.to_string()) {
                assert_eq!(beat["labels"]["hostgroup"], format!("group-{number}"));
                assert_eq!(beat["httpPort"], self.file.port);
                return;
            }
        }
    }

    async fn invalid(&mut self, number: usize) {
        let good = self.file.text();
        let style = STYLES[number / 4 % STYLES.len()];
        let Invalid { text, reason, says } = self.invalid_text(number / 4, &good);
        let (actual_reason, error) = refuse_as(&mut self.process, style, &text).await;
        assert_eq!(actual_reason, reason, "{error}");
        assert!(error.contains(&says), "{error:?} names {says:?}");
        self.is_live(number).await;
        let told = attempts(&self.process);
        assert_eq!(told.len(), 1, "an invalid edit is told once: {told:?}");
        // Taken back, it is as if nothing had happened; the next valid edit comes on top of the invalid one else.
        if number.is_multiple_of(8) {
            edit(&mut self.process, style, &good);
            assert_eq!(outcome(&self.process).await.message(), "configuration unchanged");
        }
    }

    fn invalid_text(&self, nth: usize, good: &str) -> Invalid {
        let of_http = |line: &str| good.replacen("[http]\n", &format!("[http]\n{line}\n"), 1);
        let added = |more: &str| format!("{good}{more}");
        match (nth, nth % 5) {
            // These two wait until the file has been so for 2 s: once each is enough.
            (3, _) => {
                let text = added(&workload("lost", "nowhere.wasm", ""));
                let says = at(&text, "\"file:nowhere.wasm\"", "workloads[");
                Invalid { text, reason: "invalid", says }
            }
            (6, _) => Invalid { text: "\n".to_owned(), reason: "guard", says: "is empty".to_owned() },
            (_, 0) => {
                let text = of_http("max_connections = 1 2");
                let says = at(&text, "1 2", "");
                Invalid { text, reason: "invalid", says }
            }
            (_, 1) => {
                let text = of_http("lissten = 1");
                let says = at(&text, "lissten", "http.lissten: unknown key (did you mean `listen`?)");
                Invalid { text, reason: "invalid", says }
            }
            (_, 2) => {
                let text = of_http("max_connections = \"many\"");
                let says = at(&text, "\"many\"", "http.max_connections: expected a whole number");
                Invalid { text, reason: "invalid", says }
            }
            (_, 3) => {
                let taken = self.taken.local_addr().expect("a bound socket").to_string();
                let text = good.replacen(&format!("127.0.0.1:{}", self.file.port), &taken, 1);
                Invalid { text, reason: "prepare", says: format!("cannot listen on {taken}") }
            }
            _ => {
                let text = added(&workload("lacking", "missing.wasm", ""));
                Invalid { text, reason: "prepare", says: "imports 'test:absent/thing@1.0.0'".to_owned() }
            }
        }
    }
}

/// A text that is refused, and why.
struct Invalid {
    text: String,
    reason: &'static str,
    says: String,
}

/// A message with its place, as it starts.
fn at(text: &str, what: &str, message: &str) -> String {
    format!("washlet.toml{} {message}", place(text, what))
}
