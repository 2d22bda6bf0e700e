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
mod state;
mod workloads;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::Handle;

use crate::admin::AdminServer;
use crate::config::{Config, Secret};
use crate::control::ControlPlane;
use crate::daemon::draft::Draft;
use crate::daemon::sections::state::Kept;
use crate::error::Blame;
use crate::host::Host;
use crate::host::http::{HttpRouter, HttpServer, Totals};
use crate::nats::{DataClient, Tally};
use crate::plugin::Health;
use crate::reload::{PrepareError, ReloadStatus, Reloader, Section};
use crate::workload::{Settings, Workloads};

/// What the sections make live, and what the shutdown ends.
#[derive(Debug)]
pub(super) struct Shared {
    workers: Handle,
    control_thread: Handle,
    router: Arc<HttpRouter>,
    /// Set by the first commit, for good.
    host: OnceLock<Arc<Host>>,
    /// Set by the first commit, for good.
    kept: OnceLock<Kept>,
    /// Set before the first attempt.
    reloader: OnceLock<Reloader>,
    is_draining: AtomicBool,
    /// What happened to connections.
    pub(super) tallies: Tallies,
    live: Mutex<Live>,
}

/// By plane, over all connections of each.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub(super) scheduler: Arc<Tally>,
    pub(super) data: Arc<Tally>,
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
    pub(super) fn new(workers: Handle, control_thread: Handle) -> Self {
        Self {
            workers,
            control_thread,
            router: Arc::default(),
            host: OnceLock::new(),
            kept: OnceLock::new(),
            reloader: OnceLock::new(),
            is_draining: AtomicBool::new(false),
            tallies: Tallies::default(),
            live: Mutex::default(),
        }
    }

    /// What outlives the process; `None` before the first commit.
    fn kept(&self) -> Option<&Kept> {
        self.kept.get()
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

    /// What is live, and what is known of its text; empty before the start.
    pub(super) fn live_config(&self) -> crate::reload::Live {
        self.reloader().map_or_else(Default::default, |reloader| reloader.live().borrow().clone())
    }

    /// What all listeners counted.
    pub(super) fn http_totals(&self) -> Arc<Totals> {
        self.router.totals()
    }

    /// How the plugins that are on have been doing, in their order.
    pub(super) fn plugins(&self) -> Vec<(&'static str, Health)> {
        self.host().map_or_else(Vec::new, |host| host.workloads().plugins().states())
    }

    /// How many tasks are alive, by runtime.
    pub(super) fn tasks(&self) -> [(&'static str, usize); 2] {
        let alive = |runtime: &Handle| runtime.metrics().num_alive_tasks();
        [("control", alive(&self.control_thread)), ("workers", alive(&self.workers))]
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

/// Whether a file that a key below `table` names has other content.
fn files_differ(table: &str, old: &Config, new: &Config) -> bool {
    let below = |(key, _digest): &(&String, &Secret)| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
    !old.file_digests.iter().filter(below).eq(new.file_digests.iter().filter(below))
}

/// How many starts may compile at once: without a scheduler as many as it would allow by default.
fn compile_turns(config: &Config) -> usize {
    config.nats.scheduler.clone().unwrap_or_default().starts_in_flight_max.get()
}

/// What workloads are told of a configuration.
fn workload_settings(config: &Config) -> Settings {
    Settings { limits: config.limits.clone(), drain: config.drain.clone() }
}

/// Who the host is before what it is made of, the engine before what runs on it, plugins before what is linked against them, listeners before the scheduler that
/// is told their port.
pub(super) fn in_order(shared: &Arc<Shared>) -> Vec<Box<dyn Section<Draft>>> {
    vec![
        Box::new(log::LogSection),
        Box::new(state::StateSection::new(shared)),
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
