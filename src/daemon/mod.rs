//! The composition root of the binary: an empty host, the first reload, and then whatever the file says.
//!
//! Two runtimes: the *workers* run guests, pulls, compiles and the ingress; the *control thread* runs what must answer
//! while those are busy: the reload task, the control plane, signals. They share channels and immutable values, never
//! a lock that is held while waiting.

mod draft;
mod forecast;
mod report;
mod scrape;
mod sections;
mod shutdown;
mod signal;
mod source;
mod status;
mod supervisor;
#[cfg(test)]
mod tests;

pub use forecast::{Forecast, forecast};
pub(crate) use source::unreachable_updates;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use crate::admin::{AdminPort as _, Verdict};
use crate::config::{Base, Config, FlagValue, env};
use crate::daemon::report::Report;
use crate::daemon::sections::Shared;
use crate::daemon::shutdown::Ended;
use crate::daemon::source::FileSource;
use crate::daemon::supervisor::Notifier;
use crate::error::Blame;
use crate::reload::{Outcome, Reloader, ReloaderParts};
use crate::task::{ControlThread, Shutdown, spawn};
use crate::telemetry;
use crate::types::HostId;

/// How long the end waits for what tasks hold to be dropped.
const LAST_DROPS_TIME_MAX: Duration = Duration::from_millis(500);

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// What the host is if nobody says anything.
    pub base: Base,
    /// The configuration file; defaults, environment and flags alone if absent.
    pub config_path: Option<PathBuf>,
    /// Flags that set configuration keys.
    pub flags: Vec<FlagValue>,
}

/// Why the process does not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No threads, no runtime.
    #[error("cannot start the host's threads")]
    Threads(#[source] std::io::Error),
    /// The first configuration could not be applied; the log says why, line by line.
    #[error("the host did not start: the log above says why")]
    Start {
        /// Who has to act.
        blame: Blame,
    },
    /// A second signal during the drain.
    #[error("ended by signal {signal} before the drain was over")]
    Interrupted {
        /// Its number.
        signal: u8,
    },
}

impl RunError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Start { blame } => *blame,
            Self::Threads(_) | Self::Interrupted { .. } => Blame::Host,
        }
    }
}

/// Runs the host until SIGTERM or SIGINT, then lets its work end.
///
/// Blocks the calling thread. Returns once nothing of the host is left.
///
/// # Errors
/// If the host cannot start, or a second signal ended it early.
pub fn run(launch: Launch) -> Result<(), RunError> {
    let logs = telemetry::install();
    if let Some(log) = source::first_log(&launch) {
        // Checked: what is wrong with it is said by the first attempt.
        let _is_a_filter = logs.apply(&log);
    }
    let workers = workers().map_err(RunError::Threads)?;
    let control = ControlThread::start("washlet-control").map_err(RunError::Threads)?;
    let ended = workers.block_on(async {
        let on_control = Host::new(launch, &workers, &control).run();
        control.run("daemon", on_control).await.unwrap_or(Err(RunError::Start { blame: Blame::Host }))
    });
    drop(control);
    // Guests that would not end are dropped with their runtime: they give way at every tick. A compile is not waited
    // for to its end; what is dropped properly removes its temporary files.
    workers.shutdown_timeout(LAST_DROPS_TIME_MAX);
    ended
}

/// Whether nothing can reach this host: most likely its file was forgotten.
fn serves_nothing(config: &Config) -> bool {
    config.http.listen.is_none() && config.nats.scheduler.is_none()
}

fn workers() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().thread_name("washlet-worker").enable_all().build()
}

/// The parts of the process, before they run.
struct Host {
    launch: Launch,
    shared: Arc<Shared>,
}

impl Host {
    fn new(launch: Launch, workers: &Runtime, control: &ControlThread) -> Self {
        let shared = Arc::new(Shared::new(workers.handle().clone(), control.handle().clone()));
        Self { launch, shared }
    }

    /// On the control thread.
    async fn run(self) -> Result<(), RunError> {
        let Self { launch, shared } = self;
        let mut signals = signal::Signals::listen().map_err(RunError::Threads)?;
        let stop = Shutdown::default();
        info!(version = env!("CARGO_PKG_VERSION"), "washlet starts");
        let (reloader, task) = Reloader::new(ReloaderParts {
            source: Box::new(FileSource::new(launch)),
            sections: sections::in_order(&shared),
            // Before anybody knows who the host is; hosts are as spread by it.
            poll_seed: HostId::random().to_string(),
            shutdown: stop.clone(),
        });
        shared.set_reloader(reloader.clone());
        let reload_task = spawn("reload", task.run());
        let notifier = Notifier::new(env::supervisor()).map(Arc::new);
        let told = notifier.clone().map(|notifier| {
            let report = Report::new(&shared);
            let is_well = move || report.liveness().iter().all(|check| check.verdict != Verdict::Fail);
            AbortOnDropHandle::new(spawn("supervisor", supervisor::tell(notifier, reloader.clone(), is_well)))
        });
        let first = tokio::select! {
            first = reloader.first() => first,
            signal = signals.next() => {
                info!(signal = signal.name(), "stopped before the start was over");
                stop.trigger();
                return Ok(());
            }
        };
        match first {
            Ok(first) if first.outcome == Outcome::Applied => {}
            Ok(first) => {
                let blame = first.rejection.as_ref().map_or(Blame::Host, |rejection| rejection.blame);
                return Err(RunError::Start { blame });
            }
            Err(_task_gone) => return Err(RunError::Start { blame: Blame::Host }),
        }
        if serves_nothing(&reloader.live().borrow().config) {
            info!("nothing to serve: neither http.listen nor nats.scheduler is set");
        }
        let signal = signals.next().await;
        info!(signal = signal.name(), "draining");
        if let Some(notifier) = &notifier {
            notifier.stopping();
        }
        shared.begin_drain();
        // No reload from here on: what is live is what drains.
        stop.trigger();
        drop(reloader);
        drop(reload_task.await);
        let ended = shutdown::drain(&shared, &mut signals).await;
        drop(told);
        match ended {
            Ended::Drained => Ok(()),
            Ended::Interrupted(signal) => Err(RunError::Interrupted { signal: signal.number() }),
        }
    }
}
