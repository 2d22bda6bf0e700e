//! `[plugins.*]`: another set of plugins, with every workload that uses one of them linked against it.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, join, join_all};
use tokio::time::Instant;

use crate::daemon::draft::Draft;
use crate::daemon::sections::Shared;
use crate::error::Blame;
use crate::plugin::{NotReady, PluginSet, Retiring, SetChange};
use crate::reload::{Leftovers, Plan, Prepare, PrepareError, Prepared, Retired, Section};
use crate::task;
use crate::types::WorkloadId;
use crate::workload::{RelinkError, Relinked, Replaced};

pub(super) struct PluginsSection(Arc<Shared>);

struct PreparedPlugins {
    change: SetChange,
    relinked: Relinked,
}

struct RetiredPlugins {
    backends: Vec<Box<dyn Retiring>>,
    links: Replaced,
}

impl PluginsSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    async fn prepare_now(&self, plan: &Plan, draft: &mut Draft) -> Prepare {
        let workloads = self.0.workloads(draft)?;
        let (plugins, mut change) = PluginSet::build(&plan.new.plugins, &draft.means, Some(&workloads.plugins()));
        if !plan.is_first {
            if change.is_empty() {
                return Ok(None);
            }
            change.ready().await.map_err(not_ready)?;
        }
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

fn not_ready((id, error): (&'static str, NotReady)) -> PrepareError {
    let NotReady { message, is_passing, source } = error;
    let blame = if is_passing { Blame::Remote } else { Blame::Configuration };
    let refused = PrepareError::new(blame, format!("{id}: {message}"));
    let refused = if is_passing { refused.passing() } else { refused };
    match source {
        Some(source) => refused.because(source),
        None => refused,
    }
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
        let backends = change.commit();
        Box::new(RetiredPlugins { backends, links: relinked.commit() })
    }
}

impl Retired for RetiredPlugins {
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers> {
        async move {
            let Self { backends, links } = *self;
            let backends = join_all(backends.into_iter().map(|backend| backend.retire(deadline)));
            let (cut, forced) = join(backends, links.retire(deadline)).await;
            Leftovers { forced: forced + cut.into_iter().sum::<usize>() }
        }
        .boxed()
    }
}
