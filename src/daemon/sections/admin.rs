//! `[admin]`: a new address is bound before the old listener closes.

use std::sync::Arc;

use futures::future::{BoxFuture, ready};
use tracing::info;

use crate::admin::{AdminPort, AdminServer, BoundAdmin};
use crate::daemon::draft::Draft;
use crate::daemon::report::Report;
use crate::daemon::sections::Shared;
use crate::error::Blame;
use crate::reload::{NothingRetired, Plan, Prepare, PrepareError, Prepared, Retired, Section};

pub(super) struct AdminSection(Arc<Shared>);

struct PreparedAdmin {
    shared: Arc<Shared>,
    bound: Option<BoundAdmin>,
}

impl AdminSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    fn prepare_now(&self, plan: &Plan) -> Prepare {
        if plan.old.admin == plan.new.admin {
            return Ok(None);
        }
        let bound = plan
            .new
            .admin
            .listen
            .map(AdminServer::bind)
            .transpose()
            .map_err(|error| PrepareError::new(Blame::Host, "admin.listen").because(error).passing())?;
        Ok(Some(Box::new(PreparedAdmin { shared: Arc::clone(&self.0), bound })))
    }
}

impl Section<Draft> for AdminSection {
    fn name(&self) -> &'static str {
        "admin"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, _draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        Box::pin(ready(self.prepare_now(plan)))
    }
}

impl Prepared for PreparedAdmin {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { shared, bound } = *self;
        let port: Arc<dyn AdminPort> = Arc::new(Report::new(&shared));
        let server = bound.map(|bound| bound.serve(port, &shared.control_thread));
        if let Some(server) = &server {
            info!(admin.listen = %server.local_addr(), "admin listener ready");
        }
        // What it was doing ends with it: probes and scrapes are asked again.
        drop(std::mem::replace(&mut shared.live().admin, server));
        Box::new(NothingRetired)
    }
}
