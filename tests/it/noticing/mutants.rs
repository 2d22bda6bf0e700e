//! Files that are broken at random never break the host: what is not valid changes nothing, and is told once.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;
use washlet::config::{self, FileInput, Sources};

use super::APPLIED;
use crate::reload::HELLO;
use crate::support::{PATIENCE, TestProcess, eventually, free_port, http, rounds, say};

/// Files; `WASHLET_TEST_MUTATIONS` makes a soak of it.
const MUTATIONS: usize = 100;

/// The good file; where the host listens is said by variables, so that no mutant moves it.
const GOOD: &str = r#"# A host with a bit of everything.
[host]
group = "default"
environment = "tests"
labels = { zone = "a", rack = "17" }

[http]
request_timeout = "30s"
header_read_timeout = "10s"
max_connections = 1000

[limits]
memory = "64MiB"

[drain]
timeout = "5s"

[engine]
max_instances = 200

[reload]
debounce = "200ms"
in_use = "refuse"

[plugins.wasi-logging]

[plugins.wasi-config]

[plugins.wasi-keyvalue]
backend = "memory"
allow_buckets = ["*"]

[[workloads]]
name = "steady"
host_interfaces = [{ interface = "wasi:http/incoming-handler", config = { host = "steady.test" } }]
[[workloads.components]]
name = "steady"
image = "file:hello.wasm"
environment = { GREETING = "steady" }

[[workloads]]
name = "other"
namespace = "tests"
annotations = { team = "none" }
host_interfaces = [{ interface = "wasi:http/incoming-handler", config = { host = "other.test" } }]
[[workloads.components]]
name = "other"
image = "file:hello.wasm"
memory_limit = "32MiB"
pool_size = 1
"#;

/// Values of every type, and a few that are borders.
const VALUES: [&str; 16] = [
    "1",
    "-1",
    "0",
    "1.5",
    "true",
    "\"\"",
    "\"x\"",
    "\"10s\"",
    "\"0s\"",
    "\"1GiB\"",
    "[]",
    "[[1], \"a\"]",
    "{}",
    "{ a = { b = 1 } }",
    "1979-05-27",
    "9223372036854775807",
];

const KEYS: [&str; 8] = ["listen", "memory", "a.b.c", "\"\"", "enabled", "url", "\"k \\u0000\"", "pool_size"];

const TABLES: [&str; 6] =
    ["[x]", "[[workloads]]", "[plugins.wasi-nothing]", "[plugins.wasi-keyvalue]", "[[workloads.volumes]]", "[egress"];

/// xorshift64*: the same mutants each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let rolled = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(rolled).expect("31 bits") % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

fn mutant(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = GOOD.as_bytes().to_vec();
    let mut lines: Vec<String> = GOOD.lines().map(str::to_owned).collect();
    let line = dice.roll(lines.len());
    match dice.roll(8) {
        0 => {
            for _ in 0..=dice.roll(4) {
                let at = dice.roll(bytes.len());
                bytes[at] = u8::try_from(dice.roll(256)).expect("a byte");
            }
            return bytes;
        }
        1 => {
            let at = dice.roll(bytes.len());
            bytes[at] ^= 1 << dice.roll(8);
            return bytes;
        }
        2 => {
            bytes.truncate(dice.roll(bytes.len()));
            return bytes;
        }
        3 | 4 => {
            // Another type, or another value of the same one.
            let assigned: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains(" = ")).collect();
            let line = &mut lines[assigned[dice.roll(assigned.len())]];
            let key = line.split(" = ").next().expect("a key").to_owned();
            *line = format!("{key} = {}", dice.pick(&VALUES));
        }
        5 => lines.insert(line, format!("{} = {}", dice.pick(&KEYS), dice.pick(&VALUES))),
        6 => lines.insert(line, dice.pick(&TABLES).to_owned()),
        _ => {
            let other = dice.roll(lines.len());
            match dice.roll(3) {
                0 => lines.swap(line, other),
                1 => drop(lines.remove(line)),
                _ => lines.insert(other, lines[line].clone()),
            }
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text.into_bytes()
}

/// A client that asks all the time.
struct Client {
    stop: Arc<AtomicBool>,
    /// Even while the good file is live.
    window: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Client {
    fn start(port: u16) -> Self {
        let (stop, window) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&window));
        let task = tokio::spawn(async move {
            let (mut answered, mut failures) = (0_usize, Vec::new());
            while !stopped.load(Ordering::SeqCst) {
                let before = seen.load(Ordering::SeqCst);
                let request = http::request("GET", "steady.test", "/", http::full(""));
                let answer = http::try_send(([127, 0, 0, 1], port).into(), request).await;
                let was_good = before.is_multiple_of(2) && seen.load(Ordering::SeqCst) == before;
                match answer {
                    Ok(answer) if answer.status == 200 && answer.text().trim_end() == "steady" => answered += 1,
                    // A valid mutant may route it elsewhere, or give it a millisecond.
                    Ok(_) | Err(_) if !was_good => {}
                    Ok(answer) => failures.push(format!("{}: {}", answer.status, answer.text())),
                    Err(failure) => failures.push(failure),
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            (answered, failures)
        });
        Self { stop, window, task }
    }

    fn next_window(&self) {
        self.window.fetch_add(1, Ordering::SeqCst);
    }
}

/// The host, and where it stands.
struct Mutated {
    process: TestProcess,
    admin: u16,
    env: Vec<(String, String)>,
    generation: u64,
    attempts: u64,
}

impl Mutated {
    async fn start(port: u16) -> Self {
        let admin = free_port();
        let env = [
            ("WASHLET_HTTP__LISTEN", format!("127.0.0.1:{port}")),
            ("WASHLET_ADMIN__LISTEN", format!("127.0.0.1:{admin}")),
            ("WASHLET_LOG__FORMAT", "json".to_owned()),
            ("WASHLET_LOG__LEVEL", "info".to_owned()),
            ("WASHLET_RELOAD__WATCH", "false".to_owned()),
            ("WASHLET_RELOAD__POLL_INTERVAL", "0s".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let mut builder = TestProcess::builder(GOOD).file("hello.wasm", HELLO);
        for (name, value) in &env {
            builder = builder.env(name, value);
        }
        let mut process = builder.start();
        // Whatever the mutants make it say; panics are looked for at the end.
        process.allow_log("");
        process.wait_for_message(APPLIED).await;
        Self { process, admin, env: env.to_vec(), generation: 1, attempts: 1 }
    }

    /// What `washlet check` would say.
    fn is_valid(&self, bytes: &[u8]) -> bool {
        let path = self.process.dir().join("washlet.toml");
        let file = Some(FileInput { path, bytes: bytes.to_vec() });
        let working_dir = self.process.dir().to_owned();
        let sources = Sources { file, env: self.env.clone(), working_dir, ..Sources::default() };
        config::load(&sources, &|path| fs::read(path)).is_ok()
    }

    async fn status(&self) -> Value {
        let answer = http::get(([127, 0, 0, 1], self.admin).into(), "admin", "/status").await;
        serde_json::from_str(answer.text()).expect("JSON")
    }

    /// Writes the file, asks for a reload, and returns its outcome and whether the generation is another one.
    async fn reload(&mut self, bytes: &[u8]) -> (String, bool) {
        self.process.rewrite_file("washlet.toml", bytes);
        // On a machine with too much to do a request may be so late that its connection was closed, and is sent again;
        // had it been one attempt more, its number would tell.
        let answer = eventually("an answer to POST /reload", PATIENCE, async || {
            let request = http::request("POST", "admin", "/reload", http::full(""));
            http::try_send(([127, 0, 0, 1], self.admin).into(), request).await.ok()
        })
        .await;
        let told: Value = serde_json::from_str(answer.text()).expect("JSON");
        let outcome = told["outcome"].as_str().expect("an outcome").to_owned();
        assert!(["applied", "unchanged", "rejected"].contains(&outcome.as_str()), "{told}");
        assert_eq!(told["errors"].as_array().expect("a list").is_empty(), outcome != "rejected", "{told}");
        let number = told["n"].as_u64().expect("a number");
        if number != self.attempts + 1 {
            let status = self.status().await;
            let attempts = status["config"]["attempts"].as_array().expect("a list");
            let between = |attempt: &&Value| attempt["n"].as_u64().is_some_and(|n| n > self.attempts && n < number);
            let others = attempts.iter().filter(between);
            assert!(others.clone().count() > 0, "one outcome for each, after {}: {told}", self.attempts);
            others.for_each(|attempt| assert_eq!(attempt["trigger"], "retry", "{attempt}"));
        }
        self.attempts = number;
        let generation = told["generation"].as_u64().expect("a number");
        let has_moved = generation != self.generation;
        self.generation = generation;
        (outcome, has_moved)
    }

    /// The end of the test: the good file is what is live, and that is told.
    async fn back_to_good(&mut self) {
        let (outcome, _has_moved) = self.reload(GOOD.as_bytes()).await;
        assert_eq!(outcome, "unchanged", "the good file was live all the time");
        let status = self.status().await;
        assert_eq!(status["config"]["last_ok"], true);
        assert_ne!(status["config"]["file_hash"], Value::Null, "told, however long ago it was applied");
    }

    async fn finish(self) {
        let log = self.process.stderr();
        assert!(!log.contains("panicked") && !log.contains("is a bug"), "{log}");
        self.process.finish().await;
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    valid: usize,
    applied: usize,
    /// Valid, and refused by a guard or while preparing.
    refused: usize,
    answered: usize,
}

/// Gives one host so many mutants.
async fn mutate(mutants: usize, seed: u64) -> Counts {
    let port = free_port();
    let mut host = Mutated::start(port).await;
    let client = Client::start(port);
    let mut dice = Dice(seed);
    let mut counts = Counts::default();
    for nth in 0..mutants {
        let bytes = mutant(&mut dice);
        let shown = || format!("mutant {nth} of seed {seed:#x}:\n{}", String::from_utf8_lossy(&bytes));
        let is_valid = host.is_valid(&bytes);
        if is_valid {
            client.next_window();
        }
        let (outcome, has_moved) = host.reload(&bytes).await;
        if !is_valid {
            assert_eq!((outcome.as_str(), has_moved), ("rejected", false), "{}", shown());
            continue;
        }
        counts.valid += 1;
        counts.refused += usize::from(outcome == "rejected");
        assert!(has_moved || outcome != "applied", "{}", shown());
        if outcome != "rejected" {
            counts.applied += usize::from(has_moved);
            let (outcome, _has_moved) = host.reload(GOOD.as_bytes()).await;
            assert_ne!(outcome, "rejected", "back to the good file from {}", shown());
            eventually("the good file serves", PATIENCE, async || {
                let request = http::request("GET", "steady.test", "/", http::full(""));
                let answer = http::try_send(([127, 0, 0, 1], port).into(), request).await;
                answer.is_ok_and(|answer| answer.status == 200 && answer.text().trim_end() == "steady").then_some(())
            })
            .await;
        }
        client.next_window();
    }
    host.back_to_good().await;
    client.stop.store(true, Ordering::SeqCst);
    let (answered, failures) = client.task.await.expect("no panic");
    assert!(failures.is_empty(), "{failures:?}");
    assert!(answered > 0);
    host.finish().await;
    Counts { answered, ..counts }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_broken_at_random_changes_nothing_unless_it_is_valid() {
    const HOSTS: usize = 4;
    let mutants = rounds("WASHLET_TEST_MUTATIONS", MUTATIONS).div_ceil(HOSTS);
    // Side by side, for they mostly wait until a file has settled.
    let hosts = (1..=HOSTS as u64).map(|host| mutate(mutants, 0x5EED_0F11_1E55 * host));
    let counts = futures::future::join_all(hosts).await;
    let sum = |count: fn(&Counts) -> usize| counts.iter().map(count).sum::<usize>();
    say(&format!(
        "{} mutants: {} valid, of which {} applied and {} refused by a guard or while preparing; all others refused; \
         {} requests answered meanwhile, none failed",
        mutants * HOSTS,
        sum(|of| of.valid),
        sum(|of| of.applied),
        sum(|of| of.refused),
        sum(|of| of.answered),
    ));
}
