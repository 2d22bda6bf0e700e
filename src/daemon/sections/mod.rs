//! The sections of the host, in the order in which they are prepared and committed: intake last.

mod admin;
mod data;
mod engine;
mod host;
mod http;
mod log;
mod plugins;
mod policy;
mod scheduler;
mod workloads;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::Handle;

use crate::admin::AdminServer;
use crate::config::Config;
use crate::control::ControlPlane;
use crate::daemon::draft::Draft;
use crate::error::Blame;
use crate::host::Host;
use crate::host::http::{HttpRouter, HttpServer};
use crate::nats::DataClient;
use crate::plugin::Health;
use crate::reload::{PrepareError, ReloadStatus, Reloader, Section};
use crate::types::HostId;
use crate::workload::{Settings, Workloads};

/// What the sections make live, and what the shutdown ends.
#[derive(Debug)]
pub(super) struct Shared {
    host_id: HostId,
    workers: Handle,
    control_thread: Handle,
    router: Arc<HttpRouter>,
    /// Set by the first commit, for good.
    host: OnceLock<Arc<Host>>,
    /// Set before the first attempt.
    reloader: OnceLock<Reloader>,
    is_draining: AtomicBool,
    live: Mutex<Live>,
}

/// The parts that come and go. Locked for a moment, never across an await.
#[derive(Default)]
pub(super) struct Live {
    pub(super) http: Option<Arc<HttpServer>>,
    pub(super) control: Option<Arc<ControlPlane>>,
    pub(super) admin: Option<AdminServer>,
    /// The connection of the data plane, if a plugin uses it.
    pub(super) data: Option<DataClient>,
    /// For the shutdown.
    pub(super) drain: crate::config::Drain,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("http", &self.http)
            .field("joined", &self.control.is_some())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(host_id: HostId, workers: Handle, control_thread: Handle) -> Self {
        Self {
            host_id,
            workers,
            control_thread,
            router: Arc::default(),
            host: OnceLock::new(),
            reloader: OnceLock::new(),
            is_draining: AtomicBool::new(false),
            live: Mutex::default(),
        }
    }

    pub(super) fn host_id(&self) -> &HostId {
        &self.host_id
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` before the first commit.
    pub(super) fn host(&self) -> Option<&Arc<Host>> {
        self.host.get()
    }

    /// `None` only before the start.
    pub(super) fn reloader(&self) -> Option<&Reloader> {
        self.reloader.get()
    }

    /// To be said once, before the first attempt.
    pub(super) fn set_reloader(&self, reloader: Reloader) {
        self.reloader.get_or_init(|| reloader);
    }

    /// What became of the last attempts; empty before the start.
    pub(super) fn reload_status(&self) -> ReloadStatus {
        self.reloader().map_or_else(ReloadStatus::default, |reloader| reloader.status().borrow().clone())
    }

    /// How the plugins that are on have been doing, in the order of their ids.
    pub(super) fn plugin_states(&self) -> Vec<(&'static str, Health)> {
        self.host().map_or_else(Vec::new, |host| host.workloads().plugins().states())
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    pub(super) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    /// The workloads: those that are being made in this attempt, or those that are live.
    fn workloads(&self, draft: &Draft) -> Result<Workloads, PrepareError> {
        draft
            .workloads
            .clone()
            .or_else(|| self.host().map(|host| host.workloads().clone()))
            .ok_or_else(|| PrepareError::new(Blame::Host, "the engine section did not come first"))
    }
}

/// How many starts may compile at once: without a scheduler as many as it would allow by default.
fn compile_turns(config: &Config) -> usize {
    config.nats.scheduler.clone().unwrap_or_default().starts_in_flight_max.get()
}

/// What workloads are told of a configuration.
fn workload_settings(config: &Config) -> Settings {
    Settings { limits: config.limits.clone(), drain: config.drain.clone() }
}

/// The engine before what runs on it, plugins before what is linked against them, listeners before the scheduler that
/// is told their port.
pub(super) fn in_order(shared: &Arc<Shared>) -> Vec<Box<dyn Section<Draft>>> {
    vec![
        Box::new(log::LogSection),
        Box::new(engine::EngineSection::new(shared)),
        Box::new(policy::PolicySection::new(shared)),
        Box::new(data::DataSection::new(shared)),
        Box::new(plugins::PluginsSection::new(shared)),
        Box::new(workloads::WorkloadsSection::new(shared)),
        Box::new(http::HttpSection::new(shared)),
        Box::new(host::HostSection::new(shared)),
        Box::new(scheduler::SchedulerSection::new(shared)),
        Box::new(admin::AdminSection::new(shared)),
    ]
}
