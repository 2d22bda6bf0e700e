//! `[host]`: who the host says it is.

use std::sync::Arc;

use futures::future::{BoxFuture, ready};

use crate::config;
use crate::daemon::draft::Draft;
use crate::daemon::sections::Shared;
use crate::reload::{NothingRetired, Plan, Prepare, Prepared, Retired, Section};

pub(super) struct HostSection(Arc<Shared>);

struct PreparedSettings {
    shared: Arc<Shared>,
    settings: config::Host,
}

impl HostSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }
}

impl Section<Draft> for HostSection {
    fn name(&self) -> &'static str {
        "host"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, _draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        let is_same = !plan.is_first && plan.old.host == plan.new.host && plan.old.http.listen == plan.new.http.listen;
        Box::pin(ready(if is_same {
            Ok(None)
        } else {
            let settings = plan.new.host.clone();
            Ok(Some(Box::new(PreparedSettings { shared: Arc::clone(&self.0), settings }) as Box<dyn Prepared>))
        }))
    }
}

impl Prepared for PreparedSettings {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { shared, settings } = *self;
        if let Some(host) = shared.host() {
            host.apply(settings);
        }
        // The operator need not wait for the next beat to learn of other labels or another port.
        if let Some(control) = &shared.live().control {
            control.heartbeat_now();
        }
        Box::new(NothingRetired)
    }
}
