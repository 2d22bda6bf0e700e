//! `[log]`: filter and format.

use futures::future::{BoxFuture, ready};

use crate::config::Log;
use crate::daemon::draft::Draft;
use crate::error::{Blame, Chain};
use crate::reload::{NothingRetired, Plan, Prepare, PrepareError, Prepared, Retired, Section};
use crate::telemetry;

pub(super) struct LogSection;

struct PreparedLog(Log);

impl Section<Draft> for LogSection {
    fn name(&self) -> &'static str {
        "log"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, _draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        Box::pin(ready(prepare(plan)))
    }
}

fn prepare(plan: &Plan) -> Prepare {
    if !plan.is_first && plan.old.log == plan.new.log {
        return Ok(None);
    }
    telemetry::check_filter(&plan.new.log.level)
        .map_err(|error| PrepareError::new(Blame::Configuration, "log.level cannot be used").because(error))?;
    Ok(Some(Box::new(PreparedLog(plan.new.log.clone()))))
}

impl Prepared for PreparedLog {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        if let Err(error) = telemetry::install().apply(&self.0) {
            // Checked in prepare: it was a filter then.
            tracing::error!(error = %Chain(&error), "the log filter could not be applied");
        }
        Box::new(NothingRetired)
    }
}
