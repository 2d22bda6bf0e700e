//! The way of a message from a subscription to a guest.
//!
//! ```text
//!  subscriptions --> tap (one per broker) --> overlap: copies --> side: queue --> place? --> guest
//!                    tap (the next broker)                        side of the next version
//! ```
//!
//! An [`Inbox`] is for one component, whatever version of it runs; a [`Side`] is one version with its subscriptions; a
//! [`Tap`] is these subscriptions at one broker. While one broker replaces another, or one version another, both are
//! subscribed. In a queue group the server gives each message to one of them; otherwise the inbox tells copies apart.
//! A message goes to the version that is live if that one subscribes to the same, wherever it came from.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::admission::{Gate, Place};
use super::broker::{Message, Wiring};
use super::outcome::{Outcome, Outcomes, Seldom};
use super::tenant::Tenant;
use crate::nats::handover::{Fingerprint, Handover};
use crate::plugin::guest::{GuestJob, GuestTarget};
use crate::task::{self, Shutdown};
use crate::types::{ComponentName, WorkloadId};

/// Messages that a side has taken from its subscriptions and not begun; behind them the subscriptions' own queues fill.
const QUEUE_MAX: usize = 1024;

/// Makes the call of one message.
pub(super) trait Handler: fmt::Debug + Send + Sync + 'static {
    fn job(&self, message: Message) -> Box<dyn GuestJob>;
}

/// The component that messages are for.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) workload: WorkloadId,
    pub(super) component: ComponentName,
    pub(super) tenant: Arc<Tenant>,
    /// Of the component, and of the host.
    pub(super) gate: Arc<Gate>,
    pub(super) host_gate: Arc<Gate>,
    pub(super) outcomes: Arc<Outcomes>,
    live: watch::Sender<Option<Live>>,
    overlap: Mutex<Overlap>,
    last_tap: AtomicU64,
    shed_warning: Seldom,
    failure_warning: Seldom,
}

/// The version that is live.
#[derive(Debug, Clone)]
struct Live {
    wiring: Arc<Mutex<Wiring>>,
    receiver: Receiver,
}

/// What a message is delivered to, and how.
#[derive(Debug, Clone)]
struct Receiver {
    target: Arc<dyn GuestTarget>,
    handler: Arc<dyn Handler>,
}

/// Subscriptions that are open, and what came through several of them.
#[derive(Debug, Default)]
struct Overlap {
    taps: Vec<(u64, Option<String>)>,
    handover: Handover<u64>,
}

/// One version of the component.
#[derive(Debug)]
pub(super) struct Side {
    inbox: Arc<Inbox>,
    /// Of the tap that is current; its group changes with the host's settings.
    wiring: Arc<Mutex<Wiring>>,
    handler: Arc<dyn Handler>,
    admission_wait: Duration,
    own: watch::Sender<Option<Receiver>>,
    /// It will not be live: what it took is for whoever is.
    is_abandoned: AtomicBool,
    queue: mpsc::Sender<Taken>,
    taken: AtomicUsize,
    /// Open taps: more may come through each, also through one that a reload has replaced and that is leaving.
    taps: AtomicUsize,
    idle: Notify,
    /// Where guests run: a reload subscribes from elsewhere.
    workers: Handle,
    /// Ends the wait for a place or a target.
    cut: Shutdown,
}

/// A message that a side has taken on. Counts itself out.
#[derive(Debug)]
struct Taken {
    message: Option<Message>,
    at: Instant,
    side: Arc<Side>,
}

impl Inbox {
    pub(super) fn new(
        (workload, component): (WorkloadId, ComponentName),
        tenant: Arc<Tenant>,
        (gate, host_gate): (Arc<Gate>, Arc<Gate>),
        outcomes: Arc<Outcomes>,
    ) -> Self {
        Self {
            workload,
            component,
            tenant,
            gate,
            host_gate,
            outcomes,
            live: watch::Sender::default(),
            overlap: Mutex::default(),
            last_tap: AtomicU64::new(0),
            shed_warning: Seldom::default(),
            failure_warning: Seldom::default(),
        }
    }

    /// A subscription that is about to be made, known before anything can come through it.
    pub(super) fn add_tap(&self, group: Option<String>) -> u64 {
        let number = self.last_tap.fetch_add(1, Ordering::Relaxed);
        self.overlap().taps.push((number, group));
        number
    }

    pub(super) fn remove_tap(&self, tap: u64) {
        self.overlap().taps.retain(|(number, _group)| *number != tap);
    }

    /// Whether a version of the component is live, or was.
    pub(super) fn has_live(&self) -> bool {
        self.live.borrow().is_some()
    }

    fn overlap(&self) -> MutexGuard<'_, Overlap> {
        self.overlap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what came through the tap is not the copy of what came through another one.
    pub(super) fn is_first(&self, tap: u64, message: &Message) -> bool {
        let mut overlap = self.overlap();
        let Overlap { taps, handover } = &mut *overlap;
        let group = taps.iter().find(|(number, _group)| *number == tap).and_then(|(_number, group)| group.as_ref());
        let is_copied =
            taps.iter().any(|(number, other)| *number != tap && (group.is_none() || other.as_ref() != group));
        let now = std::time::Instant::now();
        if !is_copied && handover.is_over(now) {
            return true;
        }
        let reply = message.reply_to.as_deref().unwrap_or_default();
        let print = Fingerprint::of(&message.subject, reply, &message.body);
        if is_copied { handover.during(tap, print, now) } else { handover.after(tap, print, now) }
    }
}

impl Side {
    /// A version that is not live yet: what it takes waits, unless the live one subscribes to the same.
    pub(super) fn new(
        inbox: Arc<Inbox>,
        wiring: Wiring,
        handler: Arc<dyn Handler>,
        admission_wait: Duration,
    ) -> Arc<Self> {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let side = Arc::new(Self {
            inbox,
            wiring: Arc::new(Mutex::new(wiring)),
            handler,
            admission_wait,
            own: watch::Sender::default(),
            is_abandoned: AtomicBool::new(false),
            queue,
            taken: AtomicUsize::new(0),
            taps: AtomicUsize::new(0),
            idle: Notify::new(),
            workers: Handle::current(),
            cut: Shutdown::default(),
        });
        let cut = side.cut.clone();
        drop(task::spawn("messages", async move {
            tokio::select! {
                () = dispatch(queued) => {}
                () = cut.wait() => {}
            }
        }));
        side
    }

    pub(super) fn workers(&self) -> &Handle {
        &self.workers
    }

    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// From now on this version is live.
    pub(super) fn open(&self, target: Arc<dyn GuestTarget>) {
        let receiver = Receiver { target, handler: Arc::clone(&self.handler) };
        self.own.send_replace(Some(receiver.clone()));
        self.inbox.live.send_replace(Some(Live { wiring: Arc::clone(&self.wiring), receiver }));
    }

    /// This version will not be live: what it took goes to the live one, if that shares it; the rest is given up.
    pub(super) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::SeqCst);
        // Whoever waits looks again.
        self.own.send_modify(|_own| {});
    }

    /// Whether this version is the live one.
    pub(super) fn is_live(&self) -> bool {
        self.inbox.live.borrow().as_ref().is_some_and(|live| Arc::ptr_eq(&live.wiring, &self.wiring))
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    pub(super) fn rewire(&self, wiring: Wiring) {
        *self.wiring.lock().unwrap_or_else(PoisonError::into_inner) = wiring;
    }

    fn wiring(&self) -> Wiring {
        copy(&self.wiring)
    }

    pub(super) fn tap_opened(&self) {
        self.taps.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn tap_closed(&self) {
        self.taps.fetch_sub(1, Ordering::SeqCst);
        self.idle.notify_waiters();
    }

    /// Waits until nothing more can come and everything taken on is handled, at the longest to `deadline`, and gives up
    /// the rest: how much.
    pub(super) async fn drain(&self, deadline: Instant) -> usize {
        let idle = async {
            loop {
                let mut notified = std::pin::pin!(self.idle.notified());
                notified.as_mut().enable();
                if self.taps.load(Ordering::SeqCst) == 0 && self.taken() == 0 {
                    return;
                }
                notified.await;
            }
        };
        let left = timeout_at(deadline, idle).await.map_or_else(|_elapsed| self.taken(), |()| 0);
        self.cut();
        left
    }

    /// Gives up what was taken on and has not reached a guest.
    pub(super) fn cut(&self) {
        self.cut.trigger();
    }

    pub(super) async fn take(self: &Arc<Self>, message: Message) {
        if let Some(reply_to) = &message.reply_to {
            self.inbox.tenant.expect_reply(reply_to, std::time::Instant::now());
        }
        self.taken.fetch_add(1, Ordering::SeqCst);
        let taken = Taken { message: Some(message), at: Instant::now(), side: Arc::clone(self) };
        // The queue ends with the side, and what comes then is given up with the rest.
        let _ended = self.queue.send(taken).await;
    }

    /// What a message of this subject goes to; waits while there may be something. `None`: there is nothing.
    async fn receiver(&self, subject: &str) -> Option<Receiver> {
        let mut live = self.inbox.live.subscribe();
        let mut own = self.own.subscribe();
        loop {
            let own_receiver = own.borrow_and_update().clone();
            let is_abandoned = self.is_abandoned.load(Ordering::SeqCst);
            let shared = {
                let live = live.borrow_and_update();
                // One lock after the other: two sides may ask at once, each about the other's.
                let same = |live: &&Live| {
                    Arc::ptr_eq(&live.wiring, &self.wiring) || {
                        let wiring = copy(&live.wiring);
                        // In a queue group it was the live one's share; otherwise the live one's copy was dropped.
                        wiring == self.wiring() || (is_abandoned && wiring.covers(subject))
                    }
                };
                live.as_ref().filter(same).map(|live| live.receiver.clone())
            };
            if let Some(receiver) = shared.or(own_receiver) {
                return Some(receiver);
            }
            if is_abandoned {
                return None;
            }
            tokio::select! {
                changed = live.changed() => changed.ok()?,
                changed = own.changed() => changed.ok()?,
            }
        }
    }

    async fn places(&self, until: Instant) -> Option<(Place, Place)> {
        let Inbox { gate, host_gate, .. } = &*self.inbox;
        if let Some(place) = gate.try_enter()
            && let Some(host_place) = host_gate.try_enter()
        {
            return Some((place, host_place));
        }
        let both = async { (gate.enter().await, host_gate.enter().await) };
        timeout_at(until, both).await.ok()
    }

    fn shed(&self, subject: &str) {
        let Inbox { workload, component, outcomes, shed_warning, .. } = &*self.inbox;
        outcomes.count(Outcome::Shed);
        if let Some(kept_quiet) = shed_warning.may_speak() {
            warn!(workload.id = %workload, component = %component, subject, kept_quiet, "message shed: no place for it in time");
        }
    }

    fn report(&self, subject: &str, outcome: Outcome, error: &dyn fmt::Display) {
        let Inbox { workload, component, outcomes, failure_warning, .. } = &*self.inbox;
        outcomes.count(outcome);
        match outcome {
            Outcome::Handled => {}
            Outcome::Refused | Outcome::Cut | Outcome::Shed => {
                debug!(workload.id = %workload, component = %component, subject, error = %error, "message not handled");
            }
            Outcome::Failed | Outcome::Late => {
                if let Some(kept_quiet) = failure_warning.may_speak() {
                    warn!(
                        workload.id = %workload, component = %component, subject, error = %error, kept_quiet,
                        "guest failed to handle a message"
                    );
                }
            }
        }
    }
}

fn copy(wiring: &Mutex<Wiring>) -> Wiring {
    wiring.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.side.taken.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.side.idle.notify_waiters();
        }
    }
}

/// One message after the other is given a place; what is done with it there, nobody waits for.
async fn dispatch(mut queued: mpsc::Receiver<Taken>) {
    while let Some(mut taken) = queued.recv().await {
        let Some(message) = taken.message.take() else { continue };
        let side = Arc::clone(&taken.side);
        let came_in_vain = side.own.borrow().is_none();
        let Some(receiver) = side.receiver(&message.subject).await else { continue };
        // What waited for the workload to run has not waited for a place.
        let since = if came_in_vain { Instant::now() } else { taken.at };
        let Some(places) = side.places(since + side.admission_wait).await else {
            side.shed(&message.subject);
            continue;
        };
        drop(task::spawn("message", async move {
            let subject = message.subject.clone();
            let answer = receiver.target.call(receiver.handler.job(message)).await;
            drop(places);
            match Outcome::of(&answer) {
                Ok(outcome) => side.report(&subject, outcome, &""),
                Err((outcome, error)) => side.report(&subject, outcome, &error),
            }
            drop(taken);
        }));
    }
}
