//! An operator that asks without a pause, and counts the answers to each question.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{HEARTBEATS, state};
use crate::support::{PATIENCE, eventually};

/// Starts, asks about and stops workloads of nothing, one after the other, until it is told to end.
#[derive(Debug)]
pub(crate) struct Traffic {
    asked: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Answers>,
}

/// How many answers each question got, and what was wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// By the number of the question.
    counts: Vec<usize>,
    /// Answers that say that nobody is there.
    pub(crate) no_responders: usize,
    /// Answers that are not those of the host.
    pub(crate) wrong: Vec<String>,
}

type Replies = watch::Sender<HashMap<String, Vec<Option<Bytes>>>>;

impl Traffic {
    /// Against the host `id`, as one more client of the server at `url`.
    pub(crate) async fn start(url: &str, id: &str) -> Self {
        let client = connect(url).await;
        let inbox = client.new_inbox();
        let mut subscription = client.subscribe(format!("{inbox}.*")).await.expect("the client is connected");
        client.flush().await.expect("the client is connected");
        let replies: Arc<Replies> = Arc::default();
        let received = Arc::clone(&replies);
        drop(tokio::spawn(async move {
            while let Some(message) = subscription.next().await {
                // No responders: no content, and a status.
                let payload = message.status.is_none().then_some(message.payload);
                received.send_modify(|all| all.entry(message.subject.to_string()).or_default().push(payload));
            }
        }));
        let (asked, answered, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let asking = Asking { client, inbox, host: id.to_owned(), replies };
        let task = tokio::spawn(asking.run(Arc::clone(&asked), Arc::clone(&answered), Arc::clone(&stop)));
        Self { asked, answered, stop, task }
    }

    /// Waits until `more` further questions were answered by the host.
    pub(crate) async fn go_on(&self, more: usize) {
        let before = self.answered.load(Ordering::SeqCst);
        eventually("questions are answered", PATIENCE, async || {
            (self.answered.load(Ordering::SeqCst) >= before + more).then_some(())
        })
        .await;
    }

    /// Ends, and says what came of it.
    pub(crate) async fn finish(self) -> Answers {
        self.stop.store(true, Ordering::SeqCst);
        let answers = self.task.await.expect("it does not panic");
        assert_eq!(answers.counts.len(), self.asked.load(Ordering::SeqCst));
        answers
    }
}

impl Answers {
    /// Each question was answered once.
    pub(crate) fn assert_exact(&self) {
        let off: Vec<_> = self.counts.iter().enumerate().filter(|(_, count)| **count != 1).collect();
        assert!(off.is_empty(), "questions answered not once, of {}: {off:?}", self.counts.len());
        assert_eq!(self.wrong, Vec::<String>::new());
        assert!(self.counts.len() > 100, "only {} questions", self.counts.len());
    }
}

struct Asking {
    client: async_nats::Client,
    inbox: String,
    host: String,
    replies: Arc<Replies>,
}

impl Asking {
    async fn run(self, asked: Arc<AtomicUsize>, answered: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> Answers {
        let mut answers = Answers::default();
        let mut number = 0;
        let mut workload = 0;
        while !stop.load(Ordering::SeqCst) {
            workload += 1;
            let id = format!("{}-{workload}", self.inbox);
            let mut is_running = false;
            for (command, expected) in [("start", "RUNNING"), ("status", "RUNNING"), ("stop", "STOPPING")] {
                asked.fetch_add(1, Ordering::SeqCst);
                match self.ask(number, command, &id).await {
                    None => answers.no_responders += 1,
                    Some(answer) => {
                        answered.fetch_add(1, Ordering::SeqCst);
                        is_running |= command == "start";
                        // What was asked while nobody was there did not happen.
                        if is_running && state(&answer) != expected {
                            answers.wrong.push(format!("{command}: {answer}"));
                        }
                    }
                }
                number += 1;
            }
        }
        // Whatever is under way arrives before the answer to one more question.
        asked.fetch_add(1, Ordering::SeqCst);
        drop(self.ask(number, "status", "none").await);
        let replies = self.replies.borrow();
        answers.counts = (0..=number).map(|i| replies.get(&self.reply_to(i)).map_or(0, Vec::len)).collect();
        drop(replies);
        answers
    }

    fn reply_to(&self, number: usize) -> String {
        format!("{}.{number}", self.inbox)
    }

    /// The first answer; `None` if nobody is there.
    async fn ask(&self, number: usize, command: &str, id: &str) -> Option<Value> {
        let subject = format!("runtime.host.{}.workload.{command}", self.host);
        let request = match command {
            "start" => json!({"workloadId": id, "workload": {"namespace": "n", "name": id.replace('.', "-")}}),
            _ => json!({"workloadId": id}),
        };
        let reply_to = self.reply_to(number);
        let payload = request.to_string().into();
        self.client.publish_with_reply(subject, reply_to.clone(), payload).await.expect("the client is connected");
        let mut replies = self.replies.subscribe();
        let answered = replies.wait_for(|all| all.contains_key(&reply_to));
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        let answered = answered.unwrap_or_else(|_| panic!("no answer to {command} {id}")).expect("the sender is ours");
        let first = answered.get(&reply_to).and_then(|all| all.first()).expect("it was waited for").clone();
        first.map(|payload| serde_json::from_slice(&payload).expect("an answer in JSON"))
    }
}

/// The library ignores user and password of a URL.
async fn connect(url: &str) -> async_nats::Client {
    let login = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':'));
    let options = match login {
        Some((user, password)) => ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned()),
        None => ConnectOptions::new(),
    };
    options.connect(url).await.expect("the test's own client connects")
}

/// When heartbeats came, on any of several servers.
#[derive(Debug)]
pub(crate) struct Heartbeats(Arc<Mutex<Vec<Instant>>>);

impl Heartbeats {
    /// Of one host, which is alone on these servers.
    pub(crate) async fn watch(urls: &[&str]) -> Self {
        let times = Arc::new(Mutex::new(vec![Instant::now()]));
        for url in urls {
            let client = connect(url).await;
            let mut subscription = client.subscribe(HEARTBEATS).await.expect("the client is connected");
            client.flush().await.expect("the client is connected");
            let times = Arc::clone(&times);
            drop(tokio::spawn(async move {
                while subscription.next().await.is_some() {
                    times.lock().expect("no holder panics").push(Instant::now());
                }
                drop(client);
            }));
        }
        Self(times)
    }

    /// The longest time without one, from the beginning of the watch to now.
    pub(crate) fn longest_gap(&self) -> Duration {
        let times = self.0.lock().expect("no holder panics");
        let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        gaps.chain([times[times.len() - 1].elapsed()]).max().unwrap_or_default()
    }
}
