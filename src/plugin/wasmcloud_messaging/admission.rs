//! How many messages are handled at once: a gate whose width may change while it is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Lets so many in at once. First come, first served, but for whoever finds a place free.
#[derive(Debug)]
pub(super) struct Gate {
    width: AtomicUsize,
    inside: AtomicUsize,
    freed: Notify,
}

/// A place behind a gate; dropped, it is free.
#[derive(Debug)]
pub(super) struct Place(Arc<Gate>);

impl Gate {
    pub(super) fn new(width: usize) -> Self {
        Self { width: AtomicUsize::new(width), inside: AtomicUsize::new(0), freed: Notify::new() }
    }

    /// Whoever is inside stays, also when there are more of them than now would be let in.
    pub(super) fn set_width(&self, width: usize) {
        if self.width.swap(width, Ordering::SeqCst) != width {
            self.freed.notify_waiters();
        }
    }

    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let width = self.width.load(Ordering::SeqCst);
        let entered = self.inside.try_update(Ordering::SeqCst, Ordering::SeqCst, |inside| {
            (inside < width).then_some(inside.saturating_add(1))
        });
        entered.ok().map(|_before| Place(Arc::clone(self)))
    }

    /// Dropping the future gives up the wait.
    pub(super) async fn enter(self: &Arc<Self>) -> Place {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Listening before the look, so that what is freed in between is not missed.
            freed.as_mut().enable();
            if let Some(place) = self.try_enter() {
                return place;
            }
            freed.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_place_that_is_freed_goes_to_who_waits() {
        let gate = Arc::new(Gate::new(1));
        let first = gate.try_enter().unwrap();
        assert!(gate.try_enter().is_none());
        let mut waiting = Box::pin(gate.enter());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        let _second = waiting.await;
        assert!(gate.try_enter().is_none());
    }

    #[tokio::test]
    async fn a_wider_gate_lets_waiters_in_and_a_narrower_one_lets_those_inside_end() {
        let gate = Arc::new(Gate::new(1));
        let first = gate.try_enter().unwrap();
        let mut waiting = Box::pin(gate.enter());
        assert!(waiting.as_mut().now_or_never().is_none());
        gate.set_width(2);
        let second = waiting.await;
        gate.set_width(1);
        drop(first);
        assert!(gate.try_enter().is_none(), "one is still inside");
        drop(second);
        assert!(gate.try_enter().is_some());
    }
}
