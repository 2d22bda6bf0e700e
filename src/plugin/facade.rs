//! What workloads keep hold of while backends come and go: one atomic pointer.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

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
