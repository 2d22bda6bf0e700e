//! What servers count: relaxed atomics, written on the way and read on a scrape.
//!
//! What only grows belongs to the host, so that it goes on where a listener moves to; what is open belongs to a server,
//! which has to wait for its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::StatusCode;

/// Counts of all servers of a host, since the first one was made.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Now, those of servers that drain among them.
    connections_open: AtomicUsize,
    connections_refused: AtomicU64,
    accept_errors: AtomicU64,
    handshakes_failed: AtomicU64,
    requests: AtomicU64,
    /// By the first digit of the status, from 1.
    responses: [AtomicU64; 5],
}

/// What one server counts, and counts for its host.
#[derive(Debug)]
pub(super) struct Meter {
    connections_open: AtomicUsize,
    totals: Arc<Totals>,
}

impl Meter {
    pub(super) fn new(totals: Arc<Totals>) -> Self {
        Self { connections_open: AtomicUsize::new(0), totals }
    }

    /// Connections open now.
    pub(super) fn connections_open(&self) -> usize {
        self.connections_open.load(Ordering::Acquire)
    }

    pub(super) fn opened(&self) {
        self.totals.connections_open.fetch_add(1, Ordering::Relaxed);
        self.connections_open.fetch_add(1, Ordering::AcqRel);
    }

    /// How many are left.
    pub(super) fn closed(&self) -> usize {
        self.totals.connections_open.fetch_sub(1, Ordering::Relaxed);
        self.connections_open.fetch_sub(1, Ordering::AcqRel).saturating_sub(1)
    }

    pub(super) fn refused(&self) {
        self.totals.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn accept_failed(&self) {
        self.totals.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handshake_failed(&self) {
        self.totals.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request(&self) {
        self.totals.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn response(&self, status: StatusCode) {
        let slot = usize::from(status.as_u16() / 100).checked_sub(1).and_then(|slot| self.totals.responses.get(slot));
        if let Some(count) = slot {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Totals {
    /// Connections open now.
    pub(crate) fn connections_open(&self) -> usize {
        self.connections_open.load(Ordering::Relaxed)
    }

    /// Connections closed at once because there were too many.
    pub(crate) fn connections_refused(&self) -> u64 {
        self.connections_refused.load(Ordering::Relaxed)
    }

    /// Times that no connection could be accepted.
    pub(crate) fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// TLS handshakes that failed or took too long.
    pub(crate) fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Ordering::Relaxed)
    }

    /// Requests whose head was read.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Responses of the class 1xx to 5xx; 0 for anything else.
    pub(crate) fn responses(&self, class: u16) -> u64 {
        let slot = usize::from(class).checked_sub(1).and_then(|slot| self.responses.get(slot));
        slot.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
