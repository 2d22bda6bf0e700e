//! The engine: compiles components, links them and makes stores for them. Knows no lifecycle and no plugin.
//!
//! One `Engine` lives as long as the process; a reload never touches it. What it owns: the wasmtime engine with its
//! pool, the base linker with everything of WASI, a bounded set of compile threads, the epoch ticker (a thread of its
//! own that sleeps while no guest runs) and the budget for guest memory.

pub(crate) mod command;
pub(crate) mod compile;
pub(crate) mod ctx;
pub(crate) mod epoch;
pub(crate) mod http;
pub(crate) mod inspect;
pub(crate) mod limits;
pub(crate) mod link;
pub(crate) mod plan;
pub(crate) mod stdio;
mod tuning;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use wasmtime::Store;
use wasmtime::component::Linker;

pub(crate) use compile::{CompileError, Compiled};
pub(crate) use ctx::{Bindings, ItemCtx, SharedCtx};
pub(crate) use link::Linked;

use crate::config;
use crate::config::engine::Pooling;
use crate::engine::compile::Compiler;
use crate::engine::epoch::Ticker;
use crate::engine::limits::MemoryBudget;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine(Arc<Inner>);

struct Inner {
    wasmtime: wasmtime::Engine,
    base: Linker<SharedCtx>,
    compiler: Compiler,
    ticker: Ticker,
    memory: Arc<MemoryBudget>,
    instances: Arc<Semaphore>,
    pooled_instances: Option<usize>,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The machine cannot give what `[engine]` asks for.
    #[error("cannot create the WebAssembly engine: check engine.pooling and engine.max_instances")]
    Create(#[source] anyhow::Error),
    /// WASI itself does not link: a bug.
    #[error("cannot link WASI")]
    LinkWasi(#[source] anyhow::Error),
    /// No thread for the ticker or the compiler.
    #[error("cannot start the engine's threads")]
    Threads(#[source] std::io::Error),
}

impl Engine {
    /// Reserves the pool, starts the compile threads and the ticker. Takes a few milliseconds.
    pub(crate) fn new(settings: &config::Engine) -> Result<Self, EngineError> {
        let wasmtime = tuning::create(settings).map_err(EngineError::Create)?;
        let base = link::base_linker(&wasmtime).map_err(EngineError::LinkWasi)?;
        let compiler = Compiler::new().map_err(EngineError::Threads)?;
        let ticker = Ticker::start(&wasmtime).map_err(EngineError::Threads)?;
        let max_instances = usize::try_from(settings.max_instances.get()).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self(Arc::new(Inner {
            wasmtime,
            base,
            compiler,
            ticker,
            memory: Arc::new(MemoryBudget::of_machine()),
            instances: Arc::new(Semaphore::new(max_instances)),
            pooled_instances: (settings.pooling != Pooling::Off).then_some(max_instances),
        })))
    }

    /// Compiles `bytes`, or joins whoever is compiling the same digest, or finds it compiled.
    pub(crate) async fn compile(&self, digest: &str, bytes: Bytes) -> Result<Arc<Compiled>, CompileError> {
        self.0.compiler.compile(&self.0.wasmtime, digest, bytes).await
    }

    /// A linker with all of WASI in it, to add a plugin's interfaces to.
    pub(crate) fn linker(&self) -> Linker<SharedCtx> {
        self.0.base.clone()
    }

    /// A fresh store for one instance of `item`. Cheap: everything that can be made once is in `item`.
    pub(crate) fn store(&self, item: &Arc<ItemCtx>) -> Store<SharedCtx> {
        let mut store = Store::new(
            &self.0.wasmtime,
            SharedCtx::new(Arc::clone(item), &self.0.memory, Some(self.0.ticker.running_guest())),
        );
        store.limiter(|ctx| &mut ctx.limits);
        epoch::yield_at_every_tick(&mut store);
        store
    }

    /// How many instances a pool may hold, if there is to be one.
    pub(crate) fn pooled_instances(&self) -> Option<usize> {
        self.0.pooled_instances
    }

    /// One permit for each instance that may exist at once, over all workloads.
    pub(crate) fn instances(&self) -> &Arc<Semaphore> {
        &self.0.instances
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("instances_free", &self.0.instances.available_permits()).finish_non_exhaustive()
    }
}
