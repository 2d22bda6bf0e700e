//! What workloads keep hold of while backends come and go: one atomic pointer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, sleep};

/// Lives as long as its plugin is enabled; a reload swaps what is behind it.
///
/// A host call reads it once and ends on what it read. What was taken out is still in use as long as its `Arc` has
/// other owners.
pub(crate) struct Facade<B> {
    live: ArcSwap<B>,
}

impl<B> Facade<B> {
    /// With `backend` behind it.
    pub(crate) fn new(backend: B) -> Self {
        Self { live: ArcSwap::from_pointee(backend) }
    }

    /// What is live now: read once per host call, not kept between calls.
    pub(crate) fn live(&self) -> Arc<B> {
        self.live.load_full()
    }

    /// Puts `backend` in place and returns what it replaces.
    pub(crate) fn swap(&self, backend: B) -> Arc<B> {
        self.live.swap(Arc::new(backend))
    }
}

/// How often the number of calls is looked at: counting them in any other way would cost each of them.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until nobody else holds what was behind a facade, at most until `deadline`: how many still do.
pub(super) async fn unused<B>(replaced: &Arc<B>, deadline: Instant) -> usize {
    loop {
        let holders = Arc::strong_count(replaced).saturating_sub(1);
        if holders == 0 || Instant::now() >= deadline {
            return holders;
        }
        sleep(LOOK_EVERY).await;
    }
}

impl<B: fmt::Debug> fmt::Debug for Facade<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Facade").field(&self.live()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_in_flight_ends_on_the_backend_it_began_with() {
        let facade = Facade::new("old");
        let in_flight = facade.live();
        let retired = facade.swap("new");
        assert_eq!((*in_flight, *facade.live()), ("old", "new"));
        assert!(Arc::ptr_eq(&retired, &in_flight));
        drop(in_flight);
        assert_eq!(Arc::strong_count(&retired), 1);
    }
}
