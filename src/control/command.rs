//! What becomes of each request: every one is answered, and those of one workload take effect in the order they came.
//!
//! ```text
//! start --- readable? --- draining? --- room to wait? --- waiting --- slot free --- in flight --- answered
//!              |              |              |               |                          |
//!              +--- error     +--- error     +--- error      +--- stop, drain:          +--- after start_reply_wait:
//!                                                            |    answered, gone             STARTING, and it goes on
//!                                                            +--- after start_reply_wait:
//!                                                                 STARTING, and it waits on
//! stop, status, heartbeat --- host asked at once --- answered
//! ```
//!
//! The host takes an id at the very call of `start`, and begins a stop at the very call of `stop`, so calling it in the
//! order of arrival is all that order needs. Only a start that still waits has not called: a stop takes it out.

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{error, info, warn};

use crate::config::Scheduler;
use crate::control::answer;
use crate::control::port::ControlledHost;
use crate::control::read::{read_id, read_start};
use crate::control::wire::{Reply, encode_heartbeat};
use crate::error::Chain;
use crate::task::{self, Shutdown, panic_text};
use crate::types::{WorkloadId, WorkloadSpec, WorkloadState};

/// The operator places one workload at a time: a thousand waiting starts are many lost replies, or not the operator.
const WAITING_STARTS_MAX: usize = 1024;
/// Of waiting requests; each may be as large as the server's `max_payload`, 1 MiB.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Short answers on their way to the connection. They wait only while it is down or stuck.
const ANSWERS_MAX: u32 = 256;
/// After it a reply is worth nothing: the operator asks with 5 s of patience.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Stops that wait for their record on the disk: an operator may empty a large host at once.
const STOPS_MAX: u32 = 4096;
const DRAINING: &str = "host is draining";

/// The way back: a connection, or a fake in tests.
pub(super) trait Outbox: Send + Sync + 'static {
    /// Hands `payload` to the connection.
    fn send(&self, to: String, payload: Bytes) -> BoxFuture<'static, Result<(), SendError>>;

    /// Bytes that the server takes in one message.
    fn max_payload(&self) -> usize;
}

/// Why a message did not go out.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The connection refused it.
    #[error("cannot publish")]
    Publish(#[source] async_nats::PublishError),
    /// The connection did not take it in time.
    #[error("the connection takes nothing")]
    Timeout,
}

/// The way back to whoever asked: a reply leaves on the connection that its request came from.
#[derive(Clone)]
pub(super) struct Way {
    /// The connection.
    pub(super) outbox: Arc<dyn Outbox>,
    /// Triggered when the connection is about to be given up: whatever is not done is answered as it stands.
    pub(super) hurry: Shutdown,
}

/// One message of a subscription.
pub(super) struct Request {
    /// The way back.
    pub(super) way: Way,
    /// Where the reply goes; without it the request is carried out all the same.
    pub(super) reply_to: Option<String>,
    /// The JSON text.
    pub(super) payload: Bytes,
}

/// All requests that are not answered yet. Owned by the task that reads the subscriptions.
pub(super) struct Commands {
    host: Arc<dyn ControlledHost>,
    in_flight_max: usize,
    start_reply_wait: Duration,
    waiting: VecDeque<WaitingStart>,
    in_flight: FuturesUnordered<JoinHandle<Option<()>>>,
    answers: Arc<Semaphore>,
    stops: Arc<Semaphore>,
    is_draining: bool,
    /// Triggered when no start may be waited for any longer.
    closing: Shutdown,
}

/// To whom an answer goes.
struct Back {
    way: Way,
    reply_to: Option<String>,
}

/// A start that the host has not heard of.
struct WaitingStart {
    id: WorkloadId,
    spec: Arc<WorkloadSpec>,
    /// `None` once it was answered with STARTING, because it waited too long.
    back: Option<Back>,
    answer_by: Instant,
    /// What it was read from.
    request: Bytes,
}

impl Commands {
    pub(super) fn new(host: Arc<dyn ControlledHost>, settings: &Scheduler) -> Self {
        let mut commands = Self {
            host,
            in_flight_max: 1,
            start_reply_wait: Duration::ZERO,
            waiting: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
            answers: Arc::new(Semaphore::new(ANSWERS_MAX as usize)),
            stops: Arc::new(Semaphore::new(STOPS_MAX as usize)),
            is_draining: false,
            closing: Shutdown::default(),
        };
        commands.apply(settings);
        commands
    }

    /// From now on; what is in flight keeps its time.
    pub(super) fn apply(&mut self, settings: &Scheduler) {
        self.in_flight_max = settings.commands_in_flight_max.get();
        self.start_reply_wait = settings.start_reply_wait;
        self.begin_waiting();
    }

    /// `workload.start`
    pub(super) fn start(&mut self, request: Request) {
        let (back, payload) = request.split();
        let (id, spec) = match read_start(&payload) {
            Ok(start) => start,
            Err(reply) => return self.answer(back, &reply),
        };
        if self.is_draining {
            return self.answer(back, &answer::refused(&id, DRAINING));
        }
        let waiting_bytes: usize = self.waiting.iter().map(|start| start.request.len()).sum();
        if self.waiting.len() >= WAITING_STARTS_MAX || waiting_bytes.saturating_add(payload.len()) > WAITING_BYTES_MAX {
            warn!(workload.id = %id, waiting = self.waiting.len(), "refused a start: too many are waiting");
            return self.answer(back, &answer::refused(&id, "host is busy: too many starts are waiting"));
        }
        let answer_by = Instant::now() + self.start_reply_wait;
        self.waiting.push_back(WaitingStart { id, spec, back: Some(back), answer_by, request: payload });
        self.begin_waiting();
    }

    /// `workload.stop`
    pub(super) fn stop(&mut self, request: Request) {
        let (back, payload) = request.split();
        let id = match read_id(&payload) {
            Ok(id) => id,
            Err(reply) => return self.answer(back, &reply),
        };
        let (overtaken, rest): (VecDeque<_>, _) = mem::take(&mut self.waiting).into_iter().partition(|s| s.id == id);
        self.waiting = rest;
        let is_overtaking = !overtaken.is_empty();
        let stopped = guarded(|| self.host.stop(&id));
        for back in overtaken.into_iter().filter_map(|start| start.back) {
            self.answer(back, &answer::stopped_while_starting(&id));
        }
        let Some(stopped) = stopped else { return self.answer(back, &answer::host_failed(&id)) };
        self.answer_once(back, async move {
            match AssertUnwindSafe(stopped).catch_unwind().await {
                // Without a trace at the host, and yet there was something to stop.
                Ok(status) if status.workload_state == WorkloadState::NotFound && is_overtaking => answer::stopped(&id),
                Ok(status) => answer::stop(&id, status),
                Err(panic) => {
                    error!(workload.id = %id, panic = panic_text(&*panic), "a stop panicked");
                    answer::host_failed(&id)
                }
            }
        });
    }

    /// `workload.status`
    pub(super) fn status(&mut self, request: Request) {
        let (back, payload) = request.split();
        let id = match read_id(&payload) {
            Ok(id) => id,
            Err(reply) => return self.answer(back, &reply),
        };
        let reply = match guarded(|| self.host.status(&id)) {
            Some(status)
                if status.workload_state == WorkloadState::NotFound && self.waiting.iter().any(|s| s.id == id) =>
            {
                answer::still_starting(&id)
            }
            Some(status) => answer::status(&id, status),
            None => answer::host_failed(&id),
        };
        self.answer(back, &reply);
    }

    /// `heartbeat`, whatever the payload.
    pub(super) fn heartbeat(&mut self, request: Request) {
        let Request { way, reply_to: Some(reply_to), payload: _ } = request else { return };
        let payload = match guarded(|| self.host.heartbeat()) {
            Some(heartbeat) => encode_heartbeat(&heartbeat, way.outbox.max_payload()),
            // The operator cannot read it, which is what a failed request looks like; silence would hold it for 5 s.
            None => Bytes::from_static(b"the host failed"),
        };
        self.send(way, reply_to, payload);
    }

    /// The connection of `way` takes no more requests: what has not begun is answered, and waits on.
    pub(super) fn leave(&mut self, way: &Way) {
        let is_left = |back: &Back| Arc::ptr_eq(&back.way.outbox, &way.outbox);
        self.answer_waiting(|start| start.back.as_ref().is_some_and(is_left));
    }

    /// Answers what waited long enough, or begins what waited for a slot. Safe to drop and call again.
    pub(super) async fn step(&mut self) {
        let answer_by = self.waiting.iter().filter(|start| start.back.is_some()).map(|start| start.answer_by).min();
        tokio::select! {
            // A panic in it was logged, and its caller will ask again.
            Some(_ended) = self.in_flight.next(), if !self.in_flight.is_empty() => self.begin_waiting(),
            () = sleep_until(answer_by.unwrap_or_else(Instant::now)), if answer_by.is_some() => self.answer_late(),
            else => std::future::pending().await,
        }
    }

    /// From now on starts are refused, those that wait as well.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        for start in mem::take(&mut self.waiting) {
            match start.back {
                Some(back) => self.answer(back, &answer::refused(&start.id, DRAINING)),
                None => info!(workload.id = %start.id, "dropped a waiting start: the host is draining"),
            }
        }
    }

    /// Answers what is still unanswered, and waits until the answers are on their way.
    pub(super) async fn finish(&mut self) {
        self.drain();
        self.closing.trigger();
        while self.in_flight.next().await.is_some() {}
        // All permits: none is in an answer's hands. The semaphore is never closed.
        let _all = self.answers.acquire_many(ANSWERS_MAX).await;
        let _all_stops = self.stops.acquire_many(STOPS_MAX).await;
    }

    fn begin_waiting(&mut self) {
        while self.in_flight.len() < self.in_flight_max
            && let Some(start) = self.waiting.pop_front()
        {
            self.begin(start);
        }
    }

    fn begin(&mut self, start: WaitingStart) {
        let WaitingStart { id, spec, back, answer_by, request } = start;
        let ended = guarded(|| self.host.start(id.clone(), spec, request));
        // Without it the start goes on without a listener.
        let Some(back) = back else { return };
        let Some(ended) = ended else { return self.answer(back, &answer::host_failed(&id)) };
        let closing = self.closing.clone();
        let Back { way: Way { outbox, hurry }, reply_to } = back;
        let answering = async move {
            let ended = AssertUnwindSafe(ended).catch_unwind();
            let reply = tokio::select! {
                ended = timeout_at(answer_by, ended) => match ended {
                    Ok(Ok(status)) => answer::start(&id, status),
                    Ok(Err(panic)) => {
                        error!(workload.id = %id, panic = panic_text(&*panic), "a start panicked");
                        answer::host_failed(&id)
                    }
                    Err(_too_late) => answer::still_starting(&id),
                },
                () = closing.wait() => answer::refused(&id, DRAINING),
                () = hurry.wait() => answer::still_starting(&id),
            };
            if let Some(reply_to) = reply_to {
                let payload = reply.encode(outbox.max_payload());
                deliver(&*outbox, reply_to, payload).await;
            }
        };
        self.in_flight.push(task::spawn("start command", answering));
    }

    fn answer_late(&mut self) {
        let now = Instant::now();
        self.answer_waiting(|start| start.answer_by <= now);
    }

    /// Tells those who asked for `chosen` starts that they wait; they wait on without a listener.
    fn answer_waiting(&mut self, chosen: impl Fn(&WaitingStart) -> bool) {
        let mut late = Vec::new();
        for start in self.waiting.iter_mut().filter(|start| chosen(start)) {
            late.extend(start.back.take().map(|back| (back, answer::still_starting(&start.id))));
        }
        for (back, reply) in late {
            self.answer(back, &reply);
        }
    }

    fn answer(&self, back: Back, reply: &Reply) {
        let Back { way, reply_to } = back;
        if let Some(reply_to) = reply_to {
            let payload = reply.encode(way.outbox.max_payload());
            self.send(way, reply_to, payload);
        }
    }

    /// Answers with what `reply` yields; nothing behind it waits.
    fn answer_once(&self, back: Back, reply: impl Future<Output = Reply> + Send + 'static) {
        let Back { way, reply_to } = back;
        let Ok(place) = Arc::clone(&self.stops).try_acquire_owned() else {
            return warn!("dropped the reply to a stop: {STOPS_MAX} others wait for the disk");
        };
        // It ends by itself: the disk and the connection have their time; `finish` waits for its place.
        drop(task::spawn("stop reply", async move {
            let reply = reply.await;
            if let Some(reply_to) = reply_to {
                let payload = reply.encode(way.outbox.max_payload());
                deliver(&*way.outbox, reply_to, payload).await;
            }
            drop::<OwnedSemaphorePermit>(place);
        }));
    }

    /// Never waits: a connection that takes nothing must not hold up the next request.
    fn send(&self, way: Way, reply_to: String, payload: Bytes) {
        self.in_background(async move {
            deliver(&*way.outbox, reply_to, payload).await;
        });
    }

    fn in_background(&self, answering: impl Future<Output = ()> + Send + 'static) {
        match Arc::clone(&self.answers).try_acquire_owned() {
            Ok(permit) => {
                let sending = async move {
                    answering.await;
                    drop::<OwnedSemaphorePermit>(permit);
                };
                // It ends by itself, after SEND_TIMEOUT at the latest; `finish` waits for its permit.
                drop(task::spawn("reply", sending));
            }
            Err(_full) => warn!("dropped a reply: the connection has not taken {ANSWERS_MAX} others"),
        }
    }
}

impl Request {
    fn split(self) -> (Back, Bytes) {
        let Self { way, reply_to, payload } = self;
        (Back { way, reply_to }, payload)
    }
}

/// What the host says; `None` if it panicked, which is logged: one bad answer must not cost all the others.
pub(super) fn guarded<T>(ask: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(ask))
        .inspect_err(|panic| error!(panic = panic_text(&**panic), "the host panicked on a request"))
        .ok()
}

/// Sends, or logs why not.
pub(super) async fn deliver(outbox: &dyn Outbox, to: String, payload: Bytes) -> bool {
    let bytes = payload.len();
    let sent = timeout(SEND_TIMEOUT, outbox.send(to, payload)).await.unwrap_or(Err(SendError::Timeout));
    if let Err(failure) = &sent {
        warn!(bytes, error = %Chain(failure), "a message to the operator was lost");
    }
    sent.is_ok()
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
