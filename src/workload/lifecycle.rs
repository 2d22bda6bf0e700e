//! Start and stop of one workload, and the end of all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, join_all};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::error::{Blame, Chain};
use crate::task::{self, Backoff, Shutdown};
use crate::telemetry::millis;
use crate::types::{WorkloadId, WorkloadOrigin, WorkloadSpec, WorkloadState, WorkloadStatus};
use crate::workload::error::StartError;
use crate::workload::http::HttpTarget;
use crate::workload::route::Route;
use crate::workload::start::{Assembled, Basis, Pull, log_started};
use crate::workload::table::{Begin, Entry, Failure, Phase, StartNumber, Stopped};
use crate::workload::{Waiting, Workloads, status};

/// Pauses between the starts of a static workload that fails.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Enough doublings to reach the longest pause.
const RETRIES_COUNTED_MAX: u32 = 6;

/// A start under way: who waits for it, and how it is told to end.
struct Starting {
    id: WorkloadId,
    number: StartNumber,
    spec: Arc<WorkloadSpec>,
    pull: Pull,
    cancel: Shutdown,
    end_tx: watch::Sender<Option<WorkloadStatus>>,
}

/// What became of the wish to start a workload.
pub(crate) struct Begun {
    /// Whether the id is reserved for this very start: it neither joined another one nor was it refused.
    pub(crate) is_new: bool,
    /// Yields when the start has ended, well or not; dropping it changes nothing.
    pub(crate) end: BoxFuture<'static, WorkloadStatus>,
}

/// Records a start whose task died before it could say how it ended: nobody must wait for it for ever.
struct Reserved {
    workloads: Workloads,
    id: WorkloadId,
    number: StartNumber,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let reason = Arc::from("the start ended unexpectedly, the log of the host says why");
        let failure = Failure { reason, at: std::time::Instant::now() };
        // Does nothing to a start that has ended.
        self.workloads.table().finish(&self.id, self.number, Err(failure));
    }
}

impl Workloads {
    /// Reserves `id` and begins the start, or joins the same one under way.
    pub(crate) fn start(&self, id: WorkloadId, spec: Arc<WorkloadSpec>, pull: Pull) -> Begun {
        let joined = |end| Begun { is_new: false, end };
        if self.is_draining() {
            return joined(ready(status(&id, WorkloadState::Error, "host is draining")));
        }
        let (end_tx, end) = watch::channel(None);
        let cancel = Shutdown::default();
        let begun = self.table().begin(&id, &spec, || Waiting { end: end.clone(), cancel: cancel.clone() });
        match begun {
            Begin::Reserved(number) => {
                let starting = Starting { id: id.clone(), number, spec, pull, cancel, end_tx };
                drop(task::spawn_on(&self.0.workers, "start", self.clone().run_start(starting)));
                Begun { is_new: true, end: wait(id, end) }
            }
            Begin::Joins(waiting) => joined(wait(id, waiting.end)),
            Begin::Runs(state) => joined(ready(status(&id, state, ""))),
            Begin::Taken => {
                let message = format!(
                    "Workload ID [{id}] already exists (the existing workload must be stopped to reuse the ID)"
                );
                joined(ready(status(&id, WorkloadState::Error, &message)))
            }
        }
    }

    async fn run_start(self, starting: Starting) {
        let Starting { id, number, spec, pull, cancel, end_tx } = starting;
        let _reserved = Reserved { workloads: self.clone(), id: id.clone(), number };
        let began = Instant::now();
        let basis = self.basis();
        let built = tokio::select! {
            biased;
            () = cancel.wait() => None,
            built = self.build(&id, &spec, &basis, pull) => Some(built),
        };
        let end = match built {
            None => None,
            Some(Ok(assembled)) => self.publish(number, assembled, began).await,
            Some(Err(error)) => self.record_failure(&id, number, &spec, &error),
        };
        let end = end.unwrap_or_else(|| status(&id, WorkloadState::Stopping, "Workload was stopped while starting"));
        end_tx.send_replace(Some(end));
    }

    /// Makes `assembled` visible, unless it was stopped meanwhile.
    async fn publish(&self, number: StartNumber, assembled: Assembled, began: Instant) -> Option<WorkloadStatus> {
        // A reload that changes the plugins is waited for here; what it left behind is what this is linked against.
        let publishing = self.0.publishing.read().await;
        let current = self.basis();
        let assembled = if Arc::ptr_eq(&assembled.plugins, &current.plugins) {
            assembled
        } else {
            match self.assemble_again(&assembled, &current).await {
                Ok(assembled) => assembled,
                Err(error) => return self.record_failure(&assembled.id, number, &assembled.spec, &error),
            }
        };
        let assembled = Arc::new(assembled);
        {
            let mut table = self.table();
            if !table.finish(&assembled.id, number, Ok(Arc::clone(&assembled))) {
                return None;
            }
            self.route(&assembled);
            self.begin_service(&assembled, number);
        }
        drop(publishing);
        log_started(&assembled, millis(began.elapsed()));
        Some(status(&assembled.id, WorkloadState::Running, ""))
    }

    /// The same against other plugins, with what is attached already.
    pub(super) async fn assemble_again(&self, assembled: &Assembled, basis: &Basis) -> Result<Assembled, StartError> {
        let new = self.assemble(&assembled.id, &assembled.spec, assembled.compiled.clone(), basis)?;
        new.attach(Some(assembled)).await?;
        Ok(new)
    }

    /// Call with the table locked.
    pub(super) fn route(&self, assembled: &Assembled) {
        assembled.open_triggers();
        if let Some((binding, route)) = &assembled.route {
            self.0.routes.publish(binding, Arc::clone(route) as Arc<dyn HttpTarget>);
        }
    }

    fn record_failure(
        &self,
        id: &WorkloadId,
        number: StartNumber,
        spec: &Arc<WorkloadSpec>,
        error: &StartError,
    ) -> Option<WorkloadStatus> {
        let failure = failure(error);
        let reason = Arc::clone(&failure.reason);
        if !self.table().finish(id, number, Err(failure)) {
            return None;
        }
        match error.blame() {
            Blame::Host => error!(workload.id = %id, error = %reason, "workload failed to start"),
            Blame::Configuration | Blame::Workload | Blame::Caller | Blame::Remote => {
                warn!(workload.id = %id, error = %reason, "workload failed to start");
            }
        }
        if spec.origin == WorkloadOrigin::Static {
            self.retry_later(id, number, spec);
        }
        Some(status(id, WorkloadState::Error, &reason))
    }

    /// Starts a failed static workload again, for as long as nothing else happens to it.
    pub(super) fn retry_later(&self, id: &WorkloadId, number: StartNumber, spec: &Arc<WorkloadSpec>) {
        let (workloads, id, spec) = (self.clone(), id.clone(), Arc::clone(spec));
        drop(task::spawn_on(&self.0.workers, "retry", async move {
            let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
            let retries = workloads.table().get(&id).map_or(0, |entry| entry.retries);
            // Where it failed while it ran, and not for the first time, the pause goes on growing.
            for _shorter in 0..retries.min(RETRIES_COUNTED_MAX) {
                let _skipped: Duration = backoff.pause();
            }
            loop {
                tokio::select! {
                    () = tokio::time::sleep(backoff.pause()) => {}
                    () = workloads.0.plugins_changed.notified() => backoff.reset(),
                }
                if !workloads.is_failed(&id, number) {
                    return;
                }
                // Built first and begun afterwards: while it fails, the record keeps saying why.
                let began = Instant::now();
                let basis = workloads.basis();
                let assembled = match workloads.build(&id, &spec, &basis, Pull::AsAsked).await {
                    Ok(assembled) => assembled,
                    Err(error) => {
                        let failure = failure(&error);
                        debug!(workload.id = %id, error = %failure.reason, "workload failed to start again");
                        if !workloads.table().fail_again(&id, number, failure) {
                            return;
                        }
                        // Told while it was building, when it was not listening.
                        if !Arc::ptr_eq(&basis.plugins, &workloads.plugins()) {
                            backoff.reset();
                        }
                        continue;
                    }
                };
                if workloads.is_draining() {
                    return;
                }
                let waiting = || Waiting { end: watch::channel(None).1, cancel: Shutdown::default() };
                let begun = workloads.table().begin_again(&id, number, waiting);
                let Some(number) = begun else { return };
                let _reserved = Reserved { workloads: workloads.clone(), id: id.clone(), number };
                drop(workloads.publish(number, assembled, began).await);
                return;
            }
        }));
    }

    fn is_failed(&self, id: &WorkloadId, number: StartNumber) -> bool {
        self.table().get(id).is_some_and(|entry| entry.number == number && matches!(entry.phase, Phase::Failed(_)))
    }

    /// Begins the stop and says so; what is in flight ends behind it.
    pub(crate) fn stop(&self, id: &WorkloadId) -> WorkloadStatus {
        let stopped = {
            let mut table = self.table();
            let stopped = table.begin_stop(id);
            if let Stopped::Running(_, assembled) = &stopped
                && let Some((_binding, route)) = &assembled.route
            {
                route.begin_stop();
            }
            stopped
        };
        match stopped {
            Stopped::NotFound => return status(id, WorkloadState::NotFound, ""),
            Stopped::Already => {}
            Stopped::Starting(number, waiting) => {
                waiting.cancel.trigger();
                let (workloads, id) = (self.clone(), id.clone());
                drop(task::spawn_on(&self.0.workers, "stop", async move {
                    drop(wait(id.clone(), waiting.end).await);
                    workloads.table().forget(&id, number);
                    info!(workload.id = %id, "workload stopped while starting");
                }));
            }
            Stopped::Running(number, assembled) => {
                let workloads = self.clone();
                drop(task::spawn_on(&self.0.workers, "stop", async move {
                    let lame_duck = workloads.settings().drain.lame_duck;
                    workloads.end(&assembled, lame_duck).await;
                    workloads.release(number, assembled);
                }));
            }
        }
        status(id, WorkloadState::Stopping, "")
    }

    /// Withdraws a workload from the router after `lame_duck`, lets its work in flight end, and then ends its service.
    /// `true`: all of it did. What plugins deliver to it ends at once.
    pub(super) async fn end(&self, assembled: &Assembled, lame_duck: Duration) -> bool {
        // One deadline from here on, so that a stop is over after `timeout` whatever happens in between.
        let deadline = Instant::now() + self.settings().drain.timeout.max(lame_duck);
        let requests = async {
            let Some((_binding, route)) = &assembled.route else { return 0 };
            if !lame_duck.is_zero() {
                tokio::time::sleep(lame_duck).await;
            }
            self.withdraw(route);
            route.drain(deadline).await
        };
        let (requests, called) = tokio::join!(requests, assembled.drain_triggers(deadline, false));
        let forced = requests.saturating_add(called);
        if forced > 0 {
            warn!(workload.id = %assembled.id, forced, "calls in flight were cut: they did not end within drain.timeout");
        }
        assembled.end_service().await;
        forced == 0
    }

    /// Frees all that is left of a workload whose work has ended.
    pub(super) fn release(&self, number: StartNumber, assembled: Arc<Assembled>) {
        let id = assembled.id.clone();
        // Plugins let go of what nothing is bound to any more, so the bindings go first.
        drop(assembled);
        self.plugins().unbind(&id);
        self.table().forget(&id, number);
        info!(workload.id = %id, "workload stopped");
    }

    pub(super) fn withdraw(&self, route: &Arc<Route>) {
        let target: Arc<dyn HttpTarget> = Arc::clone(route) as Arc<dyn HttpTarget>;
        self.0.routes.withdraw(&target);
    }

    /// Stops every placed workload: for when nobody is left who would.
    pub(crate) fn stop_placed(&self) {
        let is_placed = |entry: &Entry<_, _>| entry.spec.origin == WorkloadOrigin::Placed;
        let placed: Vec<WorkloadId> =
            self.table().iter().filter(|(_id, entry)| is_placed(entry)).map(|(id, _entry)| id.clone()).collect();
        for id in placed {
            let _stopping: WorkloadStatus = self.stop(&id);
        }
    }

    /// Whether a placed workload is not gone yet; one that failed is only remembered.
    pub(crate) fn has_placed(&self) -> bool {
        let is_there = |phase: &Phase<_, _>| match phase {
            Phase::Starting(_) | Phase::Running(_) | Phase::Stopping => true,
            Phase::Failed(_) => false,
        };
        self.table().iter().any(|(_id, entry)| entry.spec.origin == WorkloadOrigin::Placed && is_there(&entry.phase))
    }

    /// From now on no start begins.
    pub(crate) fn begin_drain(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
    }

    /// Takes on nothing more that plugins deliver to workloads that run; yields when what was taken on has ended, at the
    /// latest at `deadline`. They serve on.
    pub(crate) async fn close_triggers(&self, deadline: Instant) {
        let running: Vec<Arc<Assembled>> = self
            .table()
            .iter()
            .filter_map(|(_id, entry)| match &entry.phase {
                Phase::Running(assembled) => Some(Arc::clone(assembled)),
                Phase::Starting(_) | Phase::Stopping | Phase::Failed(_) => None,
            })
            .collect();
        join_all(running.iter().map(|assembled| assembled.close_triggers(deadline))).await;
    }

    /// Workloads that are being stopped: what they have in flight has not ended.
    pub(crate) fn stopping(&self) -> usize {
        self.table().iter().filter(|(_id, entry)| matches!(entry.phase, Phase::Stopping)).count()
    }

    /// Calls in flight of workloads that run.
    pub(crate) fn in_flight(&self) -> usize {
        let calls = |phase: &Phase<_, Arc<Assembled>>| match phase {
            Phase::Running(assembled) => assembled.in_flight(),
            Phase::Starting(_) | Phase::Stopping | Phase::Failed(_) => 0,
        };
        self.table().iter().map(|(_id, entry)| calls(&entry.phase)).sum()
    }

    /// Ends every workload: starts are cancelled, calls in flight end by `deadline` or are cut.
    pub(crate) async fn end_all(&self, deadline: Instant) -> usize {
        self.begin_drain();
        let mut running = Vec::new();
        {
            let mut table = self.table();
            let ids: Vec<WorkloadId> = table.iter().map(|(id, _entry)| id.clone()).collect();
            for id in ids {
                match table.begin_stop(&id) {
                    Stopped::Running(_number, assembled) => running.push(assembled),
                    Stopped::Starting(_number, waiting) => waiting.cancel.trigger(),
                    Stopped::Already | Stopped::NotFound => {}
                }
            }
        }
        let drains = running.iter().map(|assembled| {
            if let Some((_binding, route)) = &assembled.route {
                self.withdraw(route);
            }
            assembled.drain(deadline, false)
        });
        let forced = join_all(drains).await.into_iter().sum();
        join_all(running.iter().map(|assembled| assembled.end_service())).await;
        forced
    }
}

pub(super) fn failure(error: &StartError) -> Failure {
    Failure { reason: Chain(error).to_string().into(), at: std::time::Instant::now() }
}

fn ready(status: WorkloadStatus) -> BoxFuture<'static, WorkloadStatus> {
    futures::future::ready(status).boxed()
}

/// The end of a start; if its task died, an error that says so.
fn wait(id: WorkloadId, mut end: watch::Receiver<Option<WorkloadStatus>>) -> BoxFuture<'static, WorkloadStatus> {
    async move {
        match end.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone(),
            Err(_task_died) => None,
        }
        .unwrap_or_else(|| status(&id, WorkloadState::Error, "the start was abandoned"))
    }
    .boxed()
}
