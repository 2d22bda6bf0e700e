//! Questions of people and tools about the configuration: answered beside the commands, a bounded number at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{error, warn};

use crate::config::port::ConfigPort;
use crate::control::answer;
use crate::control::command::{Request, Way, deliver, guarded};
use crate::task::{self, Shutdown, panic_text};

/// They come from people: one that waits for an attempt is one of them.
const QUESTIONS_MAX: u32 = 64;
/// An attempt answers after 10 s at the latest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Which question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Status,
    Reload,
    Check,
}

/// All questions that are not answered yet.
pub(super) struct Questions {
    port: Arc<dyn ConfigPort>,
    open: Arc<Semaphore>,
    closing: Shutdown,
}

impl Questions {
    pub(super) fn new(port: Arc<dyn ConfigPort>) -> Self {
        Self { port, open: Arc::new(Semaphore::new(QUESTIONS_MAX as usize)), closing: Shutdown::default() }
    }

    /// Answers in the background. Without a reply subject nothing is asked but a reload.
    pub(super) fn ask(&self, question: Question, request: Request) {
        let Request { way, reply_to, payload: _ } = request;
        if reply_to.is_none() && question != Question::Reload {
            return;
        }
        let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() else {
            warn!("dropped a question about the configuration: {QUESTIONS_MAX} others are not answered");
            return;
        };
        let answer = guarded(|| self.put(question)).unwrap_or_else(|| ready(failed()).boxed());
        let closing = self.closing.clone();
        // It ends by itself, after its time-out at the latest; `finish` waits for its permit.
        drop(task::spawn("question", async move {
            let answer = until(answer, &way, &closing).await;
            if let Some(reply_to) = reply_to {
                let payload = answer::configuration(&answer, way.outbox.max_payload());
                deliver(&*way.outbox, reply_to, payload).await;
            }
            drop(permit);
        }));
    }

    fn put(&self, question: Question) -> BoxFuture<'static, Value> {
        match question {
            Question::Status => ready(self.port.status()).boxed(),
            Question::Reload => self.port.reload(),
            Question::Check => self.port.check(),
        }
    }

    /// Answers what is still unanswered, and waits until the answers are on their way.
    pub(super) async fn finish(&self) {
        self.closing.trigger();
        // All permits: no question is open. The semaphore is never closed.
        let _all = self.open.acquire_many(QUESTIONS_MAX).await;
    }
}

async fn until(answer: BoxFuture<'static, Value>, way: &Way, closing: &Shutdown) -> Value {
    tokio::select! {
        // What is known goes out, even now.
        biased;
        answered = timeout(ANSWER_TIMEOUT, AssertUnwindSafe(answer).catch_unwind()) => match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => {
                error!(panic = panic_text(&*panic), "a question about the configuration panicked");
                failed()
            }
            Err(_elapsed) => json!({"error": "there is no answer yet: ask for the status"}),
        },
        () = way.hurry.wait() => json!({"error": "this connection is being replaced: ask again"}),
        () = closing.wait() => json!({"error": "host is draining"}),
    }
}

fn failed() -> Value {
    json!({"error": "the host failed to answer, its log says why"})
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::*;
    use crate::control::command::{Outbox, SendError};

    struct FakePort;

    impl ConfigPort for FakePort {
        fn status(&self) -> Value {
            json!({"generation": 3})
        }

        fn reload(&self) -> BoxFuture<'static, Value> {
            futures::future::pending().boxed()
        }

        fn check(&self) -> BoxFuture<'static, Value> {
            panic!("this port cannot check")
        }
    }

    struct FakeOutbox(mpsc::Sender<(String, Bytes)>);

    impl Outbox for FakeOutbox {
        fn send(&self, to: String, payload: Bytes) -> BoxFuture<'static, Result<(), SendError>> {
            let sender = self.0.clone();
            async move { sender.send((to, payload)).await.map_err(|_closed| SendError::Timeout) }.boxed()
        }

        fn max_payload(&self) -> usize {
            1 << 20
        }
    }

    struct Bench {
        questions: Questions,
        way: Way,
        replies: mpsc::Receiver<(String, Bytes)>,
    }

    impl Bench {
        fn new() -> Self {
            let (sender, replies) = mpsc::channel(1024);
            let way = Way { outbox: Arc::new(FakeOutbox(sender)), hurry: Shutdown::default() };
            Self { questions: Questions::new(Arc::new(FakePort)), way, replies }
        }

        fn ask(&self, question: Question) {
            let request =
                Request { way: self.way.clone(), reply_to: Some(format!("{question:?}")), payload: Bytes::new() };
            self.questions.ask(question, request);
        }

        async fn expect(&mut self, to: &str, answer: &Value) {
            let (told, payload) = timeout(Duration::from_secs(10), self.replies.recv()).await.unwrap().unwrap();
            assert_eq!((told.as_str(), serde_json::from_slice::<Value>(&payload).unwrap()), (to, answer.clone()));
        }
    }

    #[tokio::test]
    async fn each_question_is_answered_and_a_panic_costs_one_answer_only() {
        let mut bench = Bench::new();
        bench.ask(Question::Status);
        bench.expect("Status", &json!({"generation": 3})).await;
        bench.ask(Question::Check);
        bench.expect("Check", &failed()).await;
        bench.ask(Question::Status);
        bench.expect("Status", &json!({"generation": 3})).await;
    }

    #[tokio::test]
    async fn what_waits_is_answered_when_its_connection_or_the_host_goes() {
        let mut bench = Bench::new();
        bench.ask(Question::Reload);
        bench.way.hurry.trigger();
        bench.expect("Reload", &json!({"error": "this connection is being replaced: ask again"})).await;
        bench.way.hurry = Shutdown::default();
        bench.ask(Question::Reload);
        bench.questions.finish().await;
        bench.expect("Reload", &json!({"error": "host is draining"})).await;
    }

    #[tokio::test]
    async fn only_so_many_questions_wait() {
        let mut bench = Bench::new();
        for _ in 0..QUESTIONS_MAX + 10 {
            bench.ask(Question::Reload);
        }
        bench.questions.finish().await;
        let mut answers = 0;
        while bench.replies.try_recv().is_ok() {
            answers += 1;
        }
        assert_eq!(answers, QUESTIONS_MAX);
    }
}
