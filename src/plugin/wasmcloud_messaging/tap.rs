//! The subscriptions of one version of a component at one broker.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::select_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::broker::{BrokerError, Incoming, Link, Wiring};
use super::inbox::{Inbox, Side};
use crate::task::{self, Shutdown};

/// Dropped, they end at once.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) link: Link,
    pub(super) wiring: Wiring,
    side: Arc<Side>,
    number: u64,
    leave: Shutdown,
    reader: Option<JoinHandle<Option<()>>>,
}

impl Tap {
    /// Subscribes for `side`; messages are taken from now on. The server may not know of it yet.
    pub(super) async fn open(side: &Arc<Side>, link: Link, wiring: Wiring) -> Result<Self, BrokerError> {
        let leave = Shutdown::default();
        let inbox = side.inbox();
        let number = inbox.add_tap(wiring.group.clone());
        side.tap_opened();
        let mut tap = Self { link, wiring, side: Arc::clone(side), number, leave, reader: None };
        let incoming = tap.link.broker.subscribe(&inbox.workload, &tap.wiring, &tap.leave).await?;
        let reader = task::spawn_on(
            side.workers(),
            "subscriptions",
            read(Arc::clone(side), number, incoming, tap.leave.clone()),
        );
        tap.reader = Some(reader);
        Ok(tap)
    }

    pub(super) fn is(&self, link: &Link, wiring: &Wiring) -> bool {
        self.link.is(link) && self.wiring == *wiring
    }

    /// Unsubscribes without losing what is on its way, at the longest to `deadline`.
    pub(super) async fn close(mut self, deadline: Instant) {
        self.leave.trigger();
        if let Some(reader) = &mut self.reader
            && timeout_at(deadline, reader).await.is_err()
        {
            debug!(workload.id = %self.side.inbox().workload, "subscriptions were cut: the broker did not confirm their end");
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
        self.side.inbox().remove_tap(self.number);
        self.side.tap_closed();
    }
}

async fn read(side: Arc<Side>, tap: u64, incoming: Vec<Incoming>, leave: Shutdown) {
    if incoming.is_empty() {
        // Subscribed to nothing: nothing ends.
        return;
    }
    let mut messages = select_all(incoming);
    while let Some(message) = messages.next().await {
        if side.inbox().is_first(tap, &message) {
            side.take(message).await;
        }
    }
    if !leave.is_triggered() {
        let Inbox { workload, component, .. } = &**side.inbox();
        warn!(workload.id = %workload, component = %component, "subscriptions ended: the connection is gone for good");
    }
}
