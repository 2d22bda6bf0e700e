//! `[[workloads]]`: added, removed and changed by namespace and name.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream;
use tokio::time::{Instant, timeout_at};

use crate::config::StaticWorkload;
use crate::daemon::draft::Draft;
use crate::daemon::sections::Shared;
use crate::error::{Blame, Chain};
use crate::reload::{Leftovers, Plan, Prepare, PrepareError, Prepared, Retired, Section};
use crate::types::WorkloadId;
use crate::workload::{Adopted, PreparedStatic, StartError, Workloads};

/// Workloads built at once: enough to keep the registry and all compile threads busy.
const BUILDS_MAX: usize = 8;

/// How much of `[reload] prepare_timeout` they may take at the start: a registry that hangs is no reason not to start.
/// The rest is for the engine before and the listeners behind them.
const FIRST_BUILDS_SHARE: f32 = 0.7;

pub(super) struct WorkloadsSection(Arc<Shared>);

struct PreparedWorkloads {
    workloads: Workloads,
    prepared: Vec<PreparedStatic>,
    failed: Vec<(StaticWorkload, StartError)>,
    removed: Vec<WorkloadId>,
}

struct RetiredWorkloads {
    workloads: Workloads,
    adopted: Vec<Adopted>,
}

impl WorkloadsSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    async fn prepare_now(&self, plan: &Plan, draft: &Draft) -> Prepare {
        let (changed, removed) = difference(&plan.old.workloads, &plan.new.workloads);
        if changed.is_empty() && removed.is_empty() {
            return Ok(None);
        }
        let workloads = self.0.workloads(draft)?;
        let plugins = draft.plugins.clone().unwrap_or_else(|| workloads.plugins());
        let limit = plan.is_first.then(|| plan.new.reload.prepare_timeout.mul_f32(FIRST_BUILDS_SHARE));
        let deadline = limit.map(|limit| (limit, Instant::now() + limit));
        let built: Vec<(StaticWorkload, Result<PreparedStatic, StartError>)> = stream::iter(changed)
            .map(|workload| {
                let (workloads, plugins) = (&workloads, &plugins);
                async move {
                    let prepare = workloads.prepare_static(&workload.id, &workload.spec, plugins);
                    let prepared = match deadline {
                        Some((limit, at)) => timeout_at(at, prepare).await.unwrap_or(Err(StartError::NotInTime(limit))),
                        None => prepare.await,
                    };
                    (workload, prepared)
                }
            })
            .buffer_unordered(BUILDS_MAX)
            .collect()
            .await;
        let mut prepared = Vec::with_capacity(built.len());
        let mut failed = Vec::new();
        for (workload, result) in built {
            match result {
                Ok(built) => prepared.push(built),
                Err(error) => failed.push((workload, error)),
            }
        }
        // At the start there is no older version to keep: what fails is recorded, and tried again.
        if !plan.is_first && !failed.is_empty() {
            return Err(refused(&failed));
        }
        Ok(Some(Box::new(PreparedWorkloads { workloads, prepared, failed, removed })))
    }
}

/// What is new or changed, in the order of the file; and what is gone.
fn difference(old: &[StaticWorkload], new: &[StaticWorkload]) -> (Vec<StaticWorkload>, Vec<WorkloadId>) {
    let changed = new.iter().filter(|workload| !old.contains(workload)).cloned().collect();
    let stays = |id: &WorkloadId| new.iter().any(|workload| workload.id == *id);
    let removed = old.iter().filter(|workload| !stays(&workload.id)).map(|workload| workload.id.clone()).collect();
    (changed, removed)
}

fn refused(failed: &[(StaticWorkload, StartError)]) -> PrepareError {
    let lines: Vec<String> = failed
        .iter()
        .map(|(workload, error)| {
            format!("workload {}/{}: {}", workload.spec.namespace, workload.spec.name, Chain(error))
        })
        .collect();
    let is_passing = failed.iter().all(|(_workload, error)| error.blame() == Blame::Remote);
    let blame = if is_passing { Blame::Remote } else { Blame::Workload };
    let mut lines = lines.into_iter();
    let first = lines.next().unwrap_or_default();
    let error = PrepareError::new(blame, first).and(lines.collect());
    if is_passing { error.passing() } else { error }
}

impl Section<Draft> for WorkloadsSection {
    fn name(&self) -> &'static str {
        "workloads"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        self.prepare_now(plan, draft).boxed()
    }
}

impl Prepared for PreparedWorkloads {
    fn failed(&self) -> Vec<String> {
        self.failed.iter().map(|(workload, _error)| workload.key()).collect()
    }

    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { workloads, prepared, failed, removed } = *self;
        let mut adopted: Vec<Adopted> = prepared.into_iter().map(|prepared| workloads.adopt_static(prepared)).collect();
        adopted.extend(removed.iter().map(|id| workloads.remove_static(id)));
        for (workload, error) in &failed {
            workloads.fail_static(&workload.id, &workload.spec, error);
        }
        Box::new(RetiredWorkloads { workloads, adopted })
    }
}

impl Retired for RetiredWorkloads {
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers> {
        async move {
            let Self { workloads, adopted } = *self;
            let drained = adopted.into_iter().map(|adopted| workloads.retire_static(adopted, deadline));
            let forced = futures::future::join_all(drained).await.into_iter().sum();
            Leftovers { forced }
        }
        .boxed()
    }
}
