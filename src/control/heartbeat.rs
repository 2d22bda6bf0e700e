//! Says that the host is alive: at once after each connect, then at a steady interval, never in a burst.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::control::command::{deliver, guarded};
use crate::control::wire::encode_heartbeat;
use crate::control::{ControlState, Core, subject};
use crate::nats::NatsClient;
use crate::task;

/// After a heartbeat that could not be published; the operator waits 60 s for one.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The connection's events only wake us; in case one is lost, we look by ourselves.
const LOOK_AFTER: Duration = Duration::from_secs(5);
/// A server that takes longer than this to answer a PING is as good as gone.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes the heartbeats of one connection. Ends with it, or when it is dropped.
pub(super) struct Heartbeat {
    core: Arc<Core>,
    nats: NatsClient,
    subject: String,
}

impl Heartbeat {
    /// Runs until the guard is dropped; a panic is logged, and it starts over.
    pub(super) fn spawn(core: Arc<Core>, nats: NatsClient) -> AbortOnDropHandle<Option<()>> {
        AbortOnDropHandle::new(task::spawn("heartbeat supervisor", async move {
            loop {
                let subject = subject::operator_heartbeat(&core.host_id);
                let mut heartbeat = Self { core: Arc::clone(&core), nats: nats.clone(), subject };
                let beating = AbortOnDropHandle::new(task::spawn("heartbeat", async move { heartbeat.run().await }));
                // It yields nothing but its end: a panic, which was logged.
                drop(beating.await);
                core.count_restart("heartbeat");
                sleep(RETRY_AFTER).await;
            }
        }))
    }

    async fn run(&mut self) {
        loop {
            let session = self.connected().await;
            if self.has_joined(session).await {
                self.core.set_state(ControlState::Joined);
                info!(session, "joined the control plane");
                self.beat(session).await;
                self.core.set_state(ControlState::Lost);
            }
        }
    }

    /// Which connection this is, counted from 1; `None` while there is none.
    fn session(&self) -> Option<u64> {
        self.nats.is_connected().then(|| self.nats.client.statistics().connects.load(Ordering::Relaxed))
    }

    async fn connected(&mut self) -> u64 {
        loop {
            if let Some(session) = self.session() {
                return session;
            }
            self.something_happened().await;
        }
    }

    /// Waits for an event of the connection, or a while.
    async fn something_happened(&mut self) {
        // Without events, which is the end of the client, time is left to look at.
        if let Ok(Err(_no_more_events)) = timeout(LOOK_AFTER, self.nats.state.changed()).await {
            sleep(LOOK_AFTER).await;
        }
    }

    /// Waits until the server has taken our subscriptions; `false` if the connection went away meanwhile.
    async fn has_joined(&mut self, session: u64) -> bool {
        let is_current = |heartbeat: &Self| heartbeat.session() == Some(session);
        let subject = subject::heartbeat(&self.core.host_id);
        tokio::select! {
            passed = timeout(BARRIER_TIMEOUT, self.nats.barrier(&subject)) => {
                if passed.is_err() && is_current(self) {
                    warn!("NATS did not confirm the subscriptions in time, going on");
                }
            }
            () = self.until_other_than(session) => {}
        }
        is_current(self)
    }

    async fn until_other_than(&self, session: u64) {
        let mut state = self.nats.state.clone();
        while self.session() == Some(session) {
            if let Ok(Err(_no_more_events)) = timeout(LOOK_AFTER, state.changed()).await {
                sleep(LOOK_AFTER).await;
            }
        }
    }

    /// Publishes while `session` lasts.
    async fn beat(&mut self, session: u64) {
        let mut settings = self.core.settings.subscribe();
        let mut last = Instant::now();
        let mut due = last;
        loop {
            // All arms may be dropped: they wait, and hold nothing.
            tokio::select! {
                biased;
                () = self.until_other_than(session) => return,
                () = self.core.heartbeat_wanted.notified() => due = Instant::now(),
                Ok(()) = settings.changed() => due = due.min(last + settings.borrow_and_update().heartbeat_interval),
                () = sleep_until(due) => {
                    let interval = self.core.settings.borrow().heartbeat_interval;
                    let is_published = self.publish().await;
                    last = Instant::now();
                    due = if is_published { next_due(due, last, interval) } else { last + RETRY_AFTER.min(interval) };
                }
            }
        }
    }

    async fn publish(&self) -> bool {
        let Some(heartbeat) = guarded(|| self.core.host.heartbeat()) else { return false };
        let payload = encode_heartbeat(&heartbeat, self.nats.client.max_payload());
        deliver(&self.nats.client, self.subject.clone(), payload).await
    }
}

/// One interval after the last was due; after a stall one interval from now, because missed ones are not made up for.
fn next_due(due: Instant, now: Instant, interval: Duration) -> Instant {
    let next = due + interval;
    if next > now { next } else { now + interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_keep_their_beat_and_never_come_in_a_burst() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(next_due(start, start + second / 10, second), start + second);
        assert_eq!(next_due(start, start + second * 5, second), start + second * 6);
    }
}
