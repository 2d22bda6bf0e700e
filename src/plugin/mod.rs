//! Plugins: Rust code that serves WIT interfaces to guests, one glue per interface over a backend.
//!
//! A [`PluginSet`] is a value: which interface is served by which plugin. Host functions find what they need through
//! the store, [`Bindings`](crate::engine::ctx::Bindings) by plugin id, and capture nothing; so linkers and
//! pre-instances are shared by all workloads of one artifact whose imports the same plugins serve.
//!
//! A reload makes another set, in which a plugin that stays is the same `Arc`. Its other settings become live by one
//! store of a pointer, behind the [`Facade`] that host functions read once per call; no workload notices. Where a
//! plugin comes or goes, the workloads that import something of it are linked again. The connection of the data plane is
//! lent to plugins ([`Means`]); another connection is another setting of those that use it.
//!
//! A plugin that calls guests is given a [`GuestTarget`](guest::GuestTarget) for each component, which the room above
//! implements; what it subscribes for a component lives as long as that component, through every reload.
//!
//! Absent on purpose: any knowledge of how workloads live. No plugin imports another.

mod builtin;
mod facade;
pub(crate) mod guest;
mod set;
mod swap;
#[cfg(test)]
mod tests;
mod wasi_config;
mod wasi_keyvalue;
mod wasi_logging;
mod wasmcloud_messaging;

pub(crate) use facade::Facade;
pub(crate) use set::{PluginSet, SetChange};
use swap::Unchanged;
pub(crate) use swap::{Health, Means, NotReady, PluginState, Retiring, Swap};

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::engine::ctx::SharedCtx;
use crate::types::{ComponentName, LocalResources, WorkloadId};
use crate::wit::{ImportName, WitInterface, WitWorld};

use crate::plugin::guest::{Attach, AttachError, Attaching};

/// What host functions are added to.
pub(crate) type GuestLinker = wasmtime::component::Linker<SharedCtx>;

/// A component that can be instantiated, the store of an instance, and the instance.
pub(crate) type GuestPre = wasmtime::component::InstancePre<SharedCtx>;
pub(crate) type GuestStore = wasmtime::Store<SharedCtx>;
pub(crate) type GuestInstance = wasmtime::component::Instance;

/// What a plugin keeps of one component: host functions find it through the store, by plugin id.
pub(crate) type Binding = Arc<dyn Any + Send + Sync>;

/// Serves interfaces to guests. No method blocks, and none but [`probe`](Self::probe) waits.
pub(crate) trait HostPlugin: fmt::Debug + Send + Sync + 'static {
    /// Unique in a host: the table of its settings, `[plugins.<id>]`.
    fn id(&self) -> &'static str;

    /// `imports` is what it provides, with versions; `exports` what it calls on guests. Always the same.
    fn world(&self) -> WitWorld;

    /// Whether it serves `import` exactly as the component spells it.
    fn serves(&self, import: &ImportName) -> bool {
        self.world().imports.iter().any(|offered| import.is_in(offered))
    }

    /// Adds the host functions of one interface that it [`serves`](Self::serves): once per linker and interface.
    ///
    /// Nothing of the plugin may be captured, because linkers outlive settings and are shared by workloads.
    fn link(&self, linker: &mut GuestLinker, import: &ImportName) -> wasmtime::Result<()>;

    /// Called for each component that uses the plugin, before the component's first store is made.
    ///
    /// A workload's state lives as long as one of its bindings: a workload that is replaced under the same id, or
    /// linked again, finds it again.
    fn bind(&self, request: &BindRequest<'_>) -> Result<Binding, BindError>;

    /// Whether it calls `export` of guests, exactly as the component spells it.
    fn calls(&self, export: &ImportName) -> bool {
        self.world().exports.iter().any(|called| export.is_in(called))
    }

    /// Called for each component with exports that it [`calls`](Self::calls), after [`bind`](Self::bind), once per
    /// version of the workload. Yields when whoever sends what is delivered has confirmed it; then the workload may
    /// say that it runs. Dropping the future, or what it yields, undoes all of it.
    fn attach(&self, attach: Attach) -> Attaching {
        drop(attach);
        Box::pin(futures::future::ready(Err(AttachError::NoCalls(self.id()))))
    }

    /// What it has counted since it is on, for metrics.
    fn counts(&self) -> Vec<PluginCount> {
        Vec::new()
    }

    /// Whether it can do its work now.
    fn health(&self) -> Health;

    /// Finds out whether it could do its work: asked of one that a reload adds, before it is live.
    fn probe(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        std::future::ready(Ok(())).boxed()
    }

    /// The workload is gone and its bindings are dropped. Harmless when repeated or when nothing was bound.
    fn unbind(&self, workload: &WorkloadId);
}

/// One series of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginCount {
    /// One of the metrics that `telemetry` lists.
    pub(crate) name: &'static str,
    pub(crate) labels: Vec<(&'static str, &'static str)>,
    pub(crate) value: u64,
}

/// One component that uses a plugin.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "names are for plugins that name things after workloads: queue groups, buckets, labels")]
pub(crate) struct BindRequest<'a> {
    pub(crate) workload_id: &'a WorkloadId,
    pub(crate) workload_name: &'a str,
    pub(crate) workload_namespace: &'a str,
    pub(crate) component: &'a ComponentName,
    /// The workload's entries that name an interface of the plugin which the component imports or exports.
    pub(crate) entries: &'a [WitInterface],
    pub(crate) local_resources: &'a LocalResources,
}

impl<'a> BindRequest<'a> {
    /// The entries that a plain import uses: those without a name, or named as the plugin that `id` is.
    pub(crate) fn plain_entries(&self, id: &'static str) -> impl Iterator<Item = &'a WitInterface> {
        self.entries.iter().filter(move |entry| entry.name.as_deref().is_none_or(|name| name == id))
    }
}

/// Why a component cannot use a plugin as it asks to: the workload is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BindError {
    /// An entry's `config.backend` names nothing we have.
    #[error("no {package} provider registered for backend '{backend}'")]
    SelectBackend {
        /// `namespace:package` of the entry.
        package: String,
        /// What it asked for.
        backend: String,
    },
}
