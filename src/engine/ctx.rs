//! What a store holds: the parts shared by all stores of one component, and the parts of its own.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::engine::epoch::RunningGuest;
use crate::engine::http::Hooks;
use crate::engine::limits::{MemoryBudget, StoreLimits};
use crate::engine::stdio::{GuestLog, GuestOutput, OutputStreamName};
use crate::types::{ByteSize, ComponentName, WorkloadId};

/// Handles of one store: a request needs some dozens. Each may hold a few KiB of the host's memory, a field list most.
const HANDLES_MAX: usize = 16 << 10;

/// What host functions know of the component that calls them: made once, when the workload starts, and shared by all
/// stores of the component. Its environment may hold secrets: `Debug` leaves it out.
pub(crate) struct ItemCtx {
    /// Id of the workload.
    pub(crate) workload_id: WorkloadId,
    /// Name of the workload.
    pub(crate) workload_name: Arc<str>,
    /// Namespace of the workload.
    pub(crate) workload_namespace: Arc<str>,
    /// Name of the component in the workload.
    pub(crate) component: ComponentName,
    /// What plugins keep for the component.
    pub(crate) bindings: Bindings,
    /// Where its output goes, and how much of it.
    pub(crate) guest_log: Arc<GuestLog>,
    /// `wasi:cli/environment`.
    pub(crate) environment: Vec<(String, String)>,
    /// Linear memory of one instance.
    pub(crate) memory_limit: Option<ByteSize>,
}

impl fmt::Debug for ItemCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemCtx")
            .field("workload_id", &self.workload_id)
            .field("component", &self.component)
            .field("bindings", &self.bindings)
            .finish_non_exhaustive()
    }
}

/// What each plugin keeps for one component, by plugin id: host functions find it through the store, so that linkers
/// capture nothing and can be shared.
#[derive(Clone, Default)]
pub(crate) struct Bindings(BTreeMap<&'static str, Arc<dyn Any + Send + Sync>>);

impl Bindings {
    /// Keeps `value` for the plugin `id`.
    pub(crate) fn insert(&mut self, id: &'static str, value: Arc<dyn Any + Send + Sync>) {
        self.0.insert(id, value);
    }

    /// What the plugin `id` keeps, if it is bound and keeps a `T`.
    pub(crate) fn get<T: Send + Sync + 'static>(&self, id: &str) -> Option<Arc<T>> {
        Arc::clone(self.0.get(id)?).downcast().ok()
    }
}

impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The data of a store.
pub(crate) struct SharedCtx {
    /// Handles the guest holds.
    pub(crate) table: ResourceTable,
    /// Who the guest is.
    pub(crate) item: Arc<ItemCtx>,
    pub(crate) limits: StoreLimits,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    _running: Option<RunningGuest>,
}

impl SharedCtx {
    pub(super) fn new(item: Arc<ItemCtx>, memory: &Arc<MemoryBudget>, running: Option<RunningGuest>) -> Self {
        let mut wasi = WasiCtxBuilder::new();
        wasi.envs(&item.environment)
            .stdout(GuestOutput::new(&item, OutputStreamName::Stdout))
            .stderr(GuestOutput::new(&item, OutputStreamName::Stderr));
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        Self {
            table,
            limits: StoreLimits::new(memory, item.memory_limit.map(ByteSize::as_usize)),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            hooks: Hooks::new(),
            item,
            _running: running,
        }
    }
}

impl WasiView for SharedCtx {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for SharedCtx {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

impl fmt::Debug for SharedCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCtx").field("item", &self.item).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl SharedCtx {
    /// A store's contents for tests of host functions: workload `workload`, component `component`.
    pub(crate) fn for_test(bindings: Bindings) -> Self {
        let item = ItemCtx {
            workload_id: WorkloadId::from("workload-id"),
            workload_name: Arc::from("workload"),
            workload_namespace: Arc::from("default"),
            component: ComponentName::from("component"),
            bindings,
            guest_log: Arc::new(GuestLog::new()),
            environment: Vec::new(),
            memory_limit: None,
        };
        Self::new(Arc::new(item), &Arc::new(MemoryBudget::of_machine()), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_prints_nothing_of_the_environment() {
        let mut ctx = SharedCtx::for_test(Bindings::default());
        if let Some(item) = Arc::get_mut(&mut ctx.item) {
            item.environment.push(("TOKEN".to_owned(), "hunter2".to_owned()));
        }
        let printed = format!("{ctx:?}");
        assert!(printed.contains("workload-id") && !printed.contains("hunter2"), "{printed}");
    }
}
