//! `wasmcloud:messaging`: the plugin, who may send where, and what delivers to whom.
//!
//! Components send through one facade; behind it are a broker and the host's rules, swapped together. What a component
//! subscribes to is an [`attachment`]: it belongs to the component, and a reload that changes the broker subscribes at
//! the new one, confirmed, before it leaves the old one.

mod admission;
mod attachment;
mod broker;
mod change;
mod entry;
mod glue;
mod glue_p3;
mod group;
mod inbox;
mod memory;
mod messenger;
mod nats;
mod outcome;
mod subject;
mod tap;
mod tenant;

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use self::admission::Gate;
use self::attachment::Subscribed;
use self::broker::{Link, LinkId};
use self::inbox::Inbox;
use self::memory::MemoryBroker;
use self::messenger::Messenger;
use self::nats::NatsBroker;
use self::outcome::Outcomes;
use self::tenant::Tenant;
use crate::config::{MessagingBackend, MessagingPlugin};
use crate::nats::DataClient;
use crate::plugin::builtin::Builtin;
use crate::plugin::guest::{Attach, Attaching};
use crate::plugin::{
    BindError, BindRequest, Binding, Facade, GuestLinker, Health, HostPlugin, Means, PluginCount, Swap,
};
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
    /// What the broker uses.
    data: Option<DataClient>,
    settings: MessagingPlugin,
    since: SystemTime,
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
        if let Some(known) = self.0.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        self.0.retain(|_, value| value.strong_count() > 0);
        let value = Arc::new(make());
        self.0.insert(key, Arc::downgrade(&value));
        value
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

    fn access(memory: &Arc<MemoryBroker>, settings: &MessagingPlugin, means: &Means) -> Access {
        let link = match (settings.backend, &means.data) {
            (MessagingBackend::Nats, Some(data)) => {
                Link::new(LinkId::Nats(data.id()), Arc::new(NatsBroker::new(data.clone())))
            }
            // Without a connection of the data plane this is what could be enabled, and nobody uses it.
            (MessagingBackend::Nats, None) | (MessagingBackend::Memory, _) => {
                Link::new(LinkId::Memory, Arc::clone(memory) as _)
            }
        };
        let data = means.data.clone().filter(|_| settings.backend == MessagingBackend::Nats);
        Access { link, data, settings: settings.clone(), since: SystemTime::now() }
    }

    /// Limits that have changed hold for what comes next.
    fn limit(&self, registry: &Registry, access: &Access) {
        let (host, component) = access.in_flight_max(registry.instances_max);
        self.host_gate.set_width(host);
        for attachment in registry.attachments.iter().filter_map(Weak::upgrade) {
            attachment.limit(component);
        }
    }

    fn attachments(&self) -> Vec<Arc<Subscribed>> {
        self.registry().attachments.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Builtin for WasmcloudMessaging {
    type Settings = MessagingPlugin;

    fn uses_nats(settings: &MessagingPlugin) -> bool {
        settings.backend == MessagingBackend::Nats
    }

    fn new(settings: &MessagingPlugin, means: &Means) -> Self {
        let memory = Arc::new(MemoryBroker::default());
        let access = Shared::access(&memory, settings, means);
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

    fn change(self: &Arc<Self>, settings: &MessagingPlugin, means: &Means) -> Box<dyn Swap> {
        let access = Shared::access(&self.0.memory, settings, means);
        Box::new(change::Change::new(Arc::clone(&self.0), access))
    }
}

impl HostPlugin for WasmcloudMessaging {
    fn id(&self) -> &'static str {
        ID
    }

    fn world(&self) -> WitWorld {
        let package = |minor: u64, interfaces: &[&str]| WitInterface {
            namespace: "wasmcloud".to_owned(),
            package: "messaging".to_owned(),
            interfaces: interfaces.iter().map(|&interface| interface.to_owned()).collect(),
            version: Some(semver::Version::new(0, minor, 0)),
            ..WitInterface::default()
        };
        let both = |interfaces: &[&str]| vec![package(2, interfaces), package(3, interfaces)];
        WitWorld { imports: both(&["consumer", "types"]), exports: both(&["handler"]) }
    }

    fn link(&self, linker: &mut GuestLinker, import: &ImportName) -> wasmtime::Result<()> {
        if is_async(import) { glue_p3::link(linker, import) } else { glue::link(linker, import) }
    }

    fn bind(&self, request: &BindRequest<'_>) -> Result<Binding, BindError> {
        for entry in request.plain_entries(ID) {
            if let Some(backend) = entry.config.get("backend") {
                check_backend(entry, backend, self.0.facade.live().settings.backend)?;
            }
        }
        Ok(Arc::new(Messenger {
            workload: request.workload_id.clone(),
            tenant: self.0.tenant(request.workload_id),
            facade: Arc::clone(&self.0.facade),
            _bus: self.0.memory.bus(request.workload_id),
        }))
    }

    fn attach(&self, attach: Attach) -> Attaching {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { Subscribed::attach(shared, attach).await.map(|subscribed| subscribed as _) })
    }

    fn counts(&self) -> Vec<PluginCount> {
        let counts = self.0.outcomes.counts();
        let count =
            |(outcome, value)| PluginCount { name: "messaging_messages", labels: vec![("outcome", outcome)], value };
        let shed = counts.iter().find(|(outcome, _)| *outcome == "shed").map_or(0, |(_, value)| *value);
        let shed = PluginCount { name: "messaging_admission_shed", labels: Vec::new(), value: shed };
        counts.into_iter().map(count).chain([shed]).collect()
    }

    fn health(&self) -> Health {
        let access = self.0.facade.live();
        match &access.data {
            Some(data) => Health::of_data(data, access.since),
            None => Health::ready(access.since),
        }
    }

    /// What is kept of a workload lives as long as its bindings.
    fn unbind(&self, _workload: &WorkloadId) {}
}

/// Whether it is of the version in which bodies are streams.
fn is_async(name: &ImportName) -> bool {
    name.version.as_ref().is_some_and(|version| version.minor >= 3)
}

fn as_usize(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

/// An entry may choose its backend, but only the one that the host has.
fn check_backend(entry: &WitInterface, backend: &str, own: MessagingBackend) -> Result<(), BindError> {
    match (backend, own) {
        ("in-memory" | "memory", MessagingBackend::Memory) | ("nats", MessagingBackend::Nats) => Ok(()),
        _ => {
            let package = format!("{}:{}", entry.namespace, entry.package);
            Err(BindError::SelectBackend { package, backend: backend.to_owned() })
        }
    }
}
