//! `wasi:keyvalue`: the plugin, and who may open what.
//!
//! Workloads keep hold of one facade. Behind it are a backend and the host's rule about buckets, swapped together, so
//! that a reload of either is one store of a pointer. The memory backend belongs to the plugin and outlives swaps.

mod backend;
#[cfg(test)]
mod conformance;
mod glue;
mod memory;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use self::backend::{Bucket, Store, StoreError};
use self::memory::{MemoryStore, Tenancy};
use crate::config::{KeyvalueBackend, KeyvaluePlugin};
use crate::plugin::builtin::Builtin;
use crate::plugin::{BindError, BindRequest, Binding, Facade, GuestLinker, Health, HostPlugin, Means, Retiring, Swap};
use crate::types::WorkloadId;
use crate::wit::{ImportName, WitInterface, WitWorld};

const ID: &str = "wasi-keyvalue";

/// The plugin `wasi-keyvalue`.
#[derive(Debug)]
pub(super) struct WasiKeyvalue {
    memory: Arc<MemoryStore>,
    facade: Arc<Facade<Access>>,
    since: SystemTime,
}

/// What is behind the facade: all that `[plugins.wasi-keyvalue]` decides.
#[derive(Debug)]
struct Access {
    store: Arc<dyn Store>,
    allow_buckets: Vec<String>,
}

/// What host functions find of one component.
#[derive(Debug)]
struct KeyvalueBinding {
    workload: WorkloadId,
    /// The `buckets` of the workload's entries; `None` allows all.
    buckets: Option<BTreeSet<String>>,
    facade: Arc<Facade<Access>>,
    _tenancy: Tenancy,
}

impl WasiKeyvalue {
    fn access(memory: &Arc<MemoryStore>, settings: &KeyvaluePlugin) -> Access {
        let KeyvaluePlugin { backend, allow_buckets } = settings;
        let store: Arc<dyn Store> = match backend {
            KeyvalueBackend::Memory => Arc::<MemoryStore>::clone(memory),
        };
        Access { store, allow_buckets: allow_buckets.clone() }
    }
}

impl Access {
    /// Whether the host lets anyone open this bucket: a rule is a name, or how it begins and a `*`.
    fn allows(&self, bucket: &str) -> bool {
        self.allow_buckets.iter().any(|rule| match rule.strip_suffix('*') {
            Some(beginning) => bucket.starts_with(beginning),
            None => bucket == rule,
        })
    }
}

impl KeyvalueBinding {
    /// What to use for one call on this bucket, if both host and workload allow it.
    fn access(&self, bucket: &Bucket) -> Result<Arc<Access>, StoreError> {
        let access = self.facade.live();
        let in_entry = self.buckets.as_ref().is_none_or(|buckets| buckets.contains(&*bucket.name));
        if in_entry && access.allows(&bucket.name) { Ok(access) } else { Err(StoreError::AccessDenied) }
    }
}

impl Builtin for WasiKeyvalue {
    type Settings = KeyvaluePlugin;

    fn new(settings: &KeyvaluePlugin, _means: &Means) -> Self {
        let memory = Arc::new(MemoryStore::default());
        let facade = Arc::new(Facade::new(Self::access(&memory, settings)));
        Self { memory, facade, since: SystemTime::now() }
    }

    fn change(self: &Arc<Self>, settings: &KeyvaluePlugin, _means: &Means) -> Box<dyn Swap> {
        Box::new(AccessSwap { facade: Arc::clone(&self.facade), access: Self::access(&self.memory, settings) })
    }
}

/// What is to be behind the facade.
struct AccessSwap {
    facade: Arc<Facade<Access>>,
    access: Access,
}

impl Swap for AccessSwap {
    fn commit(self: Box<Self>) -> Option<Box<dyn Retiring>> {
        let Self { facade, access } = *self;
        drop(facade.swap(access));
        None
    }
}

impl HostPlugin for WasiKeyvalue {
    fn id(&self) -> &'static str {
        ID
    }

    fn world(&self) -> WitWorld {
        let keyvalue = WitInterface {
            namespace: "wasi".to_owned(),
            package: "keyvalue".to_owned(),
            interfaces: ["atomics", "batch", "store"].map(str::to_owned).into(),
            version: semver::Version::parse("0.2.0-draft").ok(),
            ..WitInterface::default()
        };
        WitWorld { imports: vec![keyvalue], exports: Vec::new() }
    }

    fn link(&self, linker: &mut GuestLinker, import: &ImportName) -> wasmtime::Result<()> {
        glue::link(linker, import)
    }

    fn bind(&self, request: &BindRequest<'_>) -> Result<Binding, BindError> {
        let mut buckets: Option<BTreeSet<String>> = None;
        for entry in request.plain_entries(ID) {
            if let Some(backend) = entry.config.get("backend") {
                check_backend(entry, backend)?;
            }
            if let Some(list) = entry.config.get("buckets") {
                let names = list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
                buckets.get_or_insert_default().extend(names);
            }
        }
        Ok(Arc::new(KeyvalueBinding {
            workload: request.workload_id.clone(),
            buckets,
            facade: Arc::clone(&self.facade),
            _tenancy: self.memory.join(request.workload_id),
        }))
    }

    fn health(&self) -> Health {
        Health::ready(self.since)
    }

    fn unbind(&self, _workload: &WorkloadId) {
        self.memory.sweep();
    }
}

/// An entry may choose its backend; memory is the one there is.
fn check_backend(entry: &WitInterface, backend: &str) -> Result<(), BindError> {
    if matches!(backend, "in-memory" | "memory") {
        return Ok(());
    }
    let package = format!("{}:{}", entry.namespace, entry.package);
    Err(BindError::SelectBackend { package, backend: backend.to_owned() })
}
