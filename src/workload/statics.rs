//! Workloads of the configuration file: built beside what runs, then put in its place.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::error::Chain;
use crate::task;
use crate::telemetry::millis;
use crate::types::{WorkloadId, WorkloadSpec};
use crate::workload::Workloads;
use crate::workload::error::StartError;
use crate::workload::lifecycle::failure;
use crate::workload::start::{Assembled, Basis, Pull, log_started};
use crate::workload::table::{Phase, StartNumber, Stopped};

/// A static workload that could serve, not yet live.
#[derive(Debug)]
pub(crate) struct PreparedStatic {
    assembled: Arc<Assembled>,
    took: Duration,
}

/// What a commit left behind: calls in flight may still hold it.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    old: Option<Arc<Assembled>>,
    stopping: Option<StartNumber>,
}

impl Workloads {
    /// Pulls, compiles and links beside whatever runs under `id`, on the worker runtime. Dropping the future ends
    /// nothing: what was pulled and compiled is there for the next try.
    pub(crate) async fn prepare_static(
        &self,
        id: &WorkloadId,
        spec: &Arc<WorkloadSpec>,
        basis: &Basis,
    ) -> Result<PreparedStatic, StartError> {
        let began = Instant::now();
        let (workloads, id, spec, basis) = (self.clone(), id.clone(), Arc::clone(spec), basis.clone());
        let build = async move { workloads.build(&id, &spec, &basis, Pull::AsAsked).await };
        let built = task::spawn_on(&self.0.workers, "prepare-workload", build).await;
        let assembled = match built {
            Ok(built) => built.unwrap_or(Err(StartError::Panicked))?,
            Err(_cancelled) => return Err(StartError::HostStopping),
        };
        Ok(PreparedStatic { assembled: Arc::new(assembled), took: began.elapsed() })
    }

    /// Makes `prepared` live in the place of whatever runs under its id.
    pub(crate) fn adopt_static(&self, prepared: PreparedStatic) -> Adopted {
        let PreparedStatic { assembled, took } = prepared;
        let old = {
            let mut table = self.table();
            let (number, old) = table.replace(&assembled.id, Arc::clone(&assembled.spec), Arc::clone(&assembled));
            self.route(&assembled);
            self.begin_service(&assembled, number);
            old
        };
        log_started(&assembled, millis(took));
        match old {
            Some(Phase::Running(old)) => {
                if let Some((_binding, route)) = &old.route {
                    route.begin_stop();
                    self.withdraw(route);
                }
                Adopted { old: Some(old), stopping: None }
            }
            Some(Phase::Starting(waiting)) => {
                waiting.cancel.trigger();
                Adopted::default()
            }
            Some(Phase::Stopping | Phase::Failed(_)) | None => Adopted::default(),
        }
    }

    /// Takes the workload `id` away: no request reaches it from now on.
    pub(crate) fn remove_static(&self, id: &WorkloadId) -> Adopted {
        let stopped = self.table().begin_stop(id);
        match stopped {
            Stopped::Running(number, old) => {
                if let Some((_binding, route)) = &old.route {
                    route.begin_stop();
                    self.withdraw(route);
                }
                Adopted { old: Some(old), stopping: Some(number) }
            }
            Stopped::Starting(number, waiting) => {
                waiting.cancel.trigger();
                self.table().forget(id, number);
                Adopted::default()
            }
            Stopped::Already | Stopped::NotFound => Adopted::default(),
        }
    }

    /// At start, where there is no older version to keep: the host runs, the record says why, and the start is tried
    /// again.
    pub(crate) fn fail_static(&self, id: &WorkloadId, spec: &Arc<WorkloadSpec>, error: &StartError) {
        warn!(workload.id = %id, error = %Chain(error), "workload failed to start");
        let number = self.table().record_failed(id, Arc::clone(spec), failure(error));
        self.retry_later(id, number, spec);
    }

    /// Lets what `adopted` left behind end by `deadline`; says how many calls were cut.
    pub(crate) async fn retire_static(&self, adopted: Adopted, deadline: Instant) -> usize {
        let Adopted { old, stopping } = adopted;
        let Some(old) = old else { return 0 };
        let forced = old.drain(deadline, false).await;
        if forced > 0 {
            warn!(workload.id = %old.id, forced, "calls in flight were cut: they did not end within drain.timeout");
        }
        old.end_service().await;
        if let Some(number) = stopping {
            self.release(number, old);
        }
        forced
    }
}
