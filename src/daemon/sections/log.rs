//! `[log]`: filter and format.

use futures::future::{BoxFuture, ready};

use crate::config::Log;
use crate::daemon::draft::Draft;
use crate::error::Blame;
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
    telemetry::check_filter(&plan.new.log.level).map_err(|reason| {
        PrepareError::new(Blame::Configuration, format!("log.level is not a filter: {reason}"))
    })?;
    Ok(Some(Box::new(PreparedLog(plan.new.log.clone()))))
}

impl Prepared for PreparedLog {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        telemetry::apply(&self.0);
        Box::new(NothingRetired)
    }
}
