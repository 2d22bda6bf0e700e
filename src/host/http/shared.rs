//! What all connections of a server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, timeout_at};

use crate::host::http::meter::Meter;
use crate::host::http::router::HttpRouter;
use crate::host::http::settings::Settings;

/// How far the end of a server has come; it only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving = 0,
    /// Responses tell the client to leave, idle connections are closed.
    Draining = 1,
    /// Every connection ends now.
    Cut = 2,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) router: Arc<HttpRouter>,
    pub(super) settings: ArcSwap<Settings>,
    pub(super) meter: Meter,
    phase: AtomicU8,
    phase_changed: Notify,
    last_closed: Notify,
}

impl Shared {
    pub(super) fn new(router: Arc<HttpRouter>, settings: Settings) -> Self {
        Self {
            meter: Meter::new(router.totals()),
            router,
            settings: ArcSwap::from_pointee(settings),
            phase: AtomicU8::new(Phase::Serving as u8),
            phase_changed: Notify::new(),
            last_closed: Notify::new(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Cut,
        }
    }

    /// Moves on to `phase`, unless it is there already.
    pub(super) fn enter(&self, phase: Phase) {
        if self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.phase_changed.notify_waiters();
        }
    }

    /// Ready when the phase changes after this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.phase_changed.notified()
    }

    /// Waits until no connection is open or `deadline` is over; how many are left.
    pub(super) async fn wait_until_empty(&self, deadline: Instant) -> usize {
        loop {
            let last_closed = self.last_closed.notified();
            let open = self.meter.connections_open();
            if open == 0 || timeout_at(deadline, last_closed).await.is_err() {
                return open;
            }
        }
    }
}

/// Counts one connection for as long as it lives.
#[derive(Debug)]
pub(super) struct OpenConnection(Arc<Shared>);

impl OpenConnection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.meter.opened();
        Self(shared)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if self.0.meter.closed() == 0 {
            self.0.last_closed.notify_waiters();
        }
    }
}
