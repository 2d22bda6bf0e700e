//! `[plugins.*]`: another set of plugins, with every workload that uses one of them linked against it.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use tokio::time::Instant;

use crate::daemon::draft::Draft;
use crate::daemon::sections::Shared;
use crate::error::Blame;
use crate::plugin::{PluginSet, SetChange};
use crate::reload::{Leftovers, Plan, Prepare, PrepareError, Prepared, Retired, Section};
use crate::task;
use crate::types::WorkloadId;
use crate::workload::{RelinkError, Relinked, Replaced};

pub(super) struct PluginsSection(Arc<Shared>);

struct PreparedPlugins {
    change: SetChange,
    relinked: Relinked,
}

struct RetiredPlugins(Replaced);

impl PluginsSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    async fn prepare_now(&self, plan: &Plan, draft: &mut Draft) -> Prepare {
        if !plan.is_first && plan.old.plugins == plan.new.plugins {
            return Ok(None);
        }
        let workloads = self.0.workloads(draft)?;
        let (plugins, change) = PluginSet::build(&plan.new.plugins, Some(&workloads.plugins()));
        let plugins = Arc::new(plugins);
        draft.plugins = Some(Arc::clone(&plugins));
        let leaving = leaving(plan);
        let in_use = plan.new.reload.in_use;
        let relink = async move { workloads.relink(plugins, &leaving, in_use).await };
        let relinked = task::spawn_on(&self.0.workers, "relink", relink)
            .await
            .ok()
            .flatten()
            .ok_or_else(|| PrepareError::new(Blame::Host, "linking the workloads panicked"))?
            .map_err(refused)?;
        Ok(Some(Box::new(PreparedPlugins { change, relinked })))
    }
}

/// Static workloads that the same edit removes or replaces: they are not asked.
fn leaving(plan: &Plan) -> HashSet<WorkloadId> {
    plan.old.workloads.iter().filter(|old| !plan.new.workloads.contains(old)).map(|old| old.id.clone()).collect()
}

fn refused(error: RelinkError) -> PrepareError {
    match &error {
        RelinkError::InUse(_) => PrepareError::new(Blame::Configuration, error.to_string()).in_use(),
        RelinkError::Assemble { .. } => PrepareError::new(Blame::Configuration, "plugins").because(error),
    }
}

impl Section<Draft> for PluginsSection {
    fn name(&self) -> &'static str {
        "plugins"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        self.prepare_now(plan, draft).boxed()
    }
}

impl Prepared for PreparedPlugins {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { change, relinked } = *self;
        change.commit();
        Box::new(RetiredPlugins(relinked.commit()))
    }
}

impl Retired for RetiredPlugins {
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers> {
        self.0.retire(deadline).map(|forced| Leftovers { forced }).boxed()
    }
}
