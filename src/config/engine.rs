//! `[engine]`: how WebAssembly is executed.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// `[engine]`: how WebAssembly is executed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "restart"))]
pub(crate) struct FileEngine {
    /// Whether instances come from a pool reserved at start.
    pub(super) pooling: FilePooling,
    /// Instances at once, over all workloads.
    #[schemars(range(min = 1))]
    pub(super) max_instances: u32,
    /// Whether compiled code is kept on disk.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) compile_cache: bool,
    /// Further WebAssembly proposals to switch on.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) proposals: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FilePooling {
    Auto,
    On,
    Off,
}

impl Default for FileEngine {
    fn default() -> Self {
        let Engine { pooling, max_instances } = Engine::default();
        let pooling = match pooling {
            Pooling::Auto => FilePooling::Auto,
            Pooling::On => FilePooling::On,
            Pooling::Off => FilePooling::Off,
        };
        Self { pooling, max_instances: max_instances.get(), compile_cache: true, proposals: Vec::new() }
    }
}

impl FileEngine {
    pub(super) fn resolve(self) -> Engine {
        let Self { pooling, max_instances, compile_cache: _, proposals: _ } = self;
        let pooling = match pooling {
            FilePooling::Auto => Pooling::Auto,
            FilePooling::On => Pooling::On,
            FilePooling::Off => Pooling::Off,
        };
        Engine { pooling, max_instances: NonZeroU32::new(max_instances).unwrap_or(NonZeroU32::MIN) }
    }
}
