//! What one version of a component subscribes to, at the broker that is live, and at the next one while it is prepared.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::broker::Wiring;
use super::entry::Wishes;
use super::inbox::{Inbox, Side, Tap};
use super::{Access, Shared, glue};
use crate::error::Chain;
use crate::plugin::guest::{Attach, AttachError, Attachment, GuestTarget};

/// For the server to confirm subscriptions.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// One version of a component, subscribed.
#[derive(Debug)]
pub(super) struct Subscribed {
    attach: Attach,
    wishes: Wishes,
    side: Arc<Side>,
    /// Locked while subscriptions are made or ended, so that whoever comes second sees what the first did.
    taps: Mutex<Taps>,
}

#[derive(Debug, Default)]
struct Taps {
    live: Option<Tap>,
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
        let shape = |source| AttachError::Shape { export: "wasmcloud:messaging/handler@0.2.0", source };
        let handler = glue::handler(&attach.pre).map_err(shape)?;
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
            let subscribed = Arc::new(Self { attach, wishes, side, taps: Mutex::default() });
            registry.attachments.retain(|attachment| attachment.strong_count() > 0);
            registry.attachments.push(Arc::downgrade(&subscribed));
            shared.limit(&registry, &access);
            subscribed
        };
        let tap = timeout(CONFIRM_TIMEOUT, subscribed.tap(&access, wiring)).await.unwrap_or_else(|_elapsed| {
            let message = format!("the subscriptions were not confirmed within {CONFIRM_TIMEOUT:?}");
            Err(AttachError::Unreachable(message))
        })?;
        subscribed.taps.lock().await.live = Some(tap);
        Ok(subscribed)
    }

    /// Subscribed and confirmed.
    async fn tap(&self, access: &Access, wiring: Wiring) -> Result<Tap, AttachError> {
        let failed = |error: super::broker::BrokerError| {
            AttachError::Unreachable(format!("cannot subscribe: {}", Chain(&error)))
        };
        let tap = Tap::open(&self.side, access.link.clone(), wiring).await.map_err(failed)?;
        tap.link.broker.confirm(&tap.wiring).await.map_err(failed)?;
        Ok(tap)
    }

    /// The host lets so many messages of one component in at once; the component may want fewer.
    pub(super) fn limit(&self, width: usize) {
        let wished = self.wishes.max_in_flight.map_or(width, usize::from);
        self.side.inbox().gate.set_width(width.min(wished));
    }
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
    }

    fn in_flight(&self) -> usize {
        self.side.taken()
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        async move {
            let tap = {
                let mut taps = self.taps.lock().await;
                taps.is_closed = true;
                taps.live.take()
            };
            if let Some(tap) = tap {
                tap.close(deadline).await;
            }
            self.side.drain(deadline).await
        }
        .boxed()
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.side.cut();
    }
}
