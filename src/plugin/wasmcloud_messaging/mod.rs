//! `wasmcloud:messaging`: the plugin, who may send where, and what delivers to whom.
//!
//! Components send through one facade; behind it are a broker and the host's rules, swapped together. What a component
//! subscribes to is an [`attachment`]: it belongs to the component, and a reload that changes the broker subscribes at
//! the new one, confirmed, before it leaves the old one.

mod admission;
mod attachment;
mod broker;
mod entry;
mod glue;
mod group;
mod inbox;
mod memory;
mod messenger;
mod outcome;
mod subject;
mod tenant;

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use self::admission::Gate;
use self::attachment::Subscribed;
use self::broker::{Broker as _, Link};
use self::inbox::Inbox;
use self::memory::MemoryBroker;
use self::messenger::Messenger;
use self::outcome::Outcomes;
use self::tenant::Tenant;
use crate::config::{MessagingBackend, MessagingPlugin};
use crate::plugin::builtin::{Builtin, Swap};
use crate::plugin::guest::{Attach, Attaching};
use crate::plugin::{BindError, BindRequest, Binding, Facade, GuestLinker, HostPlugin};
use crate::types::{ComponentName, WorkloadId};
use crate::wit::{ImportName, WitInterface, WitWorld};

const ID: &str = "wasmcloud-messaging";

/// Messages in flight host-wide, where nothing tells how many instances there may be.
const IN_FLIGHT: usize = 128;
/// However many instances there may be.
const IN_FLIGHT_RANGE: (usize, usize) = (8, 4096);

/// The plugin `wasmcloud-messaging`.
#[derive(Debug)]
pub(super) struct WasmcloudMessaging(Arc<Shared>);

/// What attachments and bindings hold on to.
#[derive(Debug)]
struct Shared {
    memory: Arc<MemoryBroker>,
    facade: Arc<Facade<Access>>,
    host_gate: Arc<Gate>,
    outcomes: Arc<Outcomes>,
    tenants: Mutex<Known<WorkloadId, Tenant>>,
    registry: Mutex<Registry>,
}

/// Who is attached.
#[derive(Debug, Default)]
struct Registry {
    inboxes: Known<(WorkloadId, ComponentName), Inbox>,
    attachments: Vec<Weak<Subscribed>>,
    /// What the instances of the host are: set by the first component that is attached.
    instances_max: Option<usize>,
}

/// What is behind the facade: all that `[plugins.wasmcloud-messaging]` decides.
#[derive(Debug)]
pub(super) struct Access {
    link: Link,
    settings: MessagingPlugin,
}

/// What lives as long as somebody holds it, by key.
#[derive(Debug)]
struct Known<K, V>(HashMap<K, Weak<V>>);

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V> Known<K, V> {
    fn get_or_make(&mut self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        self.0.retain(|_, value| value.strong_count() > 0);
        let known = self.0.get(&key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let value = Arc::new(make());
            self.0.insert(key, Arc::downgrade(&value));
            value
        })
    }
}

impl Access {
    /// The rule that keeps guests from what the pattern matches.
    fn denies(&self, pattern: &str) -> Option<&str> {
        let mut rules = self.settings.deny_subjects.iter();
        rules.find(|rule| subject::overlap(rule, pattern)).map(String::as_str)
    }

    /// Messages in flight, host-wide and per component.
    fn in_flight_max(&self, instances_max: Option<usize>) -> (usize, usize) {
        let (least, most) = IN_FLIGHT_RANGE;
        let derived = instances_max.map_or(IN_FLIGHT, |instances| (instances / 5 * 2 / 3).clamp(least, most));
        let host = self.settings.max_in_flight.map_or(derived, as_usize);
        let component = self.settings.max_in_flight_per_component.map_or(host / 4, as_usize);
        (host, component.clamp(1, host))
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tenant(&self, workload: &WorkloadId) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get_or_make(workload.clone(), Tenant::default)
    }

    fn link(memory: &Arc<MemoryBroker>, settings: &MessagingPlugin) -> Link {
        match settings.backend {
            MessagingBackend::Memory | MessagingBackend::Nats => Link { broker: Arc::clone(memory) as _ },
        }
    }

    /// Limits that have changed hold for what comes next.
    fn limit(&self, registry: &Registry, access: &Access) {
        let (host, component) = access.in_flight_max(registry.instances_max);
        self.host_gate.set_width(host);
        for attachment in registry.attachments.iter().filter_map(Weak::upgrade) {
            attachment.limit(component);
        }
    }
}

impl Builtin for WasmcloudMessaging {
    type Settings = MessagingPlugin;

    fn new(settings: &MessagingPlugin) -> Self {
        let memory = Arc::new(MemoryBroker::default());
        let access = Access { link: Shared::link(&memory, settings), settings: settings.clone() };
        let (host, _component) = access.in_flight_max(None);
        Self(Arc::new(Shared {
            memory,
            facade: Arc::new(Facade::new(access)),
            host_gate: Arc::new(Gate::new(host)),
            outcomes: Arc::default(),
            tenants: Mutex::default(),
            registry: Mutex::default(),
        }))
    }

    fn change(self: &Arc<Self>, settings: &MessagingPlugin) -> Swap {
        let shared = Arc::clone(&self.0);
        let access = Access { link: Shared::link(&shared.memory, settings), settings: settings.clone() };
        Box::new(move || {
            let registry = shared.registry();
            shared.limit(&registry, &access);
            drop(shared.facade.swap(access));
        })
    }
}

impl HostPlugin for WasmcloudMessaging {
    fn id(&self) -> &'static str {
        ID
    }

    fn world(&self) -> WitWorld {
        let package = |interfaces: &[&str]| WitInterface {
            namespace: "wasmcloud".to_owned(),
            package: "messaging".to_owned(),
            interfaces: interfaces.iter().map(|&interface| interface.to_owned()).collect(),
            version: Some(semver::Version::new(0, 2, 0)),
            ..WitInterface::default()
        };
        WitWorld { imports: vec![package(&["consumer", "types"])], exports: vec![package(&["handler"])] }
    }

    fn link(&self, linker: &mut GuestLinker, import: &ImportName) -> wasmtime::Result<()> {
        glue::link(linker, import)
    }

    fn bind(&self, request: &BindRequest<'_>) -> Result<Binding, BindError> {
        for entry in request.plain_entries(ID) {
            if let Some(backend) = entry.config.get("backend") {
                check_backend(entry, backend)?;
            }
        }
        Ok(Arc::new(Messenger {
            workload: request.workload_id.clone(),
            tenant: self.0.tenant(request.workload_id),
            facade: Arc::clone(&self.0.facade),
        }))
    }

    fn attach(&self, attach: Attach) -> Attaching {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { Subscribed::attach(shared, attach).await.map(|subscribed| subscribed as _) })
    }

    fn unbind(&self, workload: &WorkloadId) {
        self.0.memory.forget(workload);
    }
}

fn as_usize(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

/// An entry may choose its backend, but only the one that the host has.
fn check_backend(entry: &WitInterface, backend: &str) -> Result<(), BindError> {
    if matches!(backend, "in-memory" | "memory") {
        return Ok(());
    }
    let package = format!("{}:{}", entry.namespace, entry.package);
    Err(BindError::SelectBackend { package, backend: backend.to_owned() })
}
