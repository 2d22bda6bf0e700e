//! A walk over edits of every kind, and after each of them what is told by log, reply, status and metrics: all the same,
//! and what a model of the host says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::reload::addr;
use crate::support::nats::NatsClient;
use crate::support::{LogLine, NatsServer, PATIENCE, TestProcess, eventually, free_port, http};

/// Edits of the walk; `WASHLET_TEST_STEPS` makes it a long one.
const STEPS: u32 = 30;

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Syntax,
    Value,
    Role,
    Empty,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    group: u32,
    max_instances: u32,
    wrong: Wrong,
}

impl File {
    fn text(&self, nats: &str, admin: u16) -> String {
        let Self { group, max_instances, wrong } = self;
        let http = if *wrong == Wrong::Role { "" } else { "[http]\nlisten = \"127.0.0.1:0\"\n" };
        let text = format!(
            "[log]\nformat = \"json\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[reload]\nwatch = false\n\
             poll_interval = \"0s\"\n[nats.scheduler]\nurls = [\"{nats}\"]\n{http}[host]\ngroup = \"g{group}\"\n\
             [engine]\nmax_instances = {max_instances}\n"
        );
        match wrong {
            Wrong::Nothing | Wrong::Role => text,
            Wrong::Syntax => text + "[host\n",
            Wrong::Value => text + "pooling = 7\n",
            Wrong::Empty => String::new(),
        }
    }
}

/// What must be true.
struct Model {
    group: u32,
    generation: u64,
    attempts: u64,
    is_pending: bool,
}

impl Model {
    /// Outcome and reason of an attempt on `file`.
    fn attempt(&mut self, file: &File) -> (&'static str, Option<&'static str>) {
        self.attempts += 1;
        let reason = match file.wrong {
            Wrong::Nothing => None,
            Wrong::Syntax | Wrong::Value => Some("invalid"),
            Wrong::Role | Wrong::Empty => Some("guard"),
        };
        if reason.is_some() {
            return ("rejected", reason);
        }
        self.is_pending = file.max_instances != 10;
        if file.group == self.group {
            return ("unchanged", None);
        }
        self.group = file.group;
        self.generation += 1;
        ("applied", None)
    }
}

struct Host {
    process: TestProcess,
    client: NatsClient,
    id: String,
    admin: u16,
}

impl Host {
    async fn ask(&self, question: &str) -> Value {
        self.client.request_bytes(&format!("runtime.host.{}.config.{question}", self.id), "").await
    }

    async fn status(&self) -> Value {
        let answer = http::get(addr(self.admin), "admin", "/status").await;
        serde_json::from_str(answer.text()).unwrap()
    }

    /// Status over HTTP and over NATS, taken when nothing drains any more.
    async fn agreed_status(&self) -> Value {
        eventually("nothing drains, and both ways tell the same", PATIENCE, async || {
            let (one, other) = (self.status().await, self.ask("status").await);
            let is_quiet = one["config"]["retiring"] == 0 && other["config"]["retiring"] == 0;
            is_quiet.then(|| assert_eq!(one["config"], other["config"])).map(|()| one["config"].clone())
        })
        .await
    }

    async fn metrics(&self) -> String {
        http::get(addr(self.admin), "admin", "/metrics").await.text().to_owned()
    }
}

/// The value of the one series of `name`.
fn value(metrics: &str, name: &str) -> f64 {
    let series: Vec<&str> = metrics.lines().filter(|line| line.starts_with(&format!("{name} "))).collect();
    let [line] = series.as_slice() else { panic!("{name}: {series:?}") };
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// The label sets of `name`, as they are written.
fn labels(metrics: &str, name: &str) -> Vec<String> {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
    series.map(|(labels, _value)| labels.to_owned()).collect()
}

fn keys(pending: &Value) -> Vec<&str> {
    pending.as_array().unwrap().iter().map(|pending| pending["key"].as_str().unwrap()).collect()
}

fn field(line: &LogLine, name: &str) -> String {
    line.field(name).unwrap_or_default()
}

/// All four tell the same attempt, and the model agrees.
async fn agree(host: &Host, reply: &Value, model: &Model, expected: (&str, Option<&str>)) {
    let (outcome, reason) = expected;
    assert_eq!((&reply["outcome"], &reply["reason"]), (&json!(outcome), &json!(reason)), "{reply}");
    assert_eq!((&reply["generation"], &reply["n"]), (&json!(model.generation), &json!(model.attempts)), "{reply}");

    let line = host.process.wait_for_log(|line| line.message() == format!("configuration {outcome}")).await;
    assert_eq!((field(&line, "generation"), field(&line, "trigger")), (model.generation.to_string(), "request".into()));
    assert_eq!(
        (field(&line, "reason"), field(&line, "file")),
        (reason.unwrap_or_default().into(), text(&reply["file_hash"]))
    );
    assert_eq!(field(&line, "error"), text(&reply["errors"][0]["text"]), "{line}");
    let waiting: BTreeSet<String> = field(&line, "restart_pending").split_whitespace().map(str::to_owned).collect();
    if outcome != "rejected" {
        let told = reply["restart_pending"].as_array().unwrap().iter();
        let told = told.map(|it| format!("{}({})", text(&it["key"]), text(&it["at"])));
        assert_eq!(waiting, told.collect(), "{line}");
    }

    let status = host.agreed_status().await;
    let without_end = |attempt: &Value| {
        let mut attempt = attempt.clone();
        attempt.as_object_mut().unwrap().remove("retire");
        attempt
    };
    assert_eq!(without_end(&status["attempts"][0]), without_end(reply));
    assert_eq!((&status["generation"], &status["last_ok"]), (&json!(model.generation), &json!(outcome != "rejected")));
    let pending: &[&str] = if model.is_pending { &["engine.max_instances"] } else { &[] };
    assert_eq!(keys(&status["restart_pending"]), pending, "{status}");
    assert_eq!(status["generations_alive"], 1);
    if outcome != "rejected" {
        assert_eq!(status["file_hash"], reply["file_hash"], "what was read is what runs");
    }

    let metrics = host.metrics().await;
    assert_eq!(value(&metrics, "washlet_config_generation").to_string(), model.generation.to_string());
    let is_ok = value(&metrics, "washlet_config_last_reload_successful") > 0.0;
    assert_eq!(is_ok, outcome != "rejected");
    let series: Vec<String> = pending.iter().map(|key| format!("key=\"{key}\"")).collect();
    assert_eq!(labels(&metrics, "washlet_config_restart_pending"), series);
    let attempted = text(&reply["file_hash"]);
    let (running, generation) = (text(&status["file_hash"]), model.generation);
    let info = format!("running=\"{running}\",attempted=\"{attempted}\",generation=\"{generation}\"");
    assert_eq!(labels(&metrics, "washlet_config_info"), [info]);
    let total = metrics.lines().filter(|line| line.starts_with("washlet_config_reloads_total{"));
    let total: u64 = total.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    assert_eq!(total, model.attempts);
    let ready = http::get(addr(host.admin), "admin", "/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.text().contains("config: rejected")), (200, outcome == "rejected"));
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn metric_status_log_and_reply_agree_after_every_edit() {
    let steps = std::env::var("WASHLET_TEST_STEPS").map_or(STEPS, |steps| steps.parse().expect("a number of steps"));
    let (nats, admin) = (NatsServer::start("").await, free_port());
    let client = nats.client().await;
    let mut file = File { group: 0, max_instances: 10, wrong: Wrong::Nothing };
    let mut process = TestProcess::start(&file.text(&nats.url(), admin));
    process.allow_log("configuration rejected");
    process.wait_for_message("configuration applied").await;
    let id = process.wait_for_message("this is the host").await.field("host.id").unwrap();
    let mut host = Host { process, client, id, admin };
    eventually("the host is ready", PATIENCE, async || {
        (http::get(addr(admin), "admin", "/readyz").await.status == 200).then_some(())
    })
    .await;
    let mut model = Model { group: 0, generation: 1, attempts: 1, is_pending: false };
    // The walk is the same each time: what fails can be looked at again.
    let mut random = 20_261_123_u32;
    for step in 0..steps {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (kind, value) = (random >> 24, random >> 16 & 1);
        match kind % 8 {
            0 | 1 => file = File { group: value, wrong: Wrong::Nothing, ..file },
            2 | 3 => file = File { max_instances: 10 + value, wrong: Wrong::Nothing, ..file },
            4 => file.wrong = Wrong::Syntax,
            5 => file.wrong = Wrong::Value,
            6 => file.wrong = Wrong::Role,
            _ => file.wrong = Wrong::Empty,
        }
        host.process.rewrite_config(&file.text(&nats.url(), admin));
        let expected = model.attempt(&file);
        let reply = host.ask("reload").await;
        eprint_step(step, &file, &reply);
        agree(&host, &reply, &model, expected).await;
    }
    host.process.finish().await;
}

/// Shown by the test runner with a failure.
#[expect(clippy::print_stderr, reason = "the step that failed is the last one")]
fn eprint_step(step: u32, file: &File, reply: &Value) {
    eprintln!("step {step}: {file:?}: {}", reply["outcome"]);
}
