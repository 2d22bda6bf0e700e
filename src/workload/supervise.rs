//! The task that runs a service: again after a failure, until it ends well, is stopped, or has failed too often.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::task::{self, Backoff, Shutdown};
use crate::types::{WorkloadId, WorkloadOrigin};
use crate::workload::Workloads;
use crate::workload::service::{Instance, InstantiateError, ServiceParts};
use crate::workload::table::{Failure, ServiceState, StartNumber};

/// Pauses before a service is started again.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A service that ran this long is healthy: what failed before is forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// How often a service may be started again. Pure: time is an argument.
#[derive(Debug)]
pub(super) struct Budget {
    restarts_max: u64,
    restarts: u64,
    pauses: Backoff,
}

impl Budget {
    pub(super) fn new(restarts_max: u64) -> Self {
        Self { restarts_max, restarts: 0, pauses: Backoff::new(PAUSE_FIRST, PAUSE_MAX) }
    }

    /// After it failed, having run for `ran`: the pause before the next run, or `None` if there is to be none.
    fn after_failure(&mut self, ran: Duration) -> Option<Duration> {
        if ran >= HEALTHY_AFTER {
            self.restarts = 0;
            self.pauses.reset();
        }
        if self.restarts >= self.restarts_max {
            return None;
        }
        self.restarts += 1;
        Some(self.pauses.pause())
    }
}

/// How long the runs of one service were, for its budget.
#[derive(Debug, Default)]
struct Health(Option<Instant>);

impl Health {
    /// It runs; a relink in between is no end of its health.
    fn begins(&mut self) {
        self.0.get_or_insert_with(Instant::now);
    }

    /// It failed: how long it was healthy.
    fn ends(&mut self) -> Duration {
        self.0.take().map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Owns the service of one published workload.
pub(super) struct Supervisor {
    pub(super) workloads: Workloads,
    pub(super) id: WorkloadId,
    pub(super) number: StartNumber,
    /// Told by whoever wants it to end.
    pub(super) stop: Shutdown,
    /// Told when the last instance is gone.
    pub(super) over: Shutdown,
    pub(super) parts: watch::Receiver<Arc<ServiceParts>>,
    pub(super) budget: Budget,
}

/// Says that the service is over, also if its task died: then its workload failed, which does nothing to one that ended.
struct Over(Supervisor);

impl Drop for Over {
    fn drop(&mut self) {
        let Supervisor { workloads, id, number, over, .. } = &self.0;
        over.trigger();
        if std::thread::panicking() {
            workloads.fail_service(id, *number, "the service ended unexpectedly, the log of the host says why".into());
        }
    }
}

/// How one run ended.
enum End {
    Stopped,
    /// Other parts took the place of those it ran on.
    Replaced,
    Completed,
    Failed(InstantiateError),
}

impl Supervisor {
    /// `first` is an instance made by the start, and what it was made of.
    pub(super) async fn run(self, mut first: Option<(Arc<ServiceParts>, Instance)>) {
        let mut over = Over(self);
        let supervisor = &mut over.0;
        let mut health = Health::default();
        loop {
            match supervisor.run_once(first.take(), &mut health).await {
                End::Stopped => return,
                End::Replaced => info!(workload.id = %supervisor.id, "service starts again on other plugins"),
                End::Completed => {
                    if supervisor.says(ServiceState::Completed) {
                        info!(workload.id = %supervisor.id, "service completed");
                    }
                    return;
                }
                End::Failed(cause) => {
                    if !supervisor.pause(&cause, health.ends()).await {
                        return;
                    }
                }
            }
        }
    }

    async fn run_once(&mut self, first: Option<(Arc<ServiceParts>, Instance)>, health: &mut Health) -> End {
        let parts = Arc::clone(&self.parts.borrow_and_update());
        let Self { workloads, id, number, stop, parts: others, .. } = self;
        let run = async {
            let instance = match first {
                Some((of, instance)) if of.runs_like(&parts) => instance,
                // A reload came in between.
                Some(_) | None => parts.instantiate().await?,
            };
            workloads.table().set_service(id, *number, ServiceState::Running);
            health.begins();
            Ok(instance.run().await?)
        };
        // All three may be dropped: the first two are waits, and dropping the third is how a service is ended.
        tokio::select! {
            biased;
            () = stop.wait() => End::Stopped,
            () = replaced(others, &parts) => End::Replaced,
            ended = run => match ended {
                Ok(()) => End::Completed,
                Err(cause) => End::Failed(cause),
            },
        }
    }

    /// After a failure: waits for the next run, or gives up and says `false`.
    async fn pause(&mut self, cause: &InstantiateError, ran: Duration) -> bool {
        let Some(pause) = self.budget.after_failure(ran) else {
            if ran >= HEALTHY_AFTER {
                self.workloads.table().renew(&self.id, self.number);
            }
            let reason = format!("service exited: {cause} (restarts exhausted: {})", self.budget.restarts_max);
            self.workloads.fail_service(&self.id, self.number, reason.into());
            return false;
        };
        if !self.says(ServiceState::Restarting) {
            return false;
        }
        let (restart, pause_ms) = (self.budget.restarts, crate::telemetry::millis(pause));
        warn!(workload.id = %self.id, error = %cause, restart, pause_ms, "service failed, starting it again");
        tokio::select! {
            biased;
            () = self.stop.wait() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// `false` if its workload is being stopped, or something else runs in its place.
    fn says(&self, state: ServiceState) -> bool {
        self.workloads.table().set_service(&self.id, self.number, state)
    }
}

/// Waits until other parts are there that do not run like `parts`.
async fn replaced(others: &mut watch::Receiver<Arc<ServiceParts>>, parts: &ServiceParts) {
    let is_replaced = others.wait_for(|others| !others.runs_like(parts)).await.is_ok();
    if !is_replaced {
        // Nobody is left who could replace them; whoever stops it tells so.
        std::future::pending::<()>().await;
    }
}

impl Workloads {
    /// The service of what runs as `number` is given up, and with it the workload.
    fn fail_service(&self, id: &WorkloadId, number: StartNumber, reason: Arc<str>) {
        let assembled = {
            let mut table = self.table();
            let failure = Failure { reason: Arc::clone(&reason), at: std::time::Instant::now() };
            let Some(assembled) = table.fail_running(id, number, failure) else { return };
            if let Some((_binding, route)) = &assembled.route {
                route.begin_stop();
                self.withdraw(route);
            }
            assembled
        };
        warn!(workload.id = %id, error = %reason, "workload failed");
        if assembled.spec.origin == WorkloadOrigin::Static {
            self.retry_later(id, number, &assembled.spec);
        }
        let workloads = self.clone();
        drop(task::spawn_on(&self.0.workers, "end", async move {
            let deadline = Instant::now() + workloads.settings().drain.timeout;
            let forced = assembled.drain(deadline, false).await;
            if forced > 0 {
                warn!(workload.id = %assembled.id, forced, "calls in flight of a failed workload were cut");
            }
            let id = assembled.id.clone();
            drop(assembled);
            workloads.plugins().unbind(&id);
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEF: Duration = Duration::from_millis(10);

    #[test]
    fn as_many_restarts_as_allowed_with_growing_pauses() {
        let mut budget = Budget::new(3);
        let pauses: Vec<Duration> = std::iter::from_fn(|| budget.after_failure(BRIEF)).collect();
        assert_eq!(pauses.len(), 3);
        // Jitter takes off up to a quarter, doubling adds more.
        assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
        assert!(Budget::new(0).after_failure(BRIEF).is_none());
    }

    #[test]
    fn a_minute_of_health_renews_the_budget() {
        let mut budget = Budget::new(1);
        assert!(budget.after_failure(BRIEF).is_some());
        let pause = budget.after_failure(HEALTHY_AFTER).expect("renewed");
        assert!(pause <= PAUSE_FIRST, "{pause:?}");
        assert!(budget.after_failure(HEALTHY_AFTER - BRIEF).is_none());
    }

    #[test]
    fn all_ones_is_practically_unlimited_and_pauses_are_bounded() {
        let mut budget = Budget::new(u64::MAX);
        assert!((0..10_000).all(|_| budget.after_failure(BRIEF).is_some_and(|pause| pause <= PAUSE_MAX)));
    }
}
