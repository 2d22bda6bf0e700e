//! The state machine over workload ids: pure, no async, no lock; time is an argument.
//!
//! ```text
//!            begin                 finish(Ok)                begin_stop           forget
//!  (absent) --------> Starting ------------------> Running -------------> Stopping ------> (absent)
//!                        |  finish(Err) or fail       |  fail                ^
//!                        +------------> Failed <------+                      |
//!                        |                |  begin, begin_again: Starting    |
//!                        +----------------|------- begin_stop ---------------+
//!                                         +------- begin_stop: (absent), answered as Stopping
//! ```
//!
//! While `Running`, `set_service` says where its service is, if it has one: that it runs, that it is started again after a
//! failure (the workload is then said to be starting), or that it ended well (it is completed, and serves on).
//!
//! Every start has a number of its own, so that the end of an old start can never be taken for that of a new one.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::types::{ComponentSpec, ServiceSpec, WorkloadId, WorkloadOrigin, WorkloadSpec, WorkloadState};

/// Failures of placed workloads that are remembered; the oldest is dropped for a new one. A record is a few hundred
/// bytes. Those of static workloads are as many as the file lists, and stay: they are tried again.
const FAILED_MAX: usize = 1024;

/// How long: who placed it has asked why long before.
const FAILED_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// Which of the starts of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StartNumber(u64);

/// All workloads of the host; `W` is what a starting one is known by, `R` what a running one is.
#[derive(Debug)]
pub(crate) struct Table<W, R> {
    entries: HashMap<WorkloadId, Entry<W, R>>,
    /// Of placed workloads, oldest first.
    failed: VecDeque<WorkloadId>,
    last_start: u64,
}

/// One workload.
#[derive(Debug)]
pub(crate) struct Entry<W, R> {
    pub(crate) number: StartNumber,
    pub(crate) spec: Arc<WorkloadSpec>,
    pub(crate) phase: Phase<W, R>,
    /// Of meaning only while it runs.
    service: ServiceState,
    /// How often it was begun again since it was last well: the next pause is the longer for it.
    pub(crate) retries: u32,
}

/// Where the service of a running workload is; without one the workload is as if it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceState {
    Running,
    /// It failed, and is started again.
    Restarting,
    /// It ended well.
    Completed,
}

/// Where one workload is.
#[derive(Debug)]
pub(crate) enum Phase<W, R> {
    Starting(W),
    Running(R),
    Stopping,
    Failed(Failure),
}

/// Why a workload does not run.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: Arc<str>,
    pub(crate) at: Instant,
}

impl<W, R> Entry<W, R> {
    fn new(number: StartNumber, spec: Arc<WorkloadSpec>, phase: Phase<W, R>) -> Self {
        Self { number, spec, phase, service: ServiceState::Running, retries: 0 }
    }

    pub(crate) fn state(&self) -> WorkloadState {
        match self.phase {
            Phase::Starting(_) => WorkloadState::Starting,
            Phase::Running(_) => match self.service {
                ServiceState::Running => WorkloadState::Running,
                ServiceState::Restarting => WorkloadState::Starting,
                ServiceState::Completed => WorkloadState::Completed,
            },
            Phase::Stopping => WorkloadState::Stopping,
            Phase::Failed(_) => WorkloadState::Error,
        }
    }
}

/// What a start finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begin<W> {
    /// The id is reserved for a start with this number.
    Reserved(StartNumber),
    /// The same is being started.
    Joins(W),
    /// The same runs, in this state.
    Runs(WorkloadState),
    /// Something else has this id, or it is being stopped.
    Taken,
}

/// What a stop finds.
#[derive(Debug)]
pub(crate) enum Stopped<W, R> {
    /// It was starting: tell the start.
    Starting(StartNumber, W),
    /// It ran: drain it, then forget the number.
    Running(StartNumber, R),
    /// It is being stopped already, or had failed and is now forgotten.
    Already,
    /// No such workload.
    NotFound,
}

impl<W, R> Default for Table<W, R> {
    fn default() -> Self {
        Self { entries: HashMap::new(), failed: VecDeque::new(), last_start: 0 }
    }
}

impl<W: Clone, R: Clone> Table<W, R> {
    /// Reserves `id` for a start of `spec`, unless it is taken. `waiting` is made only for a reservation.
    pub(crate) fn begin(&mut self, id: &WorkloadId, spec: &Arc<WorkloadSpec>, waiting: impl FnOnce() -> W) -> Begin<W> {
        if let Some(entry) = self.entries.get(id) {
            let same = same_content(&entry.spec, spec);
            match &entry.phase {
                Phase::Starting(waiting) if same => return Begin::Joins(waiting.clone()),
                Phase::Running(_) if same => return Begin::Runs(entry.state()),
                Phase::Starting(_) | Phase::Running(_) | Phase::Stopping => return Begin::Taken,
                Phase::Failed(_) => {}
            }
        }
        let number = self.next_number();
        self.insert(id, Entry::new(number, Arc::clone(spec), Phase::Starting(waiting())));
        Begin::Reserved(number)
    }

    /// Reserves `id` for another try of what failed as `number`; `None` if something happened to it meanwhile.
    pub(crate) fn begin_again(
        &mut self,
        id: &WorkloadId,
        number: StartNumber,
        waiting: impl FnOnce() -> W,
    ) -> Option<StartNumber> {
        let failed = self.failed(id, number)?;
        let (spec, retries) = (Arc::clone(&failed.spec), failed.retries.saturating_add(1));
        let number = self.next_number();
        self.insert(id, Entry { retries, ..Entry::new(number, spec, Phase::Starting(waiting())) });
        Some(number)
    }

    /// What is `number` was well for long enough that earlier failures no longer count.
    pub(crate) fn renew(&mut self, id: &WorkloadId, number: StartNumber) {
        if let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.number == number) {
            entry.retries = 0;
        }
    }

    /// Another try of what failed as `number` failed as well; `false` if something happened to it meanwhile.
    pub(crate) fn fail_again(&mut self, id: &WorkloadId, number: StartNumber, failure: Failure) -> bool {
        let entry = self.failed(id, number);
        let is_failed = entry.is_some();
        if let Some(entry) = entry {
            entry.phase = Phase::Failed(failure);
        }
        is_failed
    }

    /// The start `number` is done; `false` if it was stopped meanwhile, and then nothing changed.
    pub(crate) fn finish(&mut self, id: &WorkloadId, number: StartNumber, end: Result<R, Failure>) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        if entry.number != number || !matches!(entry.phase, Phase::Starting(_)) {
            return false;
        }
        match end {
            Ok(running) => entry.phase = Phase::Running(running),
            Err(failure) => {
                entry.phase = Phase::Failed(failure);
                self.remember_failed(id);
            }
        }
        true
    }

    /// Puts a running workload in the place of whatever runs under `id`; gives back its number, and what ran.
    pub(crate) fn replace(
        &mut self,
        id: &WorkloadId,
        spec: Arc<WorkloadSpec>,
        running: R,
    ) -> (StartNumber, Option<Phase<W, R>>) {
        let number = self.next_number();
        let old = self.insert(id, Entry::new(number, spec, Phase::Running(running)));
        (number, old.map(|entry| entry.phase))
    }

    /// Puts other parts in the place of those of a workload that still runs as `number`.
    pub(crate) fn swap_running(&mut self, id: &WorkloadId, number: StartNumber, running: R) -> Option<R> {
        let entry = self.entries.get_mut(id).filter(|entry| entry.number == number)?;
        match &mut entry.phase {
            Phase::Running(current) => Some(std::mem::replace(current, running)),
            Phase::Starting(_) | Phase::Stopping | Phase::Failed(_) => None,
        }
    }

    /// The service of what runs as `number` is in another state; `false` if nothing runs as that any more.
    pub(crate) fn set_service(&mut self, id: &WorkloadId, number: StartNumber, service: ServiceState) -> bool {
        let entry = self.entries.get_mut(id).filter(|entry| entry.number == number);
        match entry {
            Some(entry) if matches!(entry.phase, Phase::Running(_)) => {
                entry.service = service;
                true
            }
            Some(_) | None => false,
        }
    }

    /// What runs as `number` has failed; gives back what ran.
    pub(crate) fn fail_running(&mut self, id: &WorkloadId, number: StartNumber, failure: Failure) -> Option<R> {
        let entry = self.entries.get_mut(id).filter(|entry| entry.number == number)?;
        let Phase::Running(running) = &entry.phase else { return None };
        let running = running.clone();
        entry.phase = Phase::Failed(failure);
        self.remember_failed(id);
        Some(running)
    }

    /// Records a failure without a start, for a workload that could not even be begun.
    pub(crate) fn record_failed(&mut self, id: &WorkloadId, spec: Arc<WorkloadSpec>, failure: Failure) -> StartNumber {
        let number = self.next_number();
        self.insert(id, Entry::new(number, spec, Phase::Failed(failure)));
        self.remember_failed(id);
        number
    }

    /// Begins the stop of `id`.
    pub(crate) fn begin_stop(&mut self, id: &WorkloadId) -> Stopped<W, R> {
        let Some(entry) = self.entries.get_mut(id) else { return Stopped::NotFound };
        let number = entry.number;
        match std::mem::replace(&mut entry.phase, Phase::Stopping) {
            Phase::Starting(waiting) => Stopped::Starting(number, waiting),
            Phase::Running(running) => Stopped::Running(number, running),
            Phase::Stopping => Stopped::Already,
            Phase::Failed(_failure) => {
                self.entries.remove(id);
                self.failed.retain(|failed| failed != id);
                Stopped::Already
            }
        }
    }

    /// The stop of `number` is over.
    pub(crate) fn forget(&mut self, id: &WorkloadId, number: StartNumber) {
        if self.entries.get(id).is_some_and(|entry| entry.number == number && matches!(entry.phase, Phase::Stopping)) {
            self.entries.remove(id);
        }
    }

    pub(crate) fn get(&self, id: &WorkloadId) -> Option<&Entry<W, R>> {
        self.entries.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&WorkloadId, &Entry<W, R>)> {
        self.entries.iter()
    }

    fn next_number(&mut self) -> StartNumber {
        self.last_start += 1;
        StartNumber(self.last_start)
    }

    fn insert(&mut self, id: &WorkloadId, entry: Entry<W, R>) -> Option<Entry<W, R>> {
        self.failed.retain(|failed| failed != id);
        self.entries.insert(id.clone(), entry)
    }

    /// Forgets failures that nobody will ask about any more.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.failed.front()
            && let Some(Phase::Failed(failure)) = self.entries.get(oldest).map(|entry| &entry.phase)
            && now.saturating_duration_since(failure.at) > FAILED_TIME_MAX
            && let Some(oldest) = self.failed.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    fn failed(&mut self, id: &WorkloadId, number: StartNumber) -> Option<&mut Entry<W, R>> {
        self.entries.get_mut(id).filter(|entry| entry.number == number && matches!(entry.phase, Phase::Failed(_)))
    }

    fn remember_failed(&mut self, id: &WorkloadId) {
        if self.entries.get(id).is_none_or(|entry| entry.spec.origin == WorkloadOrigin::Static) {
            return;
        }
        self.failed.push_back(id.clone());
        if self.failed.len() > FAILED_MAX
            && let Some(oldest) = self.failed.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

/// Equal by value, but for the pull secrets, which may have been rotated between two sends of one start.
fn same_content(a: &WorkloadSpec, b: &WorkloadSpec) -> bool {
    a == b || without_secrets(a) == without_secrets(b)
}

fn without_secrets(spec: &WorkloadSpec) -> WorkloadSpec {
    WorkloadSpec {
        components: spec
            .components
            .iter()
            .map(|component| ComponentSpec { pull_secret: None, ..component.clone() })
            .collect(),
        service: spec.service.as_ref().map(|service| ServiceSpec { pull_secret: None, ..service.clone() }),
        ..spec.clone()
    }
}

#[cfg(test)]
mod tests;
