//! What a store holds (a stub until the engine comes).

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::ResourceTable;

use crate::types::{ComponentName, WorkloadId};

/// The `T` of `Store<T>`.
#[derive(Debug)]
pub(crate) struct SharedCtx {
    pub(crate) table: ResourceTable,
    pub(crate) item: Arc<ItemCtx>,
}

/// Prebuilt once per workload and component, shared by all its stores.
#[derive(Debug)]
pub(crate) struct ItemCtx {
    pub(crate) workload_id: WorkloadId,
    pub(crate) workload_name: Arc<str>,
    pub(crate) workload_namespace: Arc<str>,
    pub(crate) component: ComponentName,
    pub(crate) bindings: Bindings,
    pub(crate) guest_log: Arc<GuestLog>,
}

/// What each plugin's `bind` returned, by plugin id.
#[derive(Debug, Default)]
pub(crate) struct Bindings(BTreeMap<&'static str, Arc<dyn Any + Send + Sync>>);

impl Bindings {
    pub(crate) fn insert(&mut self, id: &'static str, binding: Arc<dyn Any + Send + Sync>) {
        self.0.insert(id, binding);
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self, id: &str) -> Option<Arc<T>> {
        Arc::clone(self.0.get(id)?).downcast().ok()
    }
}

/// The rate limit of guest output.
#[derive(Debug, Default)]
pub(crate) struct GuestLog;

impl GuestLog {
    pub(crate) fn admit(&self) -> bool {
        true
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
            guest_log: Arc::new(GuestLog),
        };
        Self { table: ResourceTable::new(), item: Arc::new(item) }
    }
}
