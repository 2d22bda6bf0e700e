//! `wasi:keyvalue`: the plugin, and who may open what.
//!
//! Workloads keep hold of one facade. Behind it are a backend and the host's rule about buckets, swapped together, so
//! that a reload of either is one store of a pointer. The memory backend belongs to the plugin and outlives swaps; a
//! NATS backend lives as long as its connection is that of the data plane.

mod backend;
#[cfg(test)]
mod conformance;
mod counter;
mod glue;
mod handles;
mod listing;
mod memory;
mod nats;
mod nats_key;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tracing::{info, warn};

use self::backend::{Bucket, Store, StoreError};
use self::memory::{Buckets, MemoryStore, Tenancy};
use self::nats::NatsStore;
use crate::config::{KeyvalueBackend, KeyvaluePlugin};
use crate::nats::DataClient;
use crate::plugin::builtin::Builtin;
use crate::plugin::facade::unused;
use crate::plugin::{BindError, BindRequest, Binding, Facade, GuestLinker, Health, HostPlugin};
use crate::plugin::{Means, NotReady, Retiring, Swap};
use crate::task::Shutdown;
use crate::types::WorkloadId;
use crate::wit::{ImportName, WitInterface, WitWorld};

const ID: &str = "wasi-keyvalue";

/// The plugin `wasi-keyvalue`.
#[derive(Debug)]
pub(super) struct WasiKeyvalue {
    memory: Arc<MemoryStore>,
    facade: Arc<Facade<Access>>,
}

/// What is behind the facade: all that `[plugins.wasi-keyvalue]` decides.
#[derive(Debug)]
struct Access {
    backend: Backend,
    memory: Arc<dyn Store>,
    allow_buckets: Vec<String>,
    since: SystemTime,
    /// Triggered when the time is over in which calls on a replaced backend may end.
    cut: Shutdown,
}

/// What keeps the values of whoever does not choose.
#[derive(Debug)]
enum Backend {
    Memory,
    /// The second one is the first one, as glue calls it.
    Nats(Arc<NatsStore>, Arc<dyn Store>),
}

/// What one call uses: it ends on it, whatever is swapped meanwhile.
#[derive(Debug)]
struct Lease {
    access: Arc<Access>,
    in_memory: bool,
}

/// What host functions find of one component.
#[derive(Debug)]
struct KeyvalueBinding {
    workload: WorkloadId,
    namespace: Arc<str>,
    /// The backend that the workload's entries ask for.
    chosen: Option<KeyvalueBackend>,
    /// The `buckets` of the workload's entries; `None` allows all.
    buckets: Option<BTreeSet<String>>,
    facade: Arc<Facade<Access>>,
    _tenancy: Tenancy,
}

/// What is to be behind the facade.
struct AccessSwap {
    memory: Arc<MemoryStore>,
    facade: Arc<Facade<Access>>,
    access: Access,
}

/// What was behind the facade: calls in flight still use it.
struct RetiringAccess {
    access: Arc<Access>,
    /// What the memory held, if that was left.
    lost: Vec<Buckets>,
}

impl WasiKeyvalue {
    fn access(memory: &Arc<MemoryStore>, settings: &KeyvaluePlugin, means: &Means) -> Access {
        let KeyvaluePlugin { backend, allow_buckets, bucket_prefix } = settings;
        let cut = Shutdown::default();
        let backend = match (backend, &means.data) {
            // Only the catalogue, which tells names, is made without a connection.
            (KeyvalueBackend::Memory, _) | (KeyvalueBackend::Nats, None) => Backend::Memory,
            (KeyvalueBackend::Nats, Some(data)) => {
                let store = Arc::new(NatsStore::new(data.clone(), bucket_prefix, cut.clone()));
                Backend::Nats(Arc::clone(&store), store)
            }
        };
        let memory: Arc<dyn Store> = Arc::<MemoryStore>::clone(memory);
        Access { backend, memory, allow_buckets: allow_buckets.clone(), since: SystemTime::now(), cut }
    }
}

impl Access {
    fn data(&self) -> Option<&DataClient> {
        match &self.backend {
            Backend::Memory => None,
            Backend::Nats(store, _) => Some(store.data()),
        }
    }

    async fn probe(&self) -> Result<(), NotReady> {
        match &self.backend {
            Backend::Memory => Ok(()),
            Backend::Nats(store, _) => store.probe().await,
        }
    }

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
    fn access(&self, bucket: &Bucket) -> Result<Lease, StoreError> {
        let access = self.facade.live();
        let in_entry = self.buckets.as_ref().is_none_or(|buckets| buckets.contains(&*bucket.name));
        if !in_entry || !access.allows(&bucket.name) {
            return Err(StoreError::AccessDenied);
        }
        let in_memory = match (self.chosen, &access.backend) {
            (Some(KeyvalueBackend::Memory), _) | (None, Backend::Memory) => true,
            (Some(KeyvalueBackend::Nats) | None, Backend::Nats(..)) => false,
            (Some(KeyvalueBackend::Nats), Backend::Memory) => {
                return Err(StoreError::Other("the host has no backend 'nats' any more".to_owned()));
            }
        };
        Ok(Lease { access, in_memory })
    }

    fn bucket(&self, name: String) -> Bucket {
        Bucket { workload: self.workload.clone(), namespace: Arc::clone(&self.namespace), name: Arc::from(name) }
    }
}

impl Lease {
    fn store(&self) -> &Arc<dyn Store> {
        match &self.access.backend {
            Backend::Nats(_, store) if !self.in_memory => store,
            Backend::Nats(..) | Backend::Memory => &self.access.memory,
        }
    }

    /// Waits until the call must end.
    async fn cut(&self) {
        self.access.cut.wait().await;
    }
}

impl Builtin for WasiKeyvalue {
    type Settings = KeyvaluePlugin;

    fn uses_nats(settings: &KeyvaluePlugin) -> bool {
        settings.backend == KeyvalueBackend::Nats
    }

    fn new(settings: &KeyvaluePlugin, means: &Means) -> Self {
        let memory = Arc::new(MemoryStore::default());
        let facade = Arc::new(Facade::new(Self::access(&memory, settings, means)));
        Self { memory, facade }
    }

    fn change(self: &Arc<Self>, settings: &KeyvaluePlugin, means: &Means) -> Box<dyn Swap> {
        let access = Self::access(&self.memory, settings, means);
        Box::new(AccessSwap { memory: Arc::clone(&self.memory), facade: Arc::clone(&self.facade), access })
    }
}

impl Swap for AccessSwap {
    fn ready(&mut self) -> BoxFuture<'_, Result<(), NotReady>> {
        self.access.probe().boxed()
    }

    fn commit(self: Box<Self>) -> Option<Box<dyn Retiring>> {
        let Self { memory, facade, access } = *self;
        let stays_in_memory = matches!(access.backend, Backend::Memory);
        let access = facade.swap(access);
        // A call in memory ends at once: none is in the middle of this.
        let leaves_memory = matches!(access.backend, Backend::Memory) && !stays_in_memory;
        let lost = if leaves_memory { memory.leave() } else { Vec::new() };
        if !lost.is_empty() {
            info!(plugin = ID, workloads = lost.len(), "left the memory backend: what it held is lost");
        }
        Some(Box::new(RetiringAccess { access, lost }))
    }
}

impl Retiring for RetiringAccess {
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, usize> {
        async move {
            let Self { access, lost } = *self;
            drop(lost);
            let forced = unused(&access, deadline).await;
            if forced > 0 {
                warn!(plugin = ID, forced, "calls on a replaced backend were cut");
            }
            access.cut.trigger();
            forced
        }
        .boxed()
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
        let mut chosen = None;
        let offered = self.facade.live();
        for entry in request.plain_entries(ID) {
            if let Some(backend) = entry.config.get("backend") {
                chosen = Some(choose(entry, backend, &offered.backend)?);
            }
            if let Some(list) = entry.config.get("buckets") {
                let names = list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
                buckets.get_or_insert_default().extend(names);
            }
        }
        Ok(Arc::new(KeyvalueBinding {
            workload: request.workload_id.clone(),
            namespace: Arc::from(request.workload_namespace),
            chosen,
            buckets,
            facade: Arc::clone(&self.facade),
            _tenancy: self.memory.join(request.workload_id, chosen == Some(KeyvalueBackend::Memory)),
        }))
    }

    fn health(&self) -> Health {
        let access = self.facade.live();
        match access.data() {
            Some(data) => Health::of_data(data, access.since),
            None => Health::ready(access.since),
        }
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        async { self.facade.live().probe().await }.boxed()
    }

    fn unbind(&self, _workload: &WorkloadId) {
        self.memory.sweep();
    }
}

/// An entry may choose among what the host has: memory always, and the backend of its settings.
fn choose(entry: &WitInterface, backend: &str, offered: &Backend) -> Result<KeyvalueBackend, BindError> {
    match (backend, offered) {
        ("in-memory" | "memory", _) => Ok(KeyvalueBackend::Memory),
        ("nats", Backend::Nats(..)) => Ok(KeyvalueBackend::Nats),
        (_, _) => {
            let package = format!("{}:{}", entry.namespace, entry.package);
            Err(BindError::SelectBackend { package, backend: backend.to_owned() })
        }
    }
}
