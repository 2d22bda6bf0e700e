//! `[nats.scheduler]`: joins the control plane at the start; its connection is changed by a restart, its numbers live.

use std::sync::Arc;

use futures::future::{BoxFuture, ready};

use crate::cluster::placed::Placed;
use crate::config::Scheduler;
use crate::control::ControlPlane;
use crate::daemon::draft::Draft;
use crate::daemon::sections::Shared;
use crate::reload::{NothingRetired, Plan, Prepare, Prepared, Retired, Section};

pub(super) struct SchedulerSection(Arc<Shared>);

struct PreparedScheduler {
    shared: Arc<Shared>,
    settings: Scheduler,
}

impl SchedulerSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }
}

impl Section<Draft> for SchedulerSection {
    fn name(&self) -> &'static str {
        "nats.scheduler"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, _draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        let prepared = match &plan.new.nats.scheduler {
            Some(new) if plan.is_first || plan.old.nats.scheduler.as_ref() != Some(new) => {
                let settings = new.clone();
                Some(Box::new(PreparedScheduler { shared: Arc::clone(&self.0), settings }) as Box<dyn Prepared>)
            }
            Some(_) | None => None,
        };
        Box::pin(ready(Ok(prepared)))
    }
}

impl Prepared for PreparedScheduler {
    /// Joining is not waited for: a host starts before its NATS does.
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { shared, settings } = *self;
        let mut live = shared.live();
        match (&live.control, shared.host()) {
            (Some(control), _) => control.apply(settings),
            (None, Some(host)) => {
                let placed = Arc::new(Placed(Arc::clone(host)));
                let control = ControlPlane::start(settings, host.id().clone(), placed, &shared.control_thread);
                live.control = Some(Arc::new(control));
            }
            (None, None) => {}
        }
        Box::new(NothingRetired)
    }
}
