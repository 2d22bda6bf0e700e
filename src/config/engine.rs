//! `[engine]`: how WebAssembly is executed.

use std::num::NonZeroU32;

/// The engine. Reload class: restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Whether instances come from a pool reserved at start.
    pub pooling: Pooling,
    /// Instances at once, over all workloads.
    pub max_instances: NonZeroU32,
}

/// Whether instances come from a pool reserved at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// If the machine has the address space for it.
    #[default]
    Auto,
    /// Always; an error if the machine cannot.
    On,
    /// Never.
    Off,
}

impl Default for Engine {
    fn default() -> Self {
        Self { pooling: Pooling::Auto, max_instances: NonZeroU32::new(1000).unwrap_or(NonZeroU32::MIN) }
    }
}
