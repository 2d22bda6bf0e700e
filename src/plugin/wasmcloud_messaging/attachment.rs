//! What one version of a component subscribes to, at the broker that is live, and at the next one while it is prepared.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::broker::Wiring;
use super::entry::Wishes;
use super::inbox::{Handler, Inbox, Side};
use super::tap::Tap;
use super::{Access, Shared, glue, glue_p3, is_async};
use crate::error::Chain;
use crate::plugin::guest::{Attach, AttachError, Attachment, GuestTarget};
use crate::task::{self, Backoff};

/// For the server to confirm subscriptions.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// For the server to confirm that nothing more comes.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pauses between the tries to subscribe where a reload went.
const FOLLOW_FIRST: Duration = Duration::from_millis(500);
const FOLLOW_MAX: Duration = Duration::from_secs(15);

/// One version of a component, subscribed.
#[derive(Debug)]
pub(super) struct Subscribed {
    attach: Attach,
    wishes: Wishes,
    side: Arc<Side>,
    /// Held while subscriptions are made or ended, so that whoever comes second sees what the first did.
    turn: tokio::sync::Mutex<()>,
    taps: Mutex<Taps>,
    /// Whether it is being subscribed again, behind a reload.
    is_following: AtomicBool,
    /// What the host lets in at once.
    width: AtomicUsize,
}

#[derive(Debug, Default)]
struct Taps {
    live: Option<Tap>,
    /// Beside it, while a reload is prepared.
    next: Option<Tap>,
    is_closed: bool,
}

impl Subscribed {
    /// Yields when the server has confirmed the subscriptions.
    pub(super) async fn attach(shared: Arc<Shared>, attach: Attach) -> Result<Arc<Self>, AttachError> {
        let access = shared.facade.live();
        let wishes = Wishes::of(&attach)?;
        let (id, component) = (&attach.workload_id, &attach.component);
        for (key, text) in &wishes.ignored {
            warn!(workload.id = %id, component = %component, key, value = text, "setting cannot be read and counts as not made");
        }
        check_denied(&wishes, &access)?;
        let handler = handler_of(&attach)?;
        let wiring = wire(&wishes, &attach, &access);
        if wiring.subjects.is_empty() {
            info!(workload.id = %id, component = %component, "no subscriptions: nothing is delivered to its handler");
        }
        let subscribed = {
            let mut registry = shared.registry();
            registry.instances_max = attach.instances_max;
            let (_host, width) = access.in_flight_max(registry.instances_max);
            let key = (attach.workload_id.clone(), attach.component.clone());
            let inbox = registry.inboxes.get_or_make(key.clone(), || {
                let gates = (Arc::new(super::Gate::new(width)), Arc::clone(&shared.host_gate));
                Inbox::new(key, shared.tenant(&attach.workload_id), gates, Arc::clone(&shared.outcomes))
            });
            let side = Side::new(inbox, wiring.clone(), handler, wishes.admission_wait);
            let subscribed = Arc::new(Self {
                attach,
                wishes,
                side,
                turn: tokio::sync::Mutex::default(),
                taps: Mutex::default(),
                is_following: AtomicBool::new(false),
                width: AtomicUsize::new(width),
            });
            registry.attachments.retain(|attachment| attachment.strong_count() > 0);
            registry.attachments.push(Arc::downgrade(&subscribed));
            shared.limit(&registry, &access);
            subscribed
        };
        drop(access);
        timeout(CONFIRM_TIMEOUT, subscribed.follow(&shared)).await.unwrap_or_else(|_elapsed| {
            let message = format!("the subscriptions were not confirmed within {CONFIRM_TIMEOUT:?}");
            Err(AttachError::Unreachable(message))
        })?;
        Ok(subscribed)
    }

    /// Subscribes at what is live, unless it does; ends what it had elsewhere once that is confirmed.
    pub(super) async fn follow(&self, shared: &Shared) -> Result<(), AttachError> {
        let _turn = self.turn.lock().await;
        loop {
            let access = shared.facade.live();
            let wiring = wire(&self.wishes, &self.attach, &access);
            let is_there =
                |taps: &Taps| taps.is_closed || taps.live.as_ref().is_some_and(|tap| tap.is(&access.link, &wiring));
            if let Err(denied) = check_denied(&self.wishes, &access) {
                // The rules changed while it was subscribed by the old ones.
                let live = self.taps().live.take();
                if let Some(tap) = live {
                    tap.close(Instant::now() + LEAVE_TIMEOUT).await;
                }
                return Err(denied);
            }
            if is_there(&self.taps()) {
                return Ok(());
            }
            let tap = self.tap(&access, wiring.clone()).await?;
            let old = {
                let mut taps = self.taps();
                if taps.is_closed {
                    Some(tap)
                } else {
                    self.side.rewire(wiring);
                    taps.live.replace(tap)
                }
            };
            if let Some(old) = old {
                old.close(Instant::now() + LEAVE_TIMEOUT).await;
            }
        }
    }

    /// As [`follow`](Self::follow), by `deadline`; what fails is tried again behind it, until it succeeds or the
    /// attachment ends.
    pub(super) async fn follow_by(self: &Arc<Self>, shared: &Arc<Shared>, deadline: Instant) {
        let why = match timeout_at(deadline, self.follow(shared)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_elapsed) => AttachError::Unreachable("the subscriptions were not confirmed in time".to_owned()),
        };
        let (id, component) = (&self.attach.workload_id, &self.attach.component);
        if !matches!(why, AttachError::Unreachable(_)) {
            warn!(workload.id = %id, component = %component, error = %Chain(&why), "not subscribed any more");
            return;
        }
        warn!(workload.id = %id, component = %component, error = %Chain(&why), "not subscribed after a reload: trying again");
        if self.is_following.swap(true, Ordering::SeqCst) {
            return;
        }
        let again = follow_again(Arc::downgrade(self), Arc::clone(shared));
        drop(task::spawn_on(self.side.workers(), "subscribe-again", again));
    }

    /// Subscribes for what is about to be live, beside what is: confirmed.
    pub(super) async fn prepare(&self, access: &Access) -> Result<(), AttachError> {
        check_denied(&self.wishes, access)?;
        let _turn = self.turn.lock().await;
        let wiring = wire(&self.wishes, &self.attach, access);
        let is_there = |taps: &Taps| taps.live.as_ref().is_none_or(|tap| tap.is(&access.link, &wiring));
        if is_there(&self.taps()) {
            return Ok(());
        }
        let tap = self.tap(access, wiring).await?;
        let unwanted = {
            let mut taps = self.taps();
            if taps.is_closed { Some(tap) } else { taps.next.replace(tap) }
        };
        if let Some(tap) = unwanted {
            self.leave(tap);
        }
        Ok(())
    }

    /// What was prepared is live: gives back what was before.
    pub(super) fn commit(&self) -> Option<Tap> {
        let mut taps = self.taps();
        let next = taps.next.take()?;
        self.side.rewire(next.wiring.clone());
        taps.live.replace(next)
    }

    /// What was prepared is not wanted; what came through it is handled.
    pub(super) fn abandon(&self) {
        let next = self.taps().next.take();
        if let Some(tap) = next {
            self.leave(tap);
        }
    }

    /// Ends subscriptions that are not wanted; what came through them is handled.
    fn leave(&self, tap: Tap) {
        let close = async move { tap.close(Instant::now() + LEAVE_TIMEOUT).await };
        drop(task::spawn_on(self.side.workers(), "abandoned-subscriptions", close));
    }

    /// For messages to people.
    pub(super) fn describe(&self) -> String {
        let Attach { workload_namespace, workload_name, component, .. } = &self.attach;
        format!("component '{component}' of workload {workload_namespace}/{workload_name}")
    }

    fn taps(&self) -> MutexGuard<'_, Taps> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribed and confirmed.
    async fn tap(&self, access: &Access, wiring: Wiring) -> Result<Tap, AttachError> {
        let failed = |error: super::broker::BrokerError| {
            AttachError::Unreachable(format!("cannot subscribe: {}", Chain(&error)))
        };
        let tap = Tap::open(&self.side, access.link.clone(), wiring).await.map_err(failed)?;
        match tap.link.broker.confirm(&tap.wiring).await {
            Ok(()) => Ok(tap),
            Err(error) => {
                // Some of them may have been given messages.
                self.leave(tap);
                Err(failed(error))
            }
        }
    }

    /// The host lets so many messages of one component in at once; the component may want fewer, once it is live.
    pub(super) fn limit(&self, width: usize) {
        self.width.store(width, Ordering::SeqCst);
        if self.side.is_live() {
            self.narrow();
        }
    }

    fn narrow(&self) {
        let width = self.width.load(Ordering::SeqCst);
        let wished = self.wishes.max_in_flight.map_or(width, usize::from);
        self.side.inbox().gate.set_width(width.min(wished));
    }
}

/// Until it succeeds, is refused by the host's rules, or there is nobody who wants it.
async fn follow_again(attachment: Weak<Subscribed>, shared: Arc<Shared>) {
    let mut backoff = Backoff::new(FOLLOW_FIRST, FOLLOW_MAX);
    loop {
        sleep(backoff.pause()).await;
        let Some(attachment) = attachment.upgrade() else { return };
        let outcome = timeout(CONFIRM_TIMEOUT, attachment.follow(&shared)).await;
        let (id, component) = (&attachment.attach.workload_id, &attachment.attach.component);
        match outcome {
            Ok(Err(error @ AttachError::Unreachable(_))) => {
                debug!(workload.id = %id, component = %component, error = %Chain(&error), "not subscribed yet");
                continue;
            }
            Err(_elapsed) => continue,
            Ok(Ok(())) => info!(workload.id = %id, component = %component, "subscribed again"),
            Ok(Err(error)) => {
                warn!(workload.id = %id, component = %component, error = %Chain(&error), "not subscribed any more");
            }
        }
        attachment.is_following.store(false, Ordering::SeqCst);
        return;
    }
}

/// The newer of the handlers that a component exports.
fn handler_of(attach: &Attach) -> Result<Arc<dyn Handler>, AttachError> {
    let is_async = attach.exports.iter().any(is_async);
    if is_async && !attach.exports.iter().all(super::is_async) {
        let (id, component) = (&attach.workload_id, &attach.component);
        warn!(workload.id = %id, component = %component, "two versions of the handler are exported: the newer one is called");
    }
    let (handler, export) = if is_async {
        (glue_p3::handler(&attach.pre), "wasmcloud:messaging/handler@0.3.0")
    } else {
        (glue::handler(&attach.pre), "wasmcloud:messaging/handler@0.2.0")
    };
    handler.map_err(|source| AttachError::Shape { export, source })
}

/// What `wishes` come to.
fn wire(wishes: &Wishes, attach: &Attach, access: &Access) -> Wiring {
    let group = wishes.group(attach, access.settings.queue_group);
    if wishes.subscriptions.is_empty() && access.link.broker.delivers_all() {
        return Wiring { subjects: vec![">".to_owned()], group };
    }
    Wiring { subjects: wishes.subscriptions.clone(), group }
}

fn check_denied(wishes: &Wishes, access: &Access) -> Result<(), AttachError> {
    let denied = wishes.subscriptions.iter().find_map(|pattern| Some((pattern, access.denies(pattern)?)));
    match denied {
        None => Ok(()),
        Some((pattern, rule)) => {
            let message = format!("access denied: subscription '{pattern}' overlaps '{rule}', which the host reserves");
            Err(AttachError::Settings(message))
        }
    }
}

impl Attachment for Subscribed {
    fn open(&self, target: Arc<dyn GuestTarget>) {
        self.side.open(target);
        self.narrow();
    }

    fn in_flight(&self) -> usize {
        self.side.taken()
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        async move {
            let taps = {
                let mut taps = self.taps();
                taps.is_closed = true;
                [taps.live.take(), taps.next.take()]
            };
            join_all(taps.into_iter().flatten().map(|tap| tap.close(deadline))).await;
            self.side.drain(deadline).await
        }
        .boxed()
    }
}

impl Drop for Subscribed {
    /// Not closed, it was never live: what it has taken from the live version's share is handed to that one. If there
    /// is none, others of the group have what is not taken.
    fn drop(&mut self) {
        let (live, next) = {
            let mut taps = self.taps();
            if taps.is_closed || !self.side.inbox().has_live() {
                drop(taps);
                self.side.cut();
                return;
            }
            (taps.live.take(), taps.next.take())
        };
        let side = Arc::clone(&self.side);
        side.abandon();
        drop(task::spawn_on(self.side.workers(), "abandoned-messages", async move {
            let deadline = Instant::now() + LEAVE_TIMEOUT;
            join_all([live, next].into_iter().flatten().map(|tap| tap.close(deadline))).await;
            side.drain(deadline).await;
        }));
    }
}
