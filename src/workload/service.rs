//! The service of a workload: built with its components, run as long as it runs, started again when it fails.
//!
//! ```text
//!  assemble: ServiceParts --> prepare: the first instance --> published: a task supervises it
//!
//!   run --- ended well ---------------------> the workload is completed
//!    ^ \--- failed, restarts left --> pause -+
//!    |  \-- failed, none left ---------------|--> the workload failed
//!    +---------------------------------------+
//! ```
//!
//! A relink hands the task on: other parts, the same budget. Stopping ends it by dropping the instance, for which no
//! guest can make us wait.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tracing::warn;

use crate::artifact::ArtifactError;
use crate::engine::command::{Command, CommandPre, RunError};
use crate::engine::compile::{CompileError, Compiled};
use crate::engine::{Engine, ItemCtx, Linked};
use crate::error::Blame;
use crate::task::{self, Shutdown};
use crate::types::{ComponentName, ComponentSpec, ServiceSpec, WorkloadId};
use crate::wit::ImportName;
use crate::workload::Workloads;
use crate::workload::error::StartError;
use crate::workload::start::{Assembled, Basis, Item, Pull};
use crate::workload::supervise::{Budget, Supervisor};
use crate::workload::table::StartNumber;

/// How it is called where components have their names.
const NAME: &str = "service";

/// How long it waits for a place among the host's instances, as a request does.
const INSTANCE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long its initialisers may run: as long as a compile, the other part of a start that has nothing to show.
const INSTANTIATE_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a stop waits for the instance to be dropped: it is told at the guest's next tick, milliseconds away.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// Why a workload cannot start with its service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("failed to pull image for the workload service")]
    Pull(#[source] ArtifactError),
    #[error("failed to compile the workload service")]
    Compile(#[source] CompileError),
    /// The text is pinned by the operator contract.
    #[error("Service must export a single interface with the 'run' function")]
    Shape,
    #[error("failed to instantiate the workload service")]
    Instantiate(#[source] InstantiateError),
}

impl ServiceError {
    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::Pull(cause) => cause.blame(),
            Self::Instantiate(InstantiateError::Full) => Blame::Host,
            Self::Compile(_) | Self::Shape | Self::Instantiate(_) => Blame::Workload,
        }
    }
}

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstantiateError {
    #[error("no instance is free: the host runs as many as engine.max_instances allows")]
    Full,
    #[error("not instantiated within {}", humantime::format_duration(INSTANTIATE_TIME_MAX))]
    Deadline,
    #[error(transparent)]
    Guest(#[from] RunError),
}

/// Its image and resources in the form of a component, which is built alike.
pub(super) fn as_component(service: &ServiceSpec) -> ComponentSpec {
    let ServiceSpec { image, pull_policy, pull_secret, max_restarts: _, local_resources } = service.clone();
    ComponentSpec {
        name: ComponentName::from(NAME),
        image,
        pull_policy,
        pull_secret,
        pool_size: None,
        max_invocations: None,
        max_concurrency: None,
        local_resources,
    }
}

/// What every run of a service is made of.
#[derive(Debug)]
pub(super) struct ServiceParts {
    engine: Engine,
    item: Arc<ItemCtx>,
    linked: Arc<Linked>,
    pre: CommandPre,
}

/// An instance that has not run yet, and its place among the instances of the host: freed in this order.
#[derive(Debug)]
pub(super) struct Instance {
    command: Command,
    _place: OwnedSemaphorePermit,
}

/// The service of a workload that could serve.
#[derive(Debug)]
pub(crate) struct Service {
    parts: Arc<ServiceParts>,
    max_restarts: u64,
    /// Made by the start, so that it fails if there can be none; taken by the first run.
    first: Mutex<Option<Instance>>,
    /// Set when the workload is published.
    supervised: OnceLock<Supervised>,
}

/// The task that runs a service, as others see it.
#[derive(Debug, Clone)]
struct Supervised {
    stop: Shutdown,
    over: Shutdown,
    parts: watch::Sender<Arc<ServiceParts>>,
}

impl ServiceParts {
    /// Waits for a place and instantiates, both for a bounded time.
    pub(super) async fn instantiate(&self) -> Result<Instance, InstantiateError> {
        let place = timeout(INSTANCE_WAIT_MAX, Arc::clone(self.engine.instances()).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(InstantiateError::Full) };
        match timeout(INSTANTIATE_TIME_MAX, self.pre.instantiate(&self.engine, &self.item)).await {
            Ok(command) => Ok(Instance { command: command?, _place: place }),
            Err(_elapsed) => Err(InstantiateError::Deadline),
        }
    }

    /// Whether `other` runs the same code against the same plugins: then an instance of the one is one of the other.
    pub(super) fn runs_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.linked, &other.linked)
    }
}

impl Instance {
    pub(super) async fn run(self) -> Result<(), RunError> {
        let Self { command, _place } = self;
        command.run().await
    }
}

impl Service {
    pub(super) fn new(
        engine: &Engine,
        spec: &ServiceSpec,
        compiled: &Compiled,
        item: Item,
    ) -> Result<Self, StartError> {
        let Item { linked, ctx } = item;
        let version = compiled.inspected.run().ok_or(ServiceError::Shape)?;
        let is_handler = |export: &ImportName| {
            let package = (export.namespace.as_str(), export.package.as_str());
            export.interface == "handler" && matches!(package, ("wasi", "http") | ("wasmcloud", "messaging"))
        };
        if compiled.inspected.exports.iter().any(is_handler) {
            return Err(StartError::NotImplemented("a service that takes requests or messages"));
        }
        let failed = |cause| StartError::Link { component: ComponentName::from(NAME), cause };
        let pre = CommandPre::new(&linked, version).map_err(failed)?;
        Ok(Self {
            parts: Arc::new(ServiceParts { engine: engine.clone(), item: ctx, linked, pre }),
            max_restarts: spec.max_restarts,
            first: Mutex::default(),
            supervised: OnceLock::new(),
        })
    }

    /// Makes the instance for the first run.
    async fn prepare(&self) -> Result<(), ServiceError> {
        let instance = self.parts.instantiate().await.map_err(ServiceError::Instantiate)?;
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(instance);
        Ok(())
    }

    /// Goes on where `old` is: its task takes these parts for its next run, or at once if they differ.
    fn take_over(&self, old: &Self) {
        if let Some(supervised) = old.supervised.get() {
            supervised.parts.send_replace(Arc::clone(&self.parts));
            // Published once, so this is the first.
            drop(self.supervised.set(supervised.clone()));
        }
    }
}

impl Assembled {
    /// Makes what its service needs to run: the last step before it is published.
    pub(super) async fn prepare_service(&self) -> Result<(), StartError> {
        match &self.service {
            Some(service) => Ok(service.prepare().await?),
            None => Ok(()),
        }
    }

    /// As [`Service::take_over`].
    pub(super) fn take_over_service(&self, old: &Self) {
        if let (Some(service), Some(old)) = (&self.service, &old.service) {
            service.take_over(old);
        }
    }

    /// Tells the service to end.
    pub(super) fn begin_service_end(&self) {
        if let Some(supervised) = self.service.as_ref().and_then(|service| service.supervised.get()) {
            supervised.stop.trigger();
        }
    }

    /// Ends the service: when this returns, its store is gone.
    pub(super) async fn end_service(&self) {
        self.begin_service_end();
        let Some(supervised) = self.service.as_ref().and_then(|service| service.supervised.get()) else { return };
        if timeout(END_TIME_MAX, supervised.over.wait()).await.is_err() {
            warn!(workload.id = %self.id, "the service did not end in time, it is left behind");
        }
    }
}

impl Workloads {
    /// Pulls and compiles the service as a component is.
    pub(super) async fn compile_service(
        &self,
        spec: Option<&ServiceSpec>,
        basis: &Basis,
        pull: Pull,
    ) -> Result<Option<Arc<Compiled>>, StartError> {
        let Some(spec) = spec else { return Ok(None) };
        match self.compile(&as_component(spec), &basis.artifacts, pull).await {
            Ok(compiled) => Ok(Some(compiled)),
            Err(StartError::Pull { component: _, cause }) => Err(ServiceError::Pull(cause).into()),
            Err(StartError::Compile { component: _, cause }) => Err(ServiceError::Compile(cause).into()),
            Err(other) => Err(other),
        }
    }

    /// Runs the service of what was published as `number`. Call with the table still locked, so that no stop comes in
    /// between.
    pub(super) fn begin_service(&self, assembled: &Assembled, number: StartNumber) {
        let Some(service) = &assembled.service else { return };
        let (stop, over) = (Shutdown::default(), Shutdown::default());
        let (parts_tx, parts) = watch::channel(Arc::clone(&service.parts));
        let first = service.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let first = first.map(|instance| (Arc::clone(&service.parts), instance));
        let supervised = Supervised { stop: stop.clone(), over: over.clone(), parts: parts_tx };
        if service.supervised.set(supervised).is_err() {
            return;
        }
        let id: WorkloadId = assembled.id.clone();
        let budget = Budget::new(service.max_restarts);
        let supervisor = Supervisor { workloads: self.clone(), id, number, stop, over, parts, budget };
        drop(task::spawn_on(&self.0.workers, "service", supervisor.run(first)));
    }
}
