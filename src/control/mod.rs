//! The control plane: explicit subscriptions, heartbeats, every request answered. Contains no wasmtime.
//!
//! ```text
//! ControlPlane --phase, settings (watch)--> control task --messages--> Commands --> ControlledHost
//!      ^                                      |    |                       '--> a task per start and per reply
//!      |                                      |    '------ questions --> Questions --> ConfigPort
//!      '------------ state (watch) -----------+--> heartbeat task: a timer of its own
//! ```
//!
//! Another connection is prepared, committed and retired beside the one in use ([`ControlPlane::prepare`]): meanwhile
//! the control task serves both, handles each message once, and answers it where it came from.
//!
//! All of it runs on the runtime it is given, the control thread's, and never waits for anything slow. A task that dies
//! is restarted, logged and counted. Absent on purpose: what a start does, and how long it may take.

mod answer;
mod change;
mod command;
mod connection;
mod heartbeat;
mod link;
pub(crate) mod port;
mod question;
mod read;
mod subject;
#[cfg(test)]
mod tests;
pub(crate) mod tool;
mod wire;

pub(crate) use change::{ChangeError, PreparedConnection, RetiredConnection, prove};
pub(crate) use read::start_in as read_start;
pub(crate) use wire::{Malformed, Reply, SeenHost};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::error;

use crate::config::Scheduler;
use crate::config::port::ConfigPort;
use crate::control::link::{LinkId, NewLink};
use crate::control::port::ControlledHost;
use crate::error::Chain;
use crate::nats::{NatsClient, Tally};
use crate::task::{self, Backoff};
use crate::types::HostId;

const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(10);
/// The operator must see "no responders" within 100 ms of the signal.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// The host's side of the control plane. Dropping it ends it, without drain.
pub(crate) struct ControlPlane {
    core: Arc<Core>,
}

/// Whom the control plane works for.
pub(crate) struct Ports {
    /// The host itself.
    pub(crate) host: Arc<dyn ControlledHost>,
    /// Who answers questions about the configuration; without it they have no responder.
    pub(crate) config: Option<Arc<dyn ConfigPort>>,
    /// Where it is counted what happens to its connections.
    pub(crate) tally: Arc<Tally>,
}

/// Where a host stands with its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlState {
    /// Never connected yet.
    Connecting,
    /// Subscribed, and heard of.
    Joined,
    /// Was connected; being connected again.
    Lost,
    /// Takes no more starts and is silent; status and stop still answer.
    Draining,
    /// Over.
    Closed,
}

/// What the control plane is told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    /// Over by then.
    Closing(Instant),
}

/// What the tasks of one control plane share.
struct Core {
    host_id: HostId,
    host: Arc<dyn ControlledHost>,
    config: Option<Arc<dyn ConfigPort>>,
    tally: Arc<Tally>,
    settings: watch::Sender<Scheduler>,
    /// The connection that is wanted live.
    live: watch::Sender<LinkId>,
    last_link: AtomicU64,
    /// Connections that the control task has not taken up.
    joining: Mutex<Vec<NewLink>>,
    joined: Notify,
    phase: watch::Sender<Phase>,
    state: watch::Sender<ControlState>,
    heartbeat_wanted: Notify,
    restarts: AtomicU64,
}

impl ControlPlane {
    /// Joins in the background, on the runtime `on`, for ever. Never blocks. `ports` say what it serves; it begins with
    /// the connection `first`, or makes one.
    pub(crate) fn start(
        settings: Scheduler,
        host_id: HostId,
        ports: Ports,
        first: Option<NatsClient>,
        on: &Handle,
    ) -> Self {
        let Ports { host, config, tally } = ports;
        let first = first.map(|nats| NewLink { id: 0, nats, abandoned: None, replaced: None, attached: None });
        let core = Arc::new(Core {
            host_id,
            host,
            config,
            tally,
            settings: watch::Sender::new(settings),
            live: watch::Sender::new(0),
            last_link: AtomicU64::new(0),
            joining: Mutex::new(first.into_iter().collect()),
            joined: Notify::new(),
            phase: watch::Sender::new(Phase::Serving),
            state: watch::Sender::new(ControlState::Connecting),
            heartbeat_wanted: Notify::new(),
            restarts: AtomicU64::new(0),
        });
        // It ends when the phase says so.
        drop(task::spawn_on(on, "control supervisor", supervise(Arc::clone(&core))));
        Self { core }
    }

    /// Connects and subscribes with other `settings`, beside the connection in use; call on the control thread. Until
    /// it is committed, its messages are handled all the same, so that a change that is abandoned loses none.
    pub(crate) async fn prepare(&self, settings: Scheduler) -> Result<PreparedConnection, ChangeError> {
        change::prepare(Arc::clone(&self.core), settings).await
    }

    /// Where the host stands with its operator.
    pub(crate) fn state(&self) -> watch::Receiver<ControlState> {
        self.core.state.subscribe()
    }

    /// How often a task of it died and was started again.
    pub(crate) fn restarts(&self) -> u64 {
        self.core.restarts.load(Ordering::Relaxed)
    }

    /// Publishes a heartbeat at once: something in it changed that the operator must know.
    pub(crate) fn heartbeat_now(&self) {
        self.core.heartbeat_wanted.notify_one();
    }

    /// Takes over interval and limits; another connection has to be prepared.
    pub(crate) fn apply(&self, settings: Scheduler) {
        self.core.settings.send_replace(settings);
    }

    /// Stops heartbeats, and leaves `heartbeat` and `workload.start`, so that the operator places nothing more here.
    /// Returns within 100 ms, whatever the connection does. A second call does nothing.
    pub(crate) async fn drain(&self) {
        self.begin_drain();
        let left = |state: &ControlState| matches!(state, ControlState::Draining | ControlState::Closed);
        let mut state = self.state();
        if timeout(DRAIN_TIMEOUT, state.wait_for(left)).await.is_err() {
            error!("the control plane did not drain in time");
        }
    }

    /// As [`ControlPlane::drain`], without waiting for it: starts are refused from now on.
    pub(crate) fn begin_drain(&self) {
        self.core.phase.send_if_modified(|phase| {
            let is_serving = *phase == Phase::Serving;
            if is_serving {
                *phase = Phase::Draining;
            }
            is_serving
        });
    }

    /// Answers what is open, and ends, within `patience`.
    pub(crate) async fn close(&self, patience: Duration) {
        self.core.phase.send_replace(Phase::Closing(Instant::now() + patience));
        let mut state = self.state();
        // A little more than it gives itself: it logs what it could not finish.
        let closed = timeout(patience + DRAIN_TIMEOUT, state.wait_for(|state| *state == ControlState::Closed));
        if closed.await.is_err() {
            error!("the control plane did not close in time");
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.core.phase.send_if_modified(|phase| {
            let is_open = !matches!(phase, Phase::Closing(_));
            if is_open {
                *phase = Phase::Closing(Instant::now());
            }
            is_open
        });
    }
}

impl Core {
    fn next_link(&self) -> LinkId {
        self.last_link.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Hands a connection to the control task.
    fn join(&self, link: NewLink) {
        self.joining().push(link);
        self.joined.notify_one();
    }

    fn take_joining(&self) -> Vec<NewLink> {
        std::mem::take(&mut *self.joining())
    }

    fn joining(&self) -> std::sync::MutexGuard<'_, Vec<NewLink>> {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is draining or closed does not join again.
    fn set_state(&self, new: ControlState) {
        self.state.send_if_modified(|state| {
            let is_leaving = matches!(state, ControlState::Draining | ControlState::Closed);
            // Nothing is lost that was never had.
            let is_first = *state == ControlState::Connecting && new == ControlState::Lost;
            let changes = *state != new && !is_first && (!is_leaving || new == ControlState::Closed);
            if changes {
                *state = new;
            }
            changes
        });
    }

    fn count_restart(&self, task: &'static str) {
        let restarts = self.restarts.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        error!(task, restarts, "a task of the control plane died and is started again");
    }
}

/// Keeps one connection served until the phase is closing.
async fn supervise(core: Arc<Core>) {
    let mut backoff = Backoff::new(RESTART_FIRST, RESTART_MAX);
    let mut phase = core.phase.subscribe();
    let is_closing = |phase: &Phase| matches!(phase, Phase::Closing(_));
    while !is_closing(&phase.borrow()) {
        let began = Instant::now();
        match task::spawn("control", connection::serve(Arc::clone(&core))).await {
            Ok(Some(Ok(()))) => break,
            Ok(Some(Err(failure))) => error!(error = %Chain(&failure), "the control plane failed"),
            // The panic was logged where it was caught.
            Ok(None) => {}
            // Only the end of the runtime cancels it.
            Err(_cancelled) => return,
        }
        core.count_restart("control");
        core.set_state(ControlState::Lost);
        if began.elapsed() > RESTART_MAX {
            backoff.reset();
        }
        tokio::select! {
            () = sleep(backoff.pause()) => {}
            _closing = phase.wait_for(is_closing) => {}
        }
    }
    core.set_state(ControlState::Closed);
}
