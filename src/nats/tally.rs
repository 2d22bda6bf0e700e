//! What happened to all connections of one plane, counted for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The connections of one plane since the process began, those that were replaced included.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    connects: AtomicU64,
    reconnects: AtomicU64,
    losses: AtomicU64,
    closes: AtomicU64,
    slow_consumers: AtomicU64,
    /// Why there is no connection, as the last attempt has it.
    trouble: Mutex<Option<String>>,
}

impl Tally {
    /// Connections that are up: one, and two while one replaces another.
    pub(crate) fn open(&self) -> u64 {
        let ended = self.losses().saturating_add(self.closes.load(Ordering::Relaxed));
        self.connects.load(Ordering::Relaxed).saturating_sub(ended)
    }

    /// How often a connection that was lost was made again.
    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// How often a connection was lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// How often a message was dropped because it was read too slowly, or the server said so.
    pub(crate) fn slow_consumers(&self) -> u64 {
        self.slow_consumers.load(Ordering::Relaxed)
    }

    /// Why there is no connection, as the last attempt has it. Holds no secret.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn failed(&self, why: &str) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    pub(super) fn connected(&self, is_again: bool) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.connects.fetch_add(1, Ordering::Relaxed);
        if is_again {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn lost(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.closes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn slow_consumer(&self) {
        self.slow_consumers.fetch_add(1, Ordering::Relaxed);
    }
}
