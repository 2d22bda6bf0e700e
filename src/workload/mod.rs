//! Workloads: start, stop, status, relink. Knows neither NATS nor listeners.
//!
//! The handle is [`Workloads`]; its state is one pure table behind a lock that is held for microseconds and never
//! across an await. Each start and each stop is a task of its own on the worker runtime, so none waits for another
//! but for its turn to compile. Routes are published and withdrawn while the table is locked: what the table says is
//! what the router does.

pub(crate) mod binding;
mod error;
mod guest;
pub(crate) mod http;
mod http_p2;
mod http_p3;
mod ignored;
mod lifecycle;
mod linked;
mod offers;
mod relink;
mod response;
pub(crate) mod route;
mod service;
pub(crate) mod start;
mod statics;
mod supervise;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod trigger;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, RwLock, Semaphore, watch};

pub(crate) use error::StartError;
pub(crate) use relink::{RelinkError, Relinked, Replaced};
pub(crate) use start::{Assembled, Basis, Pull};
pub(crate) use statics::{Adopted, PreparedStatic};

use crate::artifact::Artifacts;
use crate::config;
use crate::engine::Engine;
use crate::plugin::PluginSet;
use crate::task::Shutdown;
use crate::types::{WorkloadId, WorkloadOrigin, WorkloadState, WorkloadStatus};
use crate::workload::http::RouteSink;
use crate::workload::linked::LinkedComponents;
use crate::workload::table::{Phase, Table};

/// Cheap to clone; all clones are the same workloads.
#[derive(Clone, Debug)]
pub(crate) struct Workloads(Arc<Inner>);

/// What workloads are made with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) artifacts: Artifacts,
    pub(crate) routes: Arc<dyn RouteSink>,
    pub(crate) plugins: Arc<PluginSet>,
    /// Where starts, stops and guests run: never the control thread.
    pub(crate) workers: Handle,
}

/// What a reload sets; used by whatever begins from then on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) limits: config::Limits,
    pub(crate) drain: config::Drain,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    artifacts: Artifacts,
    routes: Arc<dyn RouteSink>,
    workers: Handle,
    plugins: ArcSwap<PluginSet>,
    settings: ArcSwap<Settings>,
    compile_turns: ArcSwap<(usize, Arc<Semaphore>)>,
    linked: LinkedComponents,
    table: Mutex<WorkloadTable>,
    /// Read by a start while it publishes, written by a reload that changes the plugins: so no start publishes
    /// something linked against plugins that are about to go.
    publishing: Arc<RwLock<()>>,
    /// Told when the plugins changed: what failed for the lack of one may start now.
    plugins_changed: Notify,
    draining: AtomicBool,
}

type WorkloadTable = Table<Waiting, Arc<Assembled>>;

/// What others know of a start under way.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    end: watch::Receiver<Option<WorkloadStatus>>,
    cancel: Shutdown,
}

/// How many of what there are, for heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WorkloadCounts {
    /// Components of workloads that run.
    pub(crate) components: u64,
    /// Workloads that start, run or stop.
    pub(crate) workloads: u64,
}

/// One workload, for people.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadSummary {
    pub(crate) id: WorkloadId,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) state: WorkloadState,
    /// Why it failed.
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) in_flight: usize,
}

impl Workloads {
    pub(crate) fn new(parts: Parts, settings: Settings, compile_turns: usize) -> Self {
        let Parts { engine, artifacts, routes, plugins, workers } = parts;
        Self(Arc::new(Inner {
            engine,
            artifacts,
            routes,
            workers,
            plugins: ArcSwap::new(plugins),
            settings: ArcSwap::from_pointee(settings),
            compile_turns: ArcSwap::from_pointee((compile_turns, Arc::new(Semaphore::new(compile_turns)))),
            linked: LinkedComponents::default(),
            table: Mutex::default(),
            publishing: Arc::default(),
            plugins_changed: Notify::new(),
            draining: AtomicBool::new(false),
        }))
    }

    /// What is known of `id` now; the message is the reason of a failure, otherwise empty.
    pub(crate) fn status(&self, id: &WorkloadId) -> WorkloadStatus {
        let table = self.table();
        match table.get(id) {
            None => status(id, WorkloadState::NotFound, ""),
            Some(entry) => match &entry.phase {
                Phase::Failed(failure) => status(id, WorkloadState::Error, &failure.reason),
                Phase::Starting(_) | Phase::Running(_) | Phase::Stopping => status(id, entry.state(), ""),
            },
        }
    }

    /// Everything that is known, in the order of the ids; for people.
    pub(crate) fn list(&self) -> Vec<WorkloadSummary> {
        let table = self.table();
        let mut list: Vec<WorkloadSummary> = table
            .iter()
            .map(|(id, entry)| WorkloadSummary {
                id: id.clone(),
                namespace: entry.spec.namespace.clone(),
                name: entry.spec.name.clone(),
                state: entry.state(),
                reason: match &entry.phase {
                    Phase::Failed(failure) => Some(Arc::clone(&failure.reason)),
                    Phase::Starting(_) | Phase::Running(_) | Phase::Stopping => None,
                },
                in_flight: match &entry.phase {
                    Phase::Running(assembled) => assembled.in_flight(),
                    Phase::Starting(_) | Phase::Stopping | Phase::Failed(_) => 0,
                },
            })
            .collect();
        drop(table);
        list.sort_by(|a, b| a.id.cmp(&b.id));
        list
    }

    /// Counts for heartbeats. Failures that are only remembered are not counted.
    pub(crate) fn counts(&self) -> WorkloadCounts {
        let mut counts = WorkloadCounts::default();
        let mut table = self.table();
        // Asked for at every heartbeat, which is often enough to forget.
        table.expire(Instant::now());
        for (_id, entry) in table.iter() {
            match &entry.phase {
                Phase::Running(assembled) => {
                    counts.workloads += 1;
                    // While its service is started again the workload is said to be starting.
                    if entry.state() != WorkloadState::Starting {
                        counts.components += u64::try_from(assembled.compiled.components.len()).unwrap_or(0);
                    }
                }
                Phase::Starting(_) | Phase::Stopping => counts.workloads += 1,
                Phase::Failed(_) => {}
            }
        }
        counts
    }

    /// Placed workloads that still have to be stopped by whoever placed them.
    pub(crate) fn placed(&self) -> usize {
        let is_live = |phase: &Phase<Waiting, Arc<Assembled>>| match phase {
            Phase::Starting(_) | Phase::Running(_) => true,
            Phase::Stopping | Phase::Failed(_) => false,
        };
        let table = self.table();
        table.iter().filter(|(_id, e)| e.spec.origin == WorkloadOrigin::Placed && is_live(&e.phase)).count()
    }

    /// From now on whatever begins uses `settings`.
    pub(crate) fn apply(&self, settings: Settings, compile_turns: usize) {
        self.0.settings.store(Arc::new(settings));
        let (turns, _semaphore) = &**self.0.compile_turns.load();
        // The same number keeps its semaphore, and with it whoever holds or waits for a turn.
        if *turns != compile_turns {
            self.0.compile_turns.store(Arc::new((compile_turns, Arc::new(Semaphore::new(compile_turns)))));
        }
    }

    pub(crate) fn artifacts(&self) -> &Artifacts {
        &self.0.artifacts
    }

    pub(crate) fn plugins(&self) -> Arc<PluginSet> {
        self.0.plugins.load_full()
    }

    fn engine(&self) -> &Engine {
        &self.0.engine
    }

    fn linked(&self) -> &LinkedComponents {
        &self.0.linked
    }

    /// What workloads are built with now.
    pub(crate) fn basis(&self) -> Basis {
        Basis { plugins: self.plugins(), settings: self.settings(), artifacts: self.artifacts().clone() }
    }

    fn settings(&self) -> Arc<Settings> {
        self.0.settings.load_full()
    }

    fn table(&self) -> MutexGuard<'_, WorkloadTable> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    /// One of the places for starts that compile; `None` when the host is going away.
    async fn compile_turn(&self) -> Option<OwnedSemaphorePermit> {
        let turns = Arc::clone(&self.0.compile_turns.load().1);
        turns.acquire_owned().await.ok()
    }
}

fn status(id: &WorkloadId, workload_state: WorkloadState, message: &str) -> WorkloadStatus {
    WorkloadStatus { workload_id: id.clone(), workload_state, message: message.to_owned() }
}
