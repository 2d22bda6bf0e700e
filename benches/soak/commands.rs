//! The operator's side: questions that are each answered once, workloads that come and go, heartbeats.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::measure::Sample;
use crate::support::PATIENCE;

/// Status questions a second.
const STATUS_RATE: u32 = 500;

/// How often the questions that are due meanwhile are sent.
const TICK: Duration = Duration::from_millis(4);

/// Workloads started, asked about and stopped a second.
const LIFE_RATE: u32 = 5;

/// What the host is told to beat.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

const HEARTBEATS: &str = "runtime.operator.heartbeat.*";

/// The workload that is there all the time, and is asked about.
const RESIDENT: &str = "resident";

/// One question.
#[derive(Debug)]
struct Asked {
    due: Instant,
    period: u32,
    micros: Option<u32>,
    answers: u32,
    waiter: Option<oneshot::Sender<Bytes>>,
}

/// An operator, its questions so far, and the heartbeats that it heard.
#[derive(Debug)]
pub(crate) struct Commands {
    asking: Arc<Asking>,
    is_paused_tx: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    heartbeats: Arc<Mutex<Vec<Instant>>>,
}

#[derive(Debug)]
struct Asking {
    client: Client,
    inbox: String,
    host: String,
    period: Arc<AtomicU32>,
    asked: Mutex<Vec<Asked>>,
    wrong: Mutex<Vec<String>>,
    is_stopped: AtomicBool,
}

/// What became of the questions.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) asked: usize,
    pub(crate) unanswered: usize,
    pub(crate) doubled: usize,
    pub(crate) wrong: Vec<String>,
    pub(crate) samples: Vec<Sample>,
    /// When heartbeats came.
    pub(crate) heartbeats: Vec<Instant>,
}

impl Commands {
    /// Hears the host once, starts the resident workload, and begins to ask. `period` is that of the load.
    pub(crate) async fn start(url: &str, login: (&str, &str), period: Arc<AtomicU32>) -> Self {
        let options = ConnectOptions::with_user_and_password(login.0.to_owned(), login.1.to_owned());
        let client = options.connect(url).await.expect("the operator's own connection");
        let mut beats = client.subscribe(HEARTBEATS).await.expect("the client is connected");
        let first = tokio::time::timeout(PATIENCE, beats.next()).await.expect("a heartbeat").expect("a message");
        let first: Value = serde_json::from_slice(&first.payload).expect("a heartbeat in JSON");
        let heartbeats = Arc::new(Mutex::new(vec![Instant::now()]));
        let heard = Arc::clone(&heartbeats);
        let hearing = tokio::spawn(async move {
            while beats.next().await.is_some() {
                heard.lock().expect("no holder panics").push(Instant::now());
            }
        });
        let asking = Arc::new(Asking {
            inbox: client.new_inbox(),
            client,
            host: first["id"].as_str().expect("an id").to_owned(),
            period,
            asked: Mutex::default(),
            wrong: Mutex::default(),
            is_stopped: AtomicBool::new(false),
        });
        let (is_paused_tx, is_paused_rx) = watch::channel(false);
        let answers = asking.client.subscribe(format!("{}.*", asking.inbox)).await.expect("the client is connected");
        let mut tasks = vec![hearing, tokio::spawn(receive(answers, Arc::clone(&asking)))];
        asking.expect("start", RESIDENT, "RUNNING").await;
        tasks.push(tokio::spawn(ask_steadily(Arc::clone(&asking), is_paused_rx.clone())));
        tasks.push(tokio::spawn(live(Arc::clone(&asking), is_paused_rx)));
        Self { asking, is_paused_tx, tasks, heartbeats }
    }

    /// Whether nothing new is asked from now on.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.is_paused_tx.send_replace(is_paused);
    }

    /// Ends once everything is answered, or will not be.
    pub(crate) async fn stop(self) -> Answers {
        self.asking.is_stopped.store(true, Ordering::SeqCst);
        let end = Instant::now() + PATIENCE;
        let is_open = || self.asking.asked().iter().any(|asked| asked.answers == 0);
        tokio::time::sleep(Duration::from_millis(300)).await;
        while is_open() && Instant::now() < end {
            tokio::time::sleep(TICK).await;
        }
        // A host that ends waits for what its operator has placed.
        self.asking.expect("stop", RESIDENT, "STOPPING").await;
        // What is answered twice is so soon after the first time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.tasks.iter().for_each(JoinHandle::abort);
        let asked = std::mem::take(&mut *self.asking.asked());
        let count = |wanted: fn(u32) -> bool| asked.iter().filter(|asked| wanted(asked.answers)).count();
        Answers {
            asked: asked.len(),
            unanswered: count(|answers| answers == 0),
            doubled: count(|answers| answers > 1),
            wrong: std::mem::take(&mut *self.asking.wrong.lock().expect("no holder panics")),
            samples: asked
                .iter()
                .filter_map(|asked| Some(Sample { period: asked.period, micros: asked.micros? }))
                .collect(),
            heartbeats: std::mem::take(&mut *self.heartbeats.lock().expect("no holder panics")),
        }
    }
}

impl Asking {
    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().expect("no holder panics")
    }

    /// Publishes one question that was due at `due`.
    async fn ask(&self, command: &str, id: &str, due: Instant, waiter: Option<oneshot::Sender<Bytes>>) {
        let number = {
            let mut asked = self.asked();
            let period = self.period.load(Ordering::Relaxed);
            asked.push(Asked { due, period, micros: None, answers: 0, waiter });
            asked.len() - 1
        };
        let subject = format!("runtime.host.{}.workload.{command}", self.host);
        let question = match command {
            "start" => json!({ "workloadId": id, "workload": { "namespace": "soak", "name": id } }),
            _ => json!({ "workloadId": id }),
        };
        let reply_to = format!("{}.{number}", self.inbox);
        let payload = question.to_string().into();
        self.client.publish_with_reply(subject, reply_to, payload).await.expect("the client is connected");
    }

    /// Asks, and notes whether the answer is the expected state.
    async fn expect(&self, command: &str, id: &str, expected: &str) {
        let (answer_tx, answer_rx) = oneshot::channel();
        self.ask(command, id, Instant::now(), Some(answer_tx)).await;
        match tokio::time::timeout(PATIENCE, answer_rx).await {
            Ok(Ok(answer)) if is_state(&answer, expected) => {}
            Ok(answer) => self.note(format!("{command} {id}: {answer:?}")),
            Err(_elapsed) => self.note(format!("{command} {id}: no answer in {PATIENCE:?}")),
        }
    }

    fn note(&self, wrong: String) {
        self.wrong.lock().expect("no holder panics").push(wrong);
    }
}

fn is_state(answer: &[u8], state: &str) -> bool {
    let wanted = format!("WORKLOAD_STATE_{state}\"");
    answer.windows(wanted.len()).any(|part| part == wanted.as_bytes())
}

/// Counts answers by the number of the question.
async fn receive(mut answers: async_nats::Subscriber, asking: Arc<Asking>) {
    while let Some(message) = answers.next().await {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse::<usize>().ok());
        let mut all = asking.asked();
        let Some(asked) = number.and_then(|number| all.get_mut(number)) else { continue };
        asked.answers += 1;
        asked.micros.get_or_insert(u32::try_from(asked.due.elapsed().as_micros()).unwrap_or(u32::MAX));
        match asked.waiter.take() {
            Some(waiter) => drop(waiter.send(message.payload)),
            None if !is_state(&message.payload, "RUNNING") => {
                drop(all);
                asking.note(format!("status: {:?} {:?}", message.status, message.payload));
            }
            None => {}
        }
    }
}

/// At the fixed rate, whatever becomes of the answers.
async fn ask_steadily(asking: Arc<Asking>, mut is_paused_rx: watch::Receiver<bool>) {
    let mut due = Instant::now();
    while !asking.is_stopped.load(Ordering::SeqCst) {
        if *is_paused_rx.borrow() {
            drop(is_paused_rx.changed().await);
            due = Instant::now();
            continue;
        }
        while due <= Instant::now() {
            asking.ask("status", RESIDENT, due, None).await;
            due += Duration::from_secs(1) / STATUS_RATE;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// One workload after the other.
async fn live(asking: Arc<Asking>, mut is_paused_rx: watch::Receiver<bool>) {
    let mut number = 0;
    while !asking.is_stopped.load(Ordering::SeqCst) {
        if *is_paused_rx.borrow() {
            drop(is_paused_rx.changed().await);
            continue;
        }
        number += 1;
        let id = format!("life-{number}");
        for (command, expected) in [("start", "RUNNING"), ("status", "RUNNING"), ("stop", "STOPPING")] {
            asking.expect(command, &id, expected).await;
        }
        tokio::time::sleep(Duration::from_secs(1) / LIFE_RATE).await;
    }
}
