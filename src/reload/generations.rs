//! Generations that something still holds, counted: what leaks is a gauge above 1 and not a guess.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many are held; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Generations(Arc<AtomicUsize>);

/// Held by what is live and by each part of it that still drains.
#[derive(Debug)]
pub(crate) struct GenerationHandle(Generations);

impl Generations {
    /// One more, until the last clone of its handle is dropped.
    pub(super) fn begin(&self) -> Arc<GenerationHandle> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Arc::new(GenerationHandle(self.clone()))
    }

    /// The live one included: 1 in a host where nothing drains.
    pub(crate) fn alive(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for GenerationHandle {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
