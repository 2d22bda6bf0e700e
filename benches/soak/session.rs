//! One run: the host and what loads it, the blocks of edits and of quiet, and the table of it all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::{Answers, Commands, HEARTBEAT_INTERVAL};
use crate::edit::{Style, edit};
use crate::edits::{Expected, File, Kind, style};
use crate::load::{Load, Names, Pace, Shared};
use crate::measure::{Held, Sample, Times, slope};
use crate::support::{NatsServer, PATIENCE, TestProcess, eventually, free_port, http};
use crate::table::Table;

/// Static workloads: those that are asked for, and the one that is edited.
const STEADY: u64 = 89;
const COUNTERS: u64 = 10;

/// Of what the host can serve.
const SHARE: f64 = 0.7;

const WARM_UP: Duration = Duration::from_secs(2);
const SATURATION: Duration = Duration::from_secs(5);

/// Edits before the first look at what the process holds.
const WARM_EDITS: usize = 20;

/// Edits of a block, and how long the quiet one after it lasts.
const BLOCK_EDITS: usize = 24;
const QUIET: Duration = Duration::from_secs(4);

/// After an edit, before the next one.
const PAUSE: Duration = Duration::from_millis(50);

/// How often is looked at what the process holds; the least counts. In between, tokio ends the threads that had no
/// blocking work for 10 s.
const LOOKS: usize = 30;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the load is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    Other,
    Saturation,
    Quiet,
    Reloads,
}

/// One attempt, as `/status` tells it.
#[derive(Debug)]
struct Attempt {
    is_applied: bool,
    is_plugin: bool,
    phases: Vec<(String, f64)>,
}

struct Session {
    process: TestProcess,
    file: File,
    load: Load,
    commands: Commands,
    periods: Vec<(Period, Instant)>,
    edits: usize,
    /// From the edit to its line in the log, in milliseconds.
    live_after: Vec<f64>,
    wrong_outcomes: Vec<String>,
    attempts: Vec<Attempt>,
    last_attempt: u64,
    /// Edits so far, and KiB resident then.
    resident: Vec<(f64, f64)>,
}

/// Runs it. The host and its NATS are still there: who prints the table ends them in order.
pub(crate) async fn soak(reloads: usize) -> (Table, TestProcess, NatsServer) {
    let users = "authorization { users = [ { user: one, password: \"the password of one\" }, \
                 { user: two, password: \"the password of two\" }, { user: soak, password: \"soak\" } ] }";
    let nats = NatsServer::start(users).await;
    let mut session = Session::start(&nats).await;
    let begun = Instant::now();
    let served = session.saturation().await;
    session.load.set_pace(Pace::Rate(served * SHARE));
    session.reloads(WARM_EDITS).await;
    let before = session.held().await;
    session.load.set_pace(Pace::Rate(served * SHARE));
    tokio::time::sleep(WARM_UP).await;
    while session.edits < reloads {
        session.reloads(BLOCK_EDITS.min(reloads - session.edits)).await;
        session.begin(Period::Quiet);
        tokio::time::sleep(QUIET).await;
        session.resident.push((session.edits as f64, session.process.resident_bytes() as f64 / 1024.0));
    }
    let after = session.held().await;
    let (table, process) = session.finish(served, begun, (before, after)).await;
    (table, process, nats)
}

impl Session {
    async fn start(nats: &NatsServer) -> Self {
        let (ports, admin_port) = ([free_port(), free_port()], free_port());
        let urls = [nats.url(), nats.url().replace("127.0.0.1", "localhost")];
        let file = File::new(ports, admin_port, urls, (STEADY, COUNTERS));
        let mut builder = TestProcess::builder(&file.text())
            .file("hello.wasm", include_bytes!("../../examples/quickstart/hello.wasm"))
            .file("kv2.wasm", include_bytes!("../../tests/fixtures/kv2/kv2.wasm"));
        if let Ok(binary) = std::env::var("WASHLET_SOAK_BINARY") {
            builder = builder.program(&binary);
        }
        let mut process = builder.start();
        process.allow_log("configuration rejected");
        process.wait_for_message("configuration applied").await;
        let names = Names { steady: STEADY, counters: COUNTERS };
        let load = Load::start(addr(file.port()), names);
        let commands = Commands::start(&nats.url(), ("soak", "soak"), Arc::clone(&load.shared.period)).await;
        Self {
            process,
            file,
            load,
            commands,
            periods: vec![(Period::Other, Instant::now())],
            edits: 0,
            live_after: Vec::new(),
            wrong_outcomes: Vec::new(),
            attempts: Vec::new(),
            last_attempt: 1,
            resident: Vec::new(),
        }
    }

    /// From now on requests are counted for this.
    fn begin(&mut self, period: Period) {
        self.periods.push((period, Instant::now()));
        let number = u32::try_from(self.periods.len() - 1).expect("few periods");
        self.load.shared.period.store(number, Ordering::SeqCst);
    }

    /// Requests a second that the host serves when it is asked all the time.
    async fn saturation(&mut self) -> f64 {
        self.load.set_pace(Pace::Saturate);
        tokio::time::sleep(WARM_UP).await;
        let sent = |session: &Self| session.load.shared.tally.sent.load(Ordering::Relaxed);
        let (before, begun) = (sent(self), Instant::now());
        self.begin(Period::Saturation);
        tokio::time::sleep(SATURATION).await;
        let served = (sent(self) - before) as f64 / begun.elapsed().as_secs_f64();
        self.begin(Period::Other);
        served
    }

    /// A block of edits.
    async fn reloads(&mut self, edits: usize) {
        self.begin(Period::Reloads);
        for _ in 0..edits {
            self.reload().await;
            tokio::time::sleep(PAUSE).await;
        }
        self.read_attempts().await;
    }

    /// One edit, and what becomes of it.
    async fn reload(&mut self) {
        self.reload_as(Kind::of(self.edits), style(self.edits)).await;
        if self.edits.is_multiple_of(10) {
            self.read_attempts().await;
        }
    }

    async fn reload_as(&mut self, kind: Kind, style: Style) {
        const OUTCOMES: [Expected; 3] = [Expected::Applied, Expected::Unchanged, Expected::Rejected];
        let old = addr(self.file.port());
        self.file.edit(self.edits, kind);
        let shared = Arc::clone(&self.load.shared);
        shared.greeting_written.store(self.file.greeting, Ordering::SeqCst);
        let new = addr(self.file.port());
        if new != old {
            self.load.set_addrs(vec![old, new]);
        }
        let at = OffsetDateTime::now_utc();
        edit(&mut self.process, style, &self.file.text());
        self.edits += 1;
        let is_outcome = |message: &str| OUTCOMES.iter().any(|outcome| outcome.message() == message);
        let line = self.process.wait_for_log(|line| is_outcome(line.message())).await;
        if line.message() != kind.expected().message() {
            self.wrong_outcomes.push(format!("{kind:?} in {style:?}: {line}"));
        }
        self.load.set_addrs(vec![new]);
        shared.greeting_live.store(self.file.greeting, Ordering::SeqCst);
        if kind.expected() == Expected::Applied {
            let logged = line.field("timestamp").expect("a line has a time");
            let logged = OffsetDateTime::parse(&logged, &Rfc3339).expect("as RFC 3339 has it");
            self.live_after.push((logged - at).as_seconds_f64() * 1000.0);
        }
    }

    /// Takes note of the attempts since the last time: the host remembers 20.
    async fn read_attempts(&mut self) {
        let status = http::get(addr(self.file.admin_port), "admin", "/status").await;
        let status: Value = serde_json::from_str(status.text()).expect("a status in JSON");
        let attempts = status["config"]["attempts"].as_array().expect("a list").iter().rev();
        for attempt in attempts {
            let number = attempt["n"].as_u64().expect("a number");
            if number <= self.last_attempt {
                continue;
            }
            self.last_attempt = number;
            let changed = attempt["changed"].as_array().expect("a list");
            let is_plugin = |change: &Value| change["key"].as_str().is_some_and(|key| key.starts_with("plugins."));
            let phases = attempt["phases_ms"].as_object().expect("a table").iter();
            self.attempts.push(Attempt {
                is_applied: attempt["outcome"] == "applied",
                is_plugin: changed.iter().any(is_plugin),
                phases: phases.map(|(name, took)| (name.clone(), took.as_f64().unwrap_or_default())).collect(),
            });
        }
    }

    /// What the process holds while nobody asks anything.
    async fn held(&mut self) -> Held {
        self.begin(Period::Other);
        // A linked file is watched in two directories, another one in one.
        self.reload_as(Kind::Comment, Style::RenameOver).await;
        self.load.set_pace(Pace::Pause);
        self.commands.set_paused(true);
        eventually("replaced parts have ended", PATIENCE, async || {
            (self.metric("generations_retiring").await == 0.0 && self.metric("http_connections").await == 0.0)
                .then_some(())
        })
        .await;
        // Asking for the tasks opens a connection, which the host may still hold a moment later.
        let mut held = Held::by(self.process.id(), self.metric("tasks").await as usize);
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK_EVERY).await;
            held = held.least(Held::by(self.process.id(), self.metric("tasks").await as usize));
        }
        self.commands.set_paused(false);
        held
    }

    /// The sum of a metric's series.
    async fn metric(&self, name: &str) -> f64 {
        let metrics = http::get(addr(self.file.admin_port), "admin", "/metrics").await;
        let (plain, series) = (format!("washlet_{name} "), format!("washlet_{name}{{"));
        let lines = metrics.text().lines().filter(|line| line.starts_with(&plain) || line.starts_with(&series));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    async fn finish(self, served: f64, begun: Instant, (before, after): (Held, Held)) -> (Table, TestProcess) {
        let forced = self.metric("retired_forced_total").await as u64;
        let Self { process, load, commands, periods, edits, live_after, wrong_outcomes, attempts, resident, .. } = self;
        let (shared, samples) = load.stop();
        let answers = commands.stop().await;
        let mut table = Table::default();
        table.tell("reloads", format!("{edits} in {:.0} s", begun.elapsed().as_secs_f64()));
        table.hold_zero("other outcomes than expected", wrong_outcomes.len() as u64);
        wrong_outcomes.iter().for_each(|wrong| table.tell("", wrong));
        table.hold_zero("work of replaced parts cut at the deadline", forced);
        of_requests(&mut table, &shared, &samples, &periods, served);
        of_commands(&mut table, &answers, &periods);
        of_times(&mut table, live_after, &attempts);
        table.tell("held after 20 reloads", before);
        table.hold("held at the end", after, "no more", after.is_within(&before));
        of_memory(&mut table, &resident);
        (table, process)
    }
}

/// Times of the periods of one kind, in milliseconds.
fn times(samples: &[Sample], periods: &[(Period, Instant)], wanted: Period) -> Times {
    let is_wanted = |sample: &&Sample| periods.get(sample.period as usize).is_some_and(|period| period.0 == wanted);
    Times::new(samples.iter().filter(is_wanted).map(|sample| f64::from(sample.micros) / 1000.0))
}

fn of_requests(table: &mut Table, shared: &Shared, samples: &[Sample], periods: &[(Period, Instant)], served: f64) {
    let tally = &shared.tally;
    let number = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::SeqCst);
    table.tell("requests", format!("{}, on {} connections", number(&tally.sent), number(&tally.connections)));
    table.hold_zero("requests failed or answered wrongly", number(&tally.failed));
    tally.told.lock().expect("no holder panics").iter().for_each(|told| table.tell("", told));
    let counts: u64 = tally.counts.lock().expect("no holder panics").values().sum();
    let (counted, retried) = (number(&tally.counted), number(&tally.retried));
    table.tell("requests sent again because a kept connection was closed", retried);
    let is_exact = (counted..=counted + retried).contains(&counts);
    table.hold("counted by guests, of those answered", format!("{counts} of {counted}"), "equal", is_exact);
    let (quiet, reloads) = (times(samples, periods, Period::Quiet), times(samples, periods, Period::Reloads));
    let lengths = periods.iter().zip(periods.iter().skip(1)).filter(|((period, _), _)| *period == Period::Reloads);
    let seconds: f64 = lengths.map(|((_, from), (_, to))| to.duration_since(*from).as_secs_f64()).sum();
    let share = reloads.len() as f64 / seconds / served;
    let figure = format!("{:.0} % of {served:.0}/s", share * 100.0);
    table.hold("load during reloads, of saturation", figure, ">= 66 %", share >= 0.66);
    for (percent, most) in [(50.0, None), (99.0, Some(1.2)), (99.9, Some(2.0))] {
        let (quiet, reloads) = (quiet.percentile(percent), reloads.percentile(percent));
        let name = format!("latency p{percent}, quiet and during reloads");
        let figure = format!("{quiet:.2} ms, {reloads:.2} ms: {:.2}x", reloads / quiet);
        match most {
            Some(most) => table.hold(&name, figure, &format!("<= {most}x"), reloads <= most * quiet),
            None => table.tell(&name, figure),
        }
    }
    table.tell("slowest, quiet and during reloads", format!("{:.0} ms, {:.0} ms", quiet.max(), reloads.max()));
}

fn of_commands(table: &mut Table, answers: &Answers, periods: &[(Period, Instant)]) {
    table.tell("NATS requests", answers.asked);
    table.hold_zero("NATS requests unanswered", answers.unanswered as u64);
    table.hold_zero("NATS requests answered twice", answers.doubled as u64);
    table.hold_zero("NATS requests answered wrongly", answers.wrong.len() as u64);
    answers.wrong.iter().take(5).for_each(|wrong| table.tell("", wrong));
    let (quiet, reloads) =
        (times(&answers.samples, periods, Period::Quiet), times(&answers.samples, periods, Period::Reloads));
    let (quiet, reloads) = (quiet.percentile(99.0), reloads.percentile(99.0));
    let figure = format!("{quiet:.2} ms, {reloads:.2} ms: {:+.2} ms", reloads - quiet);
    table.hold("command p99, quiet and during reloads", figure, "<= +5 ms", reloads - quiet <= 5.0);
    let gaps = answers.heartbeats.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64());
    let gaps: Vec<f64> = gaps.collect();
    let interval = HEARTBEAT_INTERVAL.as_secs_f64();
    let expected = gaps.iter().sum::<f64>() / interval;
    let missed: f64 = gaps.iter().map(|gap| (gap / interval).round() - 1.0).filter(|missed| *missed > 0.0).sum();
    table.tell("heartbeats, expected at least", format!("{}, {expected:.0}", answers.heartbeats.len()));
    table.hold_zero("heartbeats missed", missed as u64);
    table
        .tell("longest time without one", format!("{:.2} s of {interval} s", gaps.iter().copied().fold(0.0, f64::max)));
}

fn of_times(table: &mut Table, live_after: Vec<f64>, attempts: &[Attempt]) {
    let live = Times::new(live_after);
    let (p50, p99) = (live.percentile(50.0), live.percentile(99.0));
    table.hold("swap to live p50", format!("{p50:.0} ms"), "<= 200 ms", p50 <= 200.0);
    table.hold("swap to live p99", format!("{p99:.0} ms"), "<= 500 ms", p99 <= 500.0);
    table.tell("swap to live, longest", format!("{:.0} ms", live.max()));
    let phase = |attempt: &Attempt, wanted: &str| {
        let phases = attempt.phases.iter().filter(|(name, _)| name == wanted);
        phases.map(|(_, took)| took).sum::<f64>()
    };
    let built = |attempt: &&Attempt| phase(attempt, "prepare") + phase(attempt, "commit");
    let applied = || attempts.iter().filter(|attempt| attempt.is_applied);
    let plugins = Times::new(applied().filter(|attempt| attempt.is_plugin).map(|attempt| built(&attempt)));
    let all = Times::new(applied().map(|attempt| built(&attempt)));
    let name = "prepare + commit of a changed plugin p50, p99";
    let (p50, p99) = (plugins.percentile(50.0), plugins.percentile(99.0));
    table.hold(name, format!("{p50:.1} ms, {p99:.1} ms"), "p99 <= 50 ms", p99 <= 50.0);
    let figure = format!("{:.1} ms, {:.1} ms", all.percentile(50.0), all.percentile(99.0));
    table.tell("prepare + commit of any change p50, p99", figure);
    for name in ["read", "load", "plan", "prepare", "commit"] {
        let times = Times::new(applied().map(|attempt| phase(attempt, name)));
        let figure = format!("{:.1} ms, {:.1} ms", times.percentile(50.0), times.percentile(99.0));
        table.tell(&format!("phase {name} p50, p99"), figure);
    }
}

fn of_memory(table: &mut Table, resident: &[(f64, f64)]) {
    // The first third is warming up.
    let settled = resident.get(resident.len() / 3..).unwrap_or_default();
    let (Some((slope, half)), Some((from, first)), Some((to, _))) = (slope(settled), settled.first(), settled.last())
    else {
        return table.tell("memory", "too few reloads to tell");
    };
    let growth = slope * (to - from) / first * 100.0;
    let figure = format!(
        "{:+.0} KiB, {:+.0} to {:+.0}; {growth:+.1} % of {:.1} MiB in {:.0} reloads",
        slope * 100.0,
        (slope - half) * 100.0,
        (slope + half) * 100.0,
        first / 1024.0,
        to - from
    );
    let is_noise = slope - half <= 0.0 || growth <= 1.0;
    table.hold("memory per 100 reloads, 95 % interval", figure, "0 inside, or <= 1 %", is_noise);
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
