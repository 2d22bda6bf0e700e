//! `[nats.scheduler]`: joins the control plane, moves it to another connection beside the old one, and leaves it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::cluster::placed::Placed;
use crate::cluster::resume::resume;
use crate::config::port::ConfigPort;
use crate::config::{Config, Scheduler};
use crate::control::{self, ChangeError, ControlPlane, Ports, PreparedConnection, RetiredConnection};
use crate::daemon::draft::Draft;
use crate::daemon::report::Report;
use crate::daemon::sections::{Shared, files_differ};
use crate::error::Blame;
use crate::nats::NatsClient;
use crate::reload::{Leftovers, NothingRetired, Plan, Prepare, PrepareError, Prepared, Retired, Section};
use crate::workload::Workloads;

/// How often the placed workloads are looked at while they end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For the last answers, after the last placed workload.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

pub(super) struct SchedulerSection(Arc<Shared>);

struct PreparedScheduler {
    shared: Arc<Shared>,
    step: Step,
}

/// What becomes of the control plane.
enum Step {
    /// It begins: with a connection, or at a start with the wish for one.
    Join(Scheduler, Option<NatsClient>),
    /// Only its numbers change.
    Apply(Scheduler),
    /// Another connection takes over.
    Switch(PreparedConnection),
    /// It ends.
    Leave,
}

struct RetiredLink(RetiredConnection);

struct RetiredControl {
    control: Arc<ControlPlane>,
    workloads: Workloads,
}

impl SchedulerSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    async fn step(&self, plan: &Plan) -> Result<Option<Step>, ChangeError> {
        let control = self.0.live().control.clone();
        Ok(match (control, &plan.new.nats.scheduler) {
            (None, None) => None,
            (Some(_), None) => Some(Step::Leave),
            // Joining is not waited for: a host starts before its NATS does.
            (None, Some(new)) if plan.is_first => Some(Step::Join(new.clone(), None)),
            (None, Some(new)) => {
                let Some(host) = self.0.host() else { return Ok(None) };
                let proven = control::prove(new, host.id(), &self.0.tallies.scheduler).await?;
                Some(Step::Join(new.clone(), Some(proven)))
            }
            (Some(control), Some(new)) if needs_another_connection(&plan.old, &plan.new) => {
                Some(Step::Switch(control.prepare(new.clone()).await?))
            }
            (Some(_), Some(new)) if plan.old.nats.scheduler.as_ref() != Some(new) => Some(Step::Apply(new.clone())),
            (Some(_), Some(_)) => None,
        })
    }
}

/// Other settings, or other content of a file that they name.
fn needs_another_connection(old: &Config, new: &Config) -> bool {
    let connection = |config: &Config| config.nats.scheduler.clone().map(|scheduler| scheduler.connection);
    connection(old) != connection(new) || files_differ("nats.scheduler", old, new)
}

fn refusal(error: ChangeError) -> PrepareError {
    let is_passing = error.is_passing();
    let refused = PrepareError::new(Blame::Remote, error.to_string());
    let refused = match error {
        ChangeError::Connect(source) => refused.because(source),
        ChangeError::Subscribe(source) => refused.because(source),
        ChangeError::Refused(_) | ChangeError::Silent | ChangeError::Gone => refused,
    };
    if is_passing { refused.passing() } else { refused }
}

impl Section<Draft> for SchedulerSection {
    fn name(&self) -> &'static str {
        "nats.scheduler"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, _draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        async move {
            let step = self.step(plan).await.map_err(refusal)?;
            let shared = Arc::clone(&self.0);
            Ok(step.map(|step| Box::new(PreparedScheduler { shared, step }) as Box<dyn Prepared>))
        }
        .boxed()
    }
}

impl Prepared for PreparedScheduler {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { shared, step } = *self;
        let Some(host) = shared.host() else { return Box::new(NothingRetired) };
        let mut live = shared.live();
        match step {
            Step::Join(settings, first) => {
                let config = Some(Arc::new(Report::new(&shared)) as Arc<dyn ConfigPort>);
                let placed = Placed::new(Arc::clone(host), shared.journal(), shared.workers.clone());
                // Reserved before anybody can ask: whoever does finds them starting, and none is unknown.
                if let Some(found) = shared.take_found() {
                    resume(&placed, found, SystemTime::now());
                }
                let tally = Arc::clone(&shared.tallies.scheduler);
                let ports = Ports { host: Arc::new(placed), config, tally };
                let control = ControlPlane::start(settings, host.id().clone(), ports, first, &shared.control_thread);
                live.control = Some(Arc::new(control));
            }
            Step::Apply(settings) => {
                if let Some(control) = &live.control {
                    control.apply(settings);
                }
            }
            Step::Switch(connection) => return Box::new(RetiredLink(connection.commit())),
            Step::Leave => {
                if let Some(control) = live.control.take() {
                    // Before anything else is placed here.
                    control.begin_drain();
                    shared.journal().record_end_of_all();
                    return Box::new(RetiredControl { control, workloads: host.workloads().clone() });
                }
            }
        }
        Box::new(NothingRetired)
    }
}

impl Retired for RetiredLink {
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers> {
        async move { Leftovers { forced: self.0.retire(deadline).await } }.boxed()
    }
}

impl Retired for RetiredControl {
    /// What was placed here ends: nobody is left who would stop it. Until then questions are still answered.
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers> {
        let Self { control, workloads } = *self;
        async move {
            control.drain().await;
            workloads.stop_placed();
            let gone = async {
                while workloads.has_placed() {
                    sleep(LOOK_EVERY).await;
                }
            };
            if timeout_at(deadline, gone).await.is_err() {
                warn!("placed workloads are still being stopped: the control plane ends before them");
            }
            control.close(CLOSE_TIME_MAX).await;
            Leftovers::default()
        }
        .boxed()
    }
}
