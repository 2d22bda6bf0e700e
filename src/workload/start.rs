//! Building a workload: validate, pull, compile, plan, link, bind. Nothing here is visible to anyone until it is published.

use std::sync::Arc;

use futures::future::{try_join, try_join_all};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::artifact::{ArtifactRequest, Artifacts};
use crate::engine::compile::Compiled;
use crate::engine::link::{self, LinkError, Linked};
use crate::engine::plan::{self, PluginImport};
use crate::engine::stdio::GuestLog;
use crate::engine::{Bindings, ItemCtx};
use crate::plugin::{BindRequest, PluginSet};
use crate::types::{ComponentSpec, PullPolicy, VolumeKind, WorkloadId, WorkloadOrigin, WorkloadSpec};
use crate::wit::{ImportName, WitInterface};
use crate::workload::binding::{ParsedBinding, parse_binding};
use crate::workload::error::StartError;
use crate::workload::http::{HttpBinding, HttpTarget as _};
use crate::workload::ignored::warn_without_effect;
use crate::workload::offers::OffersOf;
use crate::workload::route::Route;
use crate::workload::service::{Service, as_component};
use crate::workload::trigger::Trigger;
use crate::workload::{Settings, Workloads};

/// Whether a start asks the registry as its workload wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pull {
    /// It does.
    AsAsked,
    /// What ran before runs again: what is cached is taken unasked.
    CachedFirst,
}

impl Pull {
    fn policy(self, asked: PullPolicy) -> PullPolicy {
        match (self, asked) {
            (Self::AsAsked, asked) | (Self::CachedFirst, asked @ PullPolicy::Never) => asked,
            (Self::CachedFirst, PullPolicy::Unspecified | PullPolicy::Always | PullPolicy::IfNotPresent) => {
                PullPolicy::IfNotPresent
            }
        }
    }
}

/// A workload that could serve: everything resolved, nothing published.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) id: WorkloadId,
    pub(crate) spec: Arc<WorkloadSpec>,
    pub(crate) compiled: CompiledParts,
    /// What it was linked against.
    pub(crate) plugins: Arc<PluginSet>,
    /// Which plugin serves which of its imports.
    pub(crate) served: Vec<(&'static str, ImportName)>,
    /// Set if a component takes requests.
    pub(crate) route: Option<Routed>,
    /// Components that plugins call.
    pub(super) triggers: Vec<Trigger>,
    /// Set if it has one.
    pub(super) service: Option<Service>,
    /// Kept so that what another component of the workload is bound to lives as long as the workload.
    _items: Vec<Item>,
}

impl Assembled {
    /// Calls of its components that are not over.
    pub(crate) fn in_flight(&self) -> usize {
        let called: usize = self.triggers.iter().map(Trigger::in_flight).sum();
        self.route.as_ref().map_or(0, |(_binding, route)| route.in_flight()).saturating_add(called)
    }

    /// Lets its work in flight end by `deadline`; says how many calls were cut. `goes_on`: another version of the same
    /// workload takes over what plugins deliver.
    pub(super) async fn drain(&self, deadline: Instant, goes_on: bool) -> usize {
        let requests = async {
            match &self.route {
                Some((_binding, route)) => route.drain(deadline).await,
                None => 0,
            }
        };
        let (requests, called) = tokio::join!(requests, self.drain_triggers(deadline, goes_on));
        requests.saturating_add(called)
    }
}

/// What a workload is built with: what is live, or what is about to be.
#[derive(Debug, Clone)]
pub(crate) struct Basis {
    pub(crate) plugins: Arc<PluginSet>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) artifacts: Artifacts,
}

/// The code of a workload.
#[derive(Debug, Clone)]
pub(crate) struct CompiledParts {
    /// In the order of the components.
    pub(crate) components: Vec<Arc<Compiled>>,
    pub(crate) service: Option<Arc<Compiled>>,
}

/// What requests a workload asks for, and what answers them.
pub(crate) type Routed = (HttpBinding, Arc<Route>);

/// One component, linked and bound.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) linked: Arc<Linked>,
    pub(super) ctx: Arc<ItemCtx>,
}

/// What can be told from the spec alone.
pub(crate) fn validate(spec: &WorkloadSpec) -> Result<(), StartError> {
    for volume in &spec.volumes {
        if let (WorkloadOrigin::Placed, VolumeKind::HostPath(host_path)) = (spec.origin, &volume.kind) {
            return Err(StartError::HostPath(host_path.local_path.display().to_string()));
        }
    }
    let of_service = spec.service.iter().map(|service| &service.local_resources);
    let mut resources = spec.components.iter().map(|component| &component.local_resources).chain(of_service);
    if resources.any(|resources| !resources.volume_mounts.is_empty()) {
        return Err(StartError::NotImplemented("mounting volumes"));
    }
    for (index, component) in spec.components.iter().enumerate() {
        if spec.components.iter().take(index).any(|other| other.name == component.name) {
            return Err(StartError::DuplicateComponent(component.name.clone()));
        }
    }
    Ok(())
}

impl Workloads {
    /// Pulls and compiles everything at once, then assembles it and attaches what plugins call.
    pub(crate) async fn build(
        &self,
        id: &WorkloadId,
        spec: &Arc<WorkloadSpec>,
        basis: &Basis,
        pull: Pull,
    ) -> Result<Assembled, StartError> {
        validate(spec)?;
        let artifacts = &basis.artifacts;
        let compile = spec.components.iter().map(|component| self.compile(component, artifacts, pull));
        let service = self.compile_service(spec.service.as_ref(), basis, pull);
        let (components, service) = try_join(try_join_all(compile), service).await?;
        let assembled = self.assemble(id, spec, CompiledParts { components, service }, basis)?;
        assembled.attach(None).await?;
        assembled.prepare_service().await?;
        Ok(assembled)
    }

    pub(super) async fn compile(
        &self,
        component: &ComponentSpec,
        artifacts: &Artifacts,
        pull: Pull,
    ) -> Result<Arc<Compiled>, StartError> {
        let request = ArtifactRequest {
            source: &component.image,
            policy: pull.policy(component.pull_policy),
            secret: component.pull_secret.as_ref(),
        };
        let artifact = artifacts
            .get(request)
            .await
            .map_err(|cause| StartError::Pull { component: component.name.clone(), cause })?;
        // Held for the compile only: a registry that hangs takes no turn from others.
        let _turn = self.compile_turn().await.ok_or(StartError::HostStopping)?;
        self.engine()
            .compile(&artifact.digest.to_string(), artifact.bytes)
            .await
            .map_err(|cause| StartError::Compile { component: component.name.clone(), cause })
    }

    /// Plans, links and binds compiled components against `plugins`: no I/O, a few hundred microseconds each.
    pub(crate) fn assemble(
        &self,
        id: &WorkloadId,
        spec: &Arc<WorkloadSpec>,
        compiled: CompiledParts,
        basis: &Basis,
    ) -> Result<Assembled, StartError> {
        let Basis { plugins, settings, artifacts: _ } = basis;
        warn_without_effect(id, spec);
        let guest_log = Arc::new(GuestLog::new());
        let memory_limit = settings.limits.memory;
        let mut items = Vec::with_capacity(compiled.components.len() + 1);
        let mut served = Vec::new();
        let mut triggers = Vec::new();
        let service = spec.service.as_ref().map(as_component);
        let codes = compiled.components.iter().chain(&compiled.service);
        for (component, compiled) in spec.components.iter().chain(&service).zip(codes) {
            let offers = OffersOf { plugins, entries: &spec.host_interfaces };
            let planned = plan::plan(&component.name, &compiled.inspected, &offers)?;
            let linked = self.link(component, compiled, plugins, &planned)?;
            let bindings = bind(id, spec, component, plugins, &planned)?;
            let item = Arc::new(ItemCtx {
                workload_id: id.clone(),
                workload_name: Arc::from(spec.name.as_str()),
                workload_namespace: Arc::from(spec.namespace.as_str()),
                component: component.name.clone(),
                bindings,
                guest_log: Arc::clone(&guest_log),
                environment: component.local_resources.environment.clone().into_iter().collect(),
                memory_limit: component.local_resources.memory_limit.or(memory_limit),
            });
            served.extend(planned.into_iter().filter_map(|planned| {
                plugins.plugins().get(planned.plugin).map(|plugin| (plugin.id(), planned.import))
            }));
            let item = Item { linked, ctx: item };
            if items.len() < spec.components.len() {
                triggers.extend(self.triggers_of(
                    (id, spec),
                    component,
                    &compiled.inspected.exports,
                    &item,
                    plugins,
                )?);
            }
            items.push(item);
        }
        let service = match (&spec.service, &compiled.service, items.len() > spec.components.len()) {
            (Some(spec), Some(compiled), true) => {
                items.pop().map(|item| Service::new(self.engine(), spec, compiled, item)).transpose()?
            }
            _ => None,
        };
        let route = self.route_of(id, spec, &items, settings)?;
        Ok(Assembled {
            id: id.clone(),
            spec: Arc::clone(spec),
            compiled,
            plugins: Arc::clone(plugins),
            served,
            route,
            triggers,
            service,
            _items: items,
        })
    }

    /// A workload is routed if one of its entries asks for requests and one of its components takes them.
    fn route_of(
        &self,
        id: &WorkloadId,
        spec: &WorkloadSpec,
        items: &[Item],
        settings: &Settings,
    ) -> Result<Option<Routed>, StartError> {
        let entry = spec.host_interfaces.iter().find(|entry| entry.is_incoming_http_handler());
        let mut handlers = items.iter().filter(|item| item.linked.http.is_some());
        let (entry, handler) = match (entry, handlers.next()) {
            (Some(entry), Some(handler)) => (entry, handler),
            (Some(_entry), None) => {
                warn!(workload.id = %id, "no component of the workload exports a wasi:http handler: nothing is routed to it");
                return Ok(None);
            }
            (None, Some(_handler)) => {
                warn!(workload.id = %id, "a component exports a wasi:http handler, but no wasi:http entry of the workload routes to it");
                return Ok(None);
            }
            (None, None) => return Ok(None),
        };
        for further in handlers {
            warn!(workload.id = %id, component = %further.ctx.component, "only the first exporter of a wasi:http handler is routed to");
        }
        let ParsedBinding { binding, dropped_aliases } = parse_binding(&entry.config)?;
        if !dropped_aliases.is_empty() {
            warn!(workload.id = %id, dropped = ?dropped_aliases, "aliases that are no host names are ignored");
        }
        let timeout = settings.limits.call_timeout;
        let route = Route::new(self.engine().clone(), Arc::clone(&handler.ctx), Arc::clone(&handler.linked), timeout);
        Ok(Some((binding, Arc::new(route))))
    }

    fn link(
        &self,
        component: &ComponentSpec,
        compiled: &Compiled,
        plugins: &PluginSet,
        planned: &[PluginImport],
    ) -> Result<Arc<Linked>, StartError> {
        let failed = |cause| StartError::Link { component: component.name.clone(), cause };
        self.linked().get_or_link(compiled, plugins, planned, || {
            let mut linker = self.engine().linker();
            for PluginImport { import, plugin } in planned {
                if let Some(plugin) = plugins.plugins().get(*plugin) {
                    plugin.link(&mut linker, import).map_err(|error| failed(LinkError::Import(error.into())))?;
                }
            }
            link::link(&linker, compiled).map(Arc::new).map_err(failed)
        })
    }
}

fn bind(
    id: &WorkloadId,
    spec: &WorkloadSpec,
    component: &ComponentSpec,
    plugins: &PluginSet,
    planned: &[PluginImport],
) -> Result<Bindings, StartError> {
    let mut bindings = Bindings::default();
    for (index, plugin) in plugins.plugins().iter().enumerate() {
        let imports: Vec<&ImportName> =
            planned.iter().filter(|planned| planned.plugin == index).map(|planned| &planned.import).collect();
        if imports.is_empty() {
            continue;
        }
        let entries: Vec<WitInterface> = spec
            .host_interfaces
            .iter()
            .filter(|entry| imports.iter().any(|import| import.is_asked_for_by(entry)))
            .cloned()
            .collect();
        let request = BindRequest {
            workload_id: id,
            workload_name: &spec.name,
            workload_namespace: &spec.namespace,
            component: &component.name,
            entries: &entries,
            local_resources: &component.local_resources,
        };
        let bound = plugin.bind(&request).map_err(|cause| StartError::Bind {
            plugin: plugin.id(),
            component: component.name.clone(),
            cause,
        })?;
        bindings.insert(plugin.id(), bound);
    }
    Ok(bindings)
}

/// Logs what was assembled, once it is published.
pub(crate) fn log_started(assembled: &Assembled, took_ms: u64) {
    let digests: Vec<&str> = assembled
        .compiled
        .components
        .iter()
        .chain(&assembled.compiled.service)
        .map(|compiled| &*compiled.digest)
        .collect();
    info!(workload.id = %assembled.id, workload.name = %assembled.spec.name, digests = ?digests, took_ms, "workload started");
    if let Some((binding, _route)) = &assembled.route {
        debug!(workload.id = %assembled.id, hosts = ?binding.hosts, path = %binding.path, "workload routed");
    }
}
