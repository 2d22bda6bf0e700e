//! Commands against a host and a connection that do as the test says.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::types::{HostHeartbeat, WorkloadStatus};

const LONG: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_millis(30);

/// Starts end when the test says how.
#[derive(Default)]
struct FakeHost {
    calls: Mutex<Vec<String>>,
    known: Mutex<HashMap<String, WorkloadStatus>>,
    ends: Mutex<HashMap<String, watch::Sender<Option<WorkloadState>>>>,
}

impl FakeHost {
    fn knows(&self, id: &str, state: WorkloadState, message: &str) {
        let status = WorkloadStatus { workload_id: id.into(), workload_state: state, message: message.to_owned() };
        self.known.lock().unwrap().insert(id.to_owned(), status);
    }

    fn end(&self, id: &str, state: WorkloadState) {
        self.ends.lock().unwrap().entry(id.to_owned()).or_default().send_replace(Some(state));
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn called(&self, what: &str, id: &WorkloadId) {
        self.calls.lock().unwrap().push(format!("{what} {id}"));
    }

    fn look_up(&self, id: &WorkloadId) -> WorkloadStatus {
        let unknown =
            WorkloadStatus { workload_id: id.clone(), workload_state: WorkloadState::NotFound, message: String::new() };
        self.known.lock().unwrap().get(id.as_str()).cloned().unwrap_or(unknown)
    }
}

impl ControlledHost for FakeHost {
    fn heartbeat(&self) -> HostHeartbeat {
        panic!("this host has no heartbeat")
    }

    fn start(&self, id: WorkloadId, _spec: Arc<WorkloadSpec>, request: Bytes) -> BoxFuture<'static, WorkloadStatus> {
        assert!(request.starts_with(b"{"), "the request comes along");
        self.called("start", &id);
        assert_ne!(id.as_str(), "panics at once");
        let mut end = self.ends.lock().unwrap().entry(id.as_str().to_owned()).or_default().subscribe();
        async move {
            let workload_state = end.wait_for(Option::is_some).await.unwrap().unwrap();
            assert_ne!(id.as_str(), "panics later");
            WorkloadStatus { workload_id: id, workload_state, message: "phase: cause".to_owned() }
        }
        .boxed()
    }

    fn status(&self, id: &WorkloadId) -> WorkloadStatus {
        assert_ne!(id.as_str(), "panics at once");
        self.look_up(id)
    }

    fn stop(&self, id: &WorkloadId) -> BoxFuture<'static, WorkloadStatus> {
        self.called("stop", id);
        let status = self.look_up(id);
        let stopped = match status.workload_state {
            WorkloadState::NotFound => status,
            _ => WorkloadStatus { workload_state: WorkloadState::Stopping, ..status },
        };
        futures::future::ready(stopped).boxed()
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
    host: Arc<FakeHost>,
    commands: Commands,
    way: Way,
    replies: mpsc::Receiver<(String, Bytes)>,
}

impl Bench {
    fn new(in_flight_max: usize, start_reply_wait: Duration) -> Self {
        let host = Arc::new(FakeHost::default());
        let (sender, replies) = mpsc::channel(4096);
        let settings = Scheduler {
            commands_in_flight_max: NonZeroUsize::new(in_flight_max).unwrap(),
            start_reply_wait,
            ..Scheduler::default()
        };
        let controlled = Arc::clone(&host) as Arc<dyn ControlledHost>;
        let commands = Commands::new(controlled, &settings);
        let way = Way { outbox: Arc::new(FakeOutbox(sender)), hurry: Shutdown::default() };
        Self { host, commands, way, replies }
    }

    fn start(&mut self, id: &str) {
        self.commands.start(request(&self.way, id, &json!({"workloadId": id, "workload": {}})));
    }

    fn stop(&mut self, id: &str) {
        self.commands.stop(request(&self.way, &format!("stop {id}"), &json!({"workloadId": id})));
    }

    fn status(&mut self, id: &str) {
        self.commands.status(request(&self.way, &format!("status {id}"), &json!({"workloadId": id})));
    }

    /// The next reply: to whom, its state, its message.
    async fn reply(&mut self) -> (String, String, String) {
        let (to, payload) = self.next().await;
        let reply: Value = serde_json::from_slice(&payload).unwrap();
        let text = |name: &str| reply["workloadStatus"][name].as_str().unwrap_or_default().to_owned();
        (to, text("workloadState").replace("WORKLOAD_STATE_", ""), text("message"))
    }

    async fn next(&mut self) -> (String, Bytes) {
        let next = async {
            loop {
                tokio::select! {
                    reply = self.replies.recv() => return reply.unwrap(),
                    () = self.commands.step() => {}
                }
            }
        };
        timeout(Duration::from_secs(10), next).await.expect("an answer")
    }

    fn raw(&mut self, what: fn(&mut Commands, Request), payload: impl Into<Bytes>) {
        let request = Request { way: self.way.clone(), reply_to: Some("r".to_owned()), payload: payload.into() };
        what(&mut self.commands, request);
    }

    async fn until_called(&mut self, call: &str) {
        let called = async {
            while !self.host.calls().iter().any(|made| made == call) {
                self.commands.step().await;
            }
        };
        timeout(Duration::from_secs(10), called).await.expect("a call");
    }

    async fn expect(&mut self, to: &str, state: &str, message: &str) {
        assert_eq!(self.reply().await, (to.to_owned(), state.to_owned(), message.to_owned()));
    }
}

fn request(way: &Way, reply_to: &str, payload: &Value) -> Request {
    Request { way: way.clone(), reply_to: Some(reply_to.to_owned()), payload: payload.to_string().into() }
}

fn example(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[tokio::test]
async fn a_start_is_answered_when_it_ends() {
    let mut bench = Bench::new(2, LONG);
    bench.start("a");
    bench.start("b");
    bench.host.end("b", WorkloadState::Error);
    bench.expect("b", "ERROR", "phase: cause").await;
    bench.host.end("a", WorkloadState::Running);
    bench.expect("a", "RUNNING", "Workload started successfully").await;
}

#[tokio::test]
async fn a_start_that_takes_long_is_answered_with_starting() {
    let mut bench = Bench::new(2, SOON);
    bench.start("a");
    bench.expect("a", "STARTING", "Workload is Starting").await;
    assert_eq!(bench.host.calls(), ["start a"]);
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_answered_at_once() {
    let mut bench = Bench::new(2, LONG);
    bench.raw(Commands::start, "garbage");
    bench.expect("r", "ERROR", "malformed request: expected value at line 1 column 1").await;
    bench.raw(Commands::start, vec![b'['; 900_000]);
    assert!(bench.reply().await.2.starts_with("malformed request: EOF while parsing a list"));
    bench.raw(Commands::stop, "[]");
    bench.expect("r", "ERROR", "malformed request: expected an object, got a list").await;
    bench.raw(Commands::status, "{\"workloadId\":7}");
    bench.expect("r", "ERROR", "malformed request: workloadId: expected a string, got a number").await;
    bench.raw(Commands::start, "{\"workload\":{}}");
    bench.expect("r", "ERROR", "workload_id is required").await;
    bench.raw(Commands::start, "{\"workloadId\":\"x\"}");
    bench.expect("r", "ERROR", "workload is required").await;
    assert!(bench.host.calls().is_empty());
}

#[tokio::test]
async fn replies_are_those_of_the_examples() {
    let id = "8c2f3a0e-6a1c-4a5b-9a0e-3f6f5d0a7b11";
    let reason = "failed to pull image for component 'c1': timeout pulling component from \
                  registry.example.com/hang:1 after 30s: deadline has elapsed";
    let mut bench = Bench::new(2, LONG);
    for (state, name) in [
        (WorkloadState::Starting, "starting"),
        (WorkloadState::Running, "running"),
        (WorkloadState::Completed, "completed"),
        (WorkloadState::Stopping, "stopping"),
        (WorkloadState::Error, "error"),
    ] {
        bench.host.knows(id, state, reason);
        bench.status(id);
        let answer: Value = serde_json::from_slice(&bench.next().await.1).unwrap();
        assert_eq!(answer, example(&format!("reply_status_{name}.json")));
    }
    bench.stop(id);
    let answer: Value = serde_json::from_slice(&bench.next().await.1).unwrap();
    assert_eq!(answer, example("reply_stop_stopping.json"));
    for (send, id, name) in [
        (Bench::status as fn(&mut Bench, &str), "nope", "reply_status_not_found.json"),
        (Bench::status, "", "reply_status_empty_id.json"),
        (Bench::stop, "nope", "reply_stop_not_found.json"),
    ] {
        send(&mut bench, id);
        let answer: Value = serde_json::from_slice(&bench.next().await.1).unwrap();
        assert_eq!(answer, example(name));
    }
}

#[tokio::test]
async fn starts_wait_for_a_slot_in_order_while_questions_and_stops_do_not() {
    let mut bench = Bench::new(1, LONG);
    for id in ["a", "b", "c"] {
        bench.start(id);
    }
    assert_eq!(bench.host.calls(), ["start a"]);
    bench.status("b");
    bench.expect("status b", "STARTING", "Workload is Starting").await;
    bench.status("d");
    bench.expect("status d", "NOT_FOUND", "Workload not found: d").await;
    bench.host.end("a", WorkloadState::Running);
    bench.host.end("b", WorkloadState::Running);
    bench.expect("a", "RUNNING", "Workload started successfully").await;
    bench.expect("b", "RUNNING", "Workload started successfully").await;
    bench.stop("x");
    bench.expect("stop x", "NOT_FOUND", "Workload not found").await;
    assert_eq!(bench.host.calls()[..2], ["start a", "start b"]);
}

#[tokio::test]
async fn a_stop_takes_out_the_starts_that_wait_before_it() {
    let mut bench = Bench::new(1, LONG);
    for id in ["a", "b", "c", "b"] {
        bench.start(id);
    }
    bench.stop("b");
    for _ in 0..2 {
        bench.expect("b", "STOPPING", "Workload was stopped while starting").await;
    }
    bench.expect("stop b", "STOPPING", "Workload stopped successfully").await;
    bench.start("b");
    for id in ["a", "c", "b"] {
        bench.host.end(id, WorkloadState::Running);
        bench.expect(id, "RUNNING", "Workload started successfully").await;
    }
    assert_eq!(bench.host.calls(), ["start a", "stop b", "start c", "start b"]);
}

#[tokio::test]
async fn commands_of_one_workload_reach_the_host_in_the_order_they_came() {
    let mut bench = Bench::new(8, LONG);
    bench.start("a");
    bench.stop("a");
    bench.start("a");
    bench.stop("b");
    assert_eq!(bench.host.calls(), ["start a", "stop a", "start a", "stop b"]);
}

#[tokio::test]
async fn a_start_that_waits_long_is_answered_and_begins_all_the_same() {
    let mut bench = Bench::new(1, LONG);
    bench.start("a");
    bench.commands.start_reply_wait = SOON;
    bench.start("b");
    bench.expect("b", "STARTING", "Workload is Starting").await;
    assert_eq!(bench.host.calls(), ["start a"]);
    bench.host.end("a", WorkloadState::Running);
    bench.expect("a", "RUNNING", "Workload started successfully").await;
    bench.until_called("start b").await;
}

#[tokio::test]
async fn a_draining_host_refuses_starts_and_still_answers_the_rest() {
    let mut bench = Bench::new(1, LONG);
    bench.start("a");
    bench.start("b");
    bench.commands.drain();
    bench.expect("b", "ERROR", "host is draining").await;
    bench.start("c");
    bench.expect("c", "ERROR", "host is draining").await;
    bench.host.knows("a", WorkloadState::Starting, "");
    bench.stop("a");
    bench.expect("stop a", "STOPPING", "Workload stopped successfully").await;
    bench.host.end("a", WorkloadState::Stopping);
    bench.expect("a", "STOPPING", "Workload was stopped while starting").await;
}

#[tokio::test]
async fn nothing_is_left_unanswered_at_the_end() {
    let mut bench = Bench::new(1, LONG);
    bench.start("a");
    bench.start("b");
    bench.commands.finish().await;
    let mut told = vec![bench.reply().await, bench.reply().await];
    told.sort();
    let draining = |id: &str| (id.to_owned(), "ERROR".to_owned(), "host is draining".to_owned());
    assert_eq!(told, [draining("a"), draining("b")]);
}

#[tokio::test]
async fn a_host_that_panics_costs_one_answer_only() {
    let mut bench = Bench::new(1, LONG);
    let failed = "the host failed to handle the request, its log says why";
    bench.start("panics at once");
    bench.expect("panics at once", "ERROR", failed).await;
    bench.status("panics at once");
    bench.expect("status panics at once", "ERROR", failed).await;
    bench.host.end("panics later", WorkloadState::Running);
    bench.start("panics later");
    bench.expect("panics later", "ERROR", failed).await;
    bench.raw(Commands::heartbeat, "{}");
    assert_eq!(bench.next().await.1, "the host failed");
    bench.host.end("a", WorkloadState::Running);
    bench.start("a");
    bench.expect("a", "RUNNING", "Workload started successfully").await;
}

#[tokio::test]
async fn more_starts_than_can_wait_are_refused() {
    let mut bench = Bench::new(1, LONG);
    for i in 0..=WAITING_STARTS_MAX {
        bench.start(&i.to_string());
    }
    bench.start("one more");
    bench.expect("one more", "ERROR", "host is busy: too many starts are waiting").await;
    assert_eq!(bench.host.calls(), ["start 0"]);
}

#[tokio::test]
async fn a_request_without_a_reply_subject_is_carried_out() {
    let mut bench = Bench::new(1, LONG);
    let payload = json!({"workloadId": "a", "workload": {}}).to_string();
    bench.commands.start(Request { way: bench.way.clone(), reply_to: None, payload: payload.into() });
    bench.host.end("a", WorkloadState::Running);
    bench.status("b");
    assert_eq!(bench.reply().await.0, "status b");
    assert_eq!(bench.host.calls(), ["start a"]);
}

#[tokio::test]
async fn what_is_open_on_a_connection_that_is_left_is_answered_there_and_goes_on() {
    let mut bench = Bench::new(1, LONG);
    let (sender, mut others) = mpsc::channel(16);
    let other = Way { outbox: Arc::new(FakeOutbox(sender)), hurry: Shutdown::default() };
    bench.start("a");
    bench.start("b");
    bench.commands.start(request(&other, "c", &json!({"workloadId": "c", "workload": {}})));
    let way = bench.way.clone();
    bench.commands.leave(&way);
    bench.expect("b", "STARTING", "Workload is Starting").await;
    way.hurry.trigger();
    bench.expect("a", "STARTING", "Workload is Starting").await;
    bench.until_called("start b").await;
    bench.host.end("c", WorkloadState::Running);
    bench.until_called("start c").await;
    assert_eq!(others.recv().await.unwrap().0, "c");
    assert_eq!(Arc::strong_count(&way.outbox), 2, "nothing but the test holds the connection");
}
