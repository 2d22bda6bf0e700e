//! `[limits]`, `[drain]`, `[registry]` and the numbers of `[nats.scheduler]`: values that whatever begins next reads.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::config::Config;
use crate::daemon::draft::Draft;
use crate::daemon::sections::{Shared, compile_turns, workload_settings};
use crate::reload::{NothingRetired, Plan, Prepare, Prepared, Retired, Section};
use crate::workload::Workloads;

pub(super) struct PolicySection(Arc<Shared>);

struct PreparedPolicy {
    shared: Arc<Shared>,
    workloads: Workloads,
    config: Arc<Config>,
}

impl PolicySection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    fn prepare_now(&self, plan: &Plan, draft: &mut Draft) -> Prepare {
        let Plan { old, new, is_first, .. } = plan;
        let same = old.limits == new.limits
            && old.drain == new.drain
            && old.registry == new.registry
            && compile_turns(old) == compile_turns(new);
        if same && !is_first {
            return Ok(None);
        }
        let workloads = self.0.workloads(draft)?;
        // What the same edit adds is pulled from the new registries, and keeps to the new limits.
        let artifacts = workloads.artifacts().under(new.registry.clone());
        draft.policy = Some((Arc::new(workload_settings(new)), artifacts));
        Ok(Some(Box::new(PreparedPolicy { shared: Arc::clone(&self.0), workloads, config: Arc::clone(new) })))
    }
}

impl Section<Draft> for PolicySection {
    fn name(&self) -> &'static str {
        "limits"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        Box::pin(async move { self.prepare_now(plan, draft) })
    }
}

impl Prepared for PreparedPolicy {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { shared, workloads, config } = *self;
        shared.live().drain = config.drain.clone();
        workloads.apply(workload_settings(&config), compile_turns(&config));
        workloads.artifacts().apply(config.registry.clone());
        Box::new(NothingRetired)
    }
}
