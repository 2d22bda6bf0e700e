//! `[engine]` as wasmtime settings.

use anyhow::Context as _;
use tracing::{debug, warn};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::config;
use crate::config::engine::Pooling;

/// A component is usually three to four core instances: the program, and small shims around it.
const CORE_INSTANCES_PER_COMPONENT: u32 = 4;

/// Most have one linear memory; what is reserved is address space only.
const MEMORIES_PER_COMPONENT: u32 = 2;

/// Bytes of a linear memory that stay resident between two instances: with `PAGEMAP_SCAN` the dirty pages among them
/// are reset in place, which costs 4 us for 12 pages instead of 19 us by giving them back and faulting them in again.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;

/// Slots that keep their memory after use: a hello leaves about 50 KiB, so 100 of them hold 5 MB.
const UNUSED_WARM_SLOTS: u32 = 100;

pub(super) fn create(settings: &config::Engine) -> anyhow::Result<wasmtime::Engine> {
    match settings.pooling {
        Pooling::Off => on_demand(),
        Pooling::On => pooled(settings),
        Pooling::Auto => pooled(settings).or_else(|error| {
            warn!(error = format!("{error:#}"), "the instance pool cannot be reserved, instances are made on demand");
            on_demand()
        }),
    }
}

fn on_demand() -> anyhow::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&common()).map_err(anyhow::Error::from).context("without a pool")
}

fn pooled(settings: &config::Engine) -> anyhow::Result<wasmtime::Engine> {
    let instances = settings.max_instances.get();
    let core_instances = instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(core_instances)
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(core_instances)
        .total_stacks(core_instances)
        .total_gc_heaps(instances)
        .max_unused_warm_slots(UNUSED_WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(4 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = common();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = wasmtime::Engine::new(&config)
        .map_err(anyhow::Error::from)
        .with_context(|| format!("with a pool of {instances} instances"))?;
    debug!(instances, "instance pool reserved");
    Ok(engine)
}

fn common() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        // A guest's failure is an everyday value here; symbolising a backtrace for each costs 10 us of its neighbours.
        .wasm_backtrace_max_frames(None);
    config
}
