//! `[engine]` and `[artifacts]`: made once, at the start; later changes wait for a restart.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::artifact::Artifacts;
use crate::daemon::draft::Draft;
use crate::daemon::sections::{Shared, compile_turns, workload_settings};
use crate::engine::Engine;
use crate::error::Blame;
use crate::host::Host;
use crate::plugin::PluginSet;
use crate::reload::{NothingRetired, Plan, Prepare, PrepareError, Prepared, Retired, Section};
use crate::state::Identity;
use crate::task;
use crate::workload::{Parts, Workloads};

pub(super) struct EngineSection(Arc<Shared>);

struct PreparedHost {
    shared: Arc<Shared>,
    host: Arc<Host>,
}

impl EngineSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    async fn make(&self, plan: &Plan) -> Result<Workloads, PrepareError> {
        let settings = plan.new.engine.clone();
        let engine = task::blocking("engine", move || Engine::new(&settings))
            .await
            .ok_or_else(|| PrepareError::new(Blame::Host, "making the engine panicked"))?
            .map_err(|error| PrepareError::new(Blame::Configuration, "engine").because(error))?;
        let (artifacts, registry) = (plan.new.artifacts.clone(), plan.new.registry.clone());
        let artifacts = task::blocking("artifacts", move || Artifacts::open(&artifacts, registry))
            .await
            .ok_or_else(|| PrepareError::new(Blame::Host, "opening the artifact cache panicked"))?
            .map_err(|error| PrepareError::new(Blame::Configuration, "artifacts.cache_dir").because(error))?;
        let parts = Parts {
            engine,
            artifacts,
            routes: Arc::clone(&self.0.router) as _,
            plugins: Arc::new(PluginSet::default()),
            workers: self.0.workers.clone(),
        };
        Ok(Workloads::new(parts, workload_settings(&plan.new), compile_turns(&plan.new)))
    }
}

impl Section<Draft> for EngineSection {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        Box::pin(async move {
            if !plan.is_first {
                return Ok(None);
            }
            let Some(Identity { host_id, generated_name }) = draft.identity.clone() else {
                return Err(PrepareError::new(Blame::Host, "the state section did not come first"));
            };
            let workloads = self.make(plan).await?;
            draft.workloads = Some(workloads.clone());
            let host = Arc::new(Host::new(host_id, generated_name, workloads));
            Ok(Some(Box::new(PreparedHost { shared: Arc::clone(&self.0), host }) as Box<dyn Prepared>))
        })
    }
}

impl Prepared for PreparedHost {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        // Only the first attempt that commits comes here, so the place is empty.
        let Self { shared, host } = *self;
        shared.host.get_or_init(|| host);
        Box::new(NothingRetired)
    }
}
