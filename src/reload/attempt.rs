//! One attempt: read, hash, load, compare, guard, prepare, commit, retire.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::config::files::{InputHash, ReadFailure, Snapshot, Urgency};
use crate::error::Blame;
use crate::reload::Live;
use crate::reload::hints::Watched;
use crate::reload::inbox::Inbox;
use crate::reload::outcome::{Outcome, Reason, Rejection, ReloadOutcome, ReloadStatus, Trigger};
use crate::reload::plan::{Change, Plan, guard};
use crate::reload::prepare::{Drafts, prepare_all};
use crate::reload::section::{Leftovers, Retired, Section};
use crate::reload::source::{ConfigSource, Loaded};
use crate::task::{Shutdown, panic_text, spawn};

/// Parsing and validating. 1,000 workloads take a tenth of a second; what takes longer hangs on a disk.
const LOAD_TIMEOUT: Duration = Duration::from_secs(7);

/// What retired parts get beyond their deadline to cut what is left, before they are dropped.
const RETIRE_GRACE: Duration = Duration::from_secs(1);

/// Newer input stops a prepare this many times in a row; then one runs to its end, so that a file that changes all
/// the time is still applied now and then.
const SUPERSEDED_IN_A_ROW_MAX: u32 = 3;

/// The steps, and what they remember from one attempt to the next.
pub(super) struct Pipeline<D> {
    source: Box<dyn ConfigSource>,
    sections: Vec<Box<dyn Section<D>>>,
    live_tx: watch::Sender<Live>,
    status_tx: watch::Sender<ReloadStatus>,
    watched_tx: watch::Sender<Watched>,
    shutdown: Shutdown,
    /// What the last attempt found, whatever became of it.
    attempted: Option<Attempted>,
    /// What was read for the running generation.
    running: Option<Arc<Snapshot>>,
    restart_pending: Vec<String>,
    superseded_in_a_row: u32,
}

/// What an attempt found when it read.
#[derive(Clone, PartialEq, Eq)]
enum Attempted {
    Input(InputHash),
    Failure(ReadFailure),
}

/// Why the steps ended before the commit.
enum Ended {
    /// The input of the last attempt, and nobody insists.
    Nothing,
    Unchanged,
    Superseded,
    /// Only a check, and it could be prepared.
    Accepted,
    Rejected(Rejection),
}

/// What is told about an attempt, gathered on the way.
#[derive(Default)]
struct Notes {
    input_is_new: bool,
    file_hash: Option<String>,
    changed: Vec<Change>,
    phases: Vec<(&'static str, Duration)>,
}

impl Notes {
    async fn timed<F: Future>(&mut self, phase: &'static str, step: F) -> F::Output {
        let begun = Instant::now();
        let output = step.await;
        self.phases.push((phase, begun.elapsed()));
        output
    }
}

impl<D: Default + Send + 'static> Pipeline<D> {
    pub(super) fn new(
        source: Box<dyn ConfigSource>,
        sections: Vec<Box<dyn Section<D>>>,
        live_tx: watch::Sender<Live>,
        status_tx: watch::Sender<ReloadStatus>,
        watched_tx: watch::Sender<Watched>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            source,
            sections,
            live_tx,
            status_tx,
            watched_tx,
            shutdown,
            attempted: None,
            running: None,
            restart_pending: Vec::new(),
            superseded_in_a_row: 0,
        }
    }

    /// Keys that differ between the file and what runs, and wait for a restart.
    pub(super) fn restart_pending(&self) -> &Vec<String> {
        &self.restart_pending
    }

    /// One attempt, not numbered yet; `None` if there was nothing to look at.
    pub(super) async fn attempt(&mut self, trigger: Trigger, inbox: &mut Inbox) -> Option<ReloadOutcome> {
        let (at, begun) = (SystemTime::now(), Instant::now());
        let mut notes = Notes::default();
        // A check leaves no trace: what it read is still to be attempted.
        let attempted = (trigger == Trigger::Check).then(|| self.attempted.clone());
        let ended = self.steps(trigger, inbox, &mut notes).await;
        if let Some(attempted) = attempted {
            self.attempted = attempted;
        }
        let (outcome, rejection) = match ended {
            Ok(()) => (Outcome::Applied, None),
            Err(Ended::Nothing) => return None,
            Err(Ended::Unchanged) => (Outcome::Unchanged, None),
            Err(Ended::Rejected(rejection)) => (Outcome::Rejected, Some(rejection)),
            Err(Ended::Superseded) => (Outcome::Superseded, None),
            Err(Ended::Accepted) => (Outcome::Accepted, None),
        };
        if outcome == Outcome::Superseded && trigger != Trigger::Check {
            // Should the newer input turn out to be this one again, it is to be tried again.
            self.attempted = None;
            self.superseded_in_a_row += 1;
        } else {
            self.superseded_in_a_row = 0;
        }
        let Notes { input_is_new, file_hash, changed, phases } = notes;
        Some(ReloadOutcome {
            n: 0,
            at,
            took: begun.elapsed(),
            trigger,
            outcome,
            input_is_new,
            rejection,
            generation: self.live_tx.borrow().generation,
            file_hash,
            changed,
            restart_pending: self.restart_pending.clone(),
            phases,
        })
    }

    async fn steps(&mut self, trigger: Trigger, inbox: &mut Inbox, notes: &mut Notes) -> Result<(), Ended> {
        let snapshot = self.read(trigger, inbox, notes).await?;
        let loaded = self.load(&snapshot, inbox, notes).await?;
        let (plan, restart_pending) = self.plan(&loaded, &snapshot, notes)?;
        // The file as it is, not what of it can be live: a cut-off file is refused before a restart would obey it.
        let refusals =
            if plan.is_first { Vec::new() } else { guard(&plan.old, &loaded.config, &loaded.plugins_switched_off) };
        if !refusals.is_empty() {
            notes.changed.clone_from(&plan.changed);
            return Err(Ended::Rejected(Rejection::content(Reason::Guard, refusals)));
        }
        if !plan.is_first && plan.changed.is_empty() && plan.rotated.is_empty() {
            self.restart_pending = restart_pending;
            self.running = Some(snapshot);
            return Err(Ended::Unchanged);
        }
        notes.changed.clone_from(&plan.changed);
        let mut draft = D::default();
        let drafts = self.prepare(&plan, &mut draft, snapshot.hash, inbox, notes).await?;
        if trigger == Trigger::Check {
            drop(drafts);
            return Err(Ended::Accepted);
        }
        self.restart_pending = restart_pending;
        self.commit(plan, drafts, snapshot, notes);
        Ok(())
    }

    async fn read(&mut self, trigger: Trigger, inbox: &mut Inbox, notes: &mut Notes) -> Result<Arc<Snapshot>, Ended> {
        let urgency = if self.running.is_none() { Urgency::Start } else { Urgency::Change };
        let read = attended(&self.shutdown, inbox, notes.timed("read", self.source.read(urgency))).await?;
        let (found, read) = match read {
            Ok(snapshot) => {
                // Whether to watch at all is known with the first configuration, and its commit says so.
                if self.running.is_some() {
                    self.watch(&snapshot);
                }
                (Attempted::Input(snapshot.hash), Ok(snapshot))
            }
            Err(failure) => (Attempted::Failure(failure.clone()), Err(failure)),
        };
        notes.input_is_new = self.attempted.as_ref() != Some(&found);
        self.attempted = Some(found);
        if !notes.input_is_new && !trigger.insists() {
            return Err(Ended::Nothing);
        }
        let snapshot = Arc::new(read.map_err(|failure| Ended::Rejected(unreadable(&failure)))?);
        if self.running.as_ref().is_some_and(|running| running.hash == snapshot.hash) {
            return Err(Ended::Unchanged);
        }
        Ok(snapshot)
    }

    async fn load(&mut self, snapshot: &Arc<Snapshot>, inbox: &mut Inbox, notes: &mut Notes) -> Result<Loaded, Ended> {
        let load = AssertUnwindSafe(async { self.source.load(Arc::clone(snapshot)).await }).catch_unwind();
        let loaded = attended(&self.shutdown, inbox, notes.timed("load", timeout(LOAD_TIMEOUT, load))).await?;
        let loaded = match loaded {
            Ok(Ok(loaded)) => loaded.map_err(Ended::Rejected)?,
            Ok(Err(panic)) => {
                tracing::error!(panic = panic_text(&*panic), "loading the configuration panicked");
                let errors = vec!["cannot load the configuration: its loader panicked, which is a bug".to_owned()];
                let rejection = Rejection { blame: Blame::Host, ..Rejection::content(Reason::Invalid, errors) };
                return Err(Ended::Rejected(rejection));
            }
            Err(_elapsed) => {
                let errors = vec![format!("cannot load the configuration within {} s", LOAD_TIMEOUT.as_secs())];
                let rejection = Rejection::content(Reason::Invalid, errors);
                return Err(Ended::Rejected(Rejection { blame: Blame::Host, passing: true, ..rejection }));
            }
        };
        notes.file_hash.clone_from(&loaded.file_hash);
        Ok(loaded)
    }

    /// What is to be done, and the keys that wait for a restart.
    fn plan(&self, loaded: &Loaded, snapshot: &Snapshot, notes: &mut Notes) -> Result<(Plan, Vec<String>), Ended> {
        let begun = Instant::now();
        let Live { config: old, generation } = self.live_tx.borrow().clone();
        let is_first = self.running.is_none();
        let (new, restart_pending) = if is_first {
            (loaded.config.clone(), Vec::new())
        } else {
            let effective = self.source.effective(&old, &loaded.config).map_err(Ended::Rejected)?;
            let pending = self.source.changes(&effective, &loaded.config);
            (effective, pending.into_iter().map(|change| change.key).collect())
        };
        let mut changed = self.source.changes(&old, &new);
        if is_first {
            // Nothing waits for a restart while the process starts.
            changed.iter_mut().filter(|change| change.verb == "defer").for_each(|change| change.verb = "set");
        }
        let rotated = self.rotated(snapshot);
        if changed.is_empty() {
            // Nothing that is compared by value holds the file's content: the file itself is what changed.
            changed.extend(rotated.iter().map(|path| Change { key: path.display().to_string(), verb: "rotate" }));
        }
        notes.phases.push(("plan", begun.elapsed()));
        let (new, generation) = (Arc::new(new), generation.next());
        Ok((Plan { old, new, generation, is_first, changed, rotated }, restart_pending))
    }

    /// Referenced files that differ from what was read for the running generation.
    fn rotated(&self, snapshot: &Snapshot) -> Vec<PathBuf> {
        let Some(running) = &self.running else { return Vec::new() };
        let differs = |(path, file): &(&PathBuf, &_)| running.files.get(*path).is_some_and(|old| old != *file);
        snapshot.files.iter().filter(differs).map(|(path, _file)| path.clone()).collect()
    }

    async fn prepare(
        &mut self,
        plan: &Plan,
        draft: &mut D,
        hash: InputHash,
        inbox: &mut Inbox,
        notes: &mut Notes,
    ) -> Result<Drafts, Ended> {
        let may_supersede = !plan.is_first && self.superseded_in_a_row < SUPERSEDED_IN_A_ROW_MAX;
        let prepare = prepare_all(&self.sections, plan, draft, plan.new.reload.prepare_timeout);
        let source = &mut self.source;
        let newer_input = async {
            loop {
                let more = inbox.hinted().await;
                if !more || !may_supersede {
                    // Everything that arrives is still remembered; it only stops nothing.
                    inbox.collect().await;
                }
                match source.read(Urgency::Change).await {
                    Ok(snapshot) if snapshot.hash != hash => return,
                    Ok(_) | Err(_) => {}
                }
            }
        };
        let shutdown = &self.shutdown;
        // Dropping `prepare` undoes what it built; the inbox keeps what it received.
        let raced = async {
            tokio::select! {
                biased;
                () = shutdown.wait() => Err(Ended::Superseded),
                prepared = prepare => prepared.map_err(Ended::Rejected),
                () = newer_input => Err(Ended::Superseded),
            }
        };
        notes.timed("prepare", raced).await
    }

    /// No await and no `?`: everything goes live, the generation last of all.
    fn commit(&mut self, plan: Plan, drafts: Drafts, snapshot: Arc<Snapshot>, notes: &mut Notes) {
        let begun = Instant::now();
        let Plan { new: config, generation, .. } = plan;
        let retired = drafts.commit();
        let drain = config.drain.timeout;
        self.running = Some(Arc::clone(&snapshot));
        self.live_tx.send_replace(Live { config, generation });
        notes.phases.push(("commit", begun.elapsed()));
        self.watch(&snapshot);
        self.retire(retired, begun + drain);
    }

    /// Lets the old parts end behind; the next attempt does not wait for them.
    fn retire(&self, retired: Vec<(&'static str, Box<dyn Retired>)>, deadline: Instant) {
        for (section, part) in retired {
            let status_tx = self.status_tx.clone();
            status_tx.send_modify(|status| status.retiring += 1);
            let counted = Retiring(status_tx);
            // Nobody waits for it: it ends by its deadline, and the status counts it.
            drop(spawn("retire", async move {
                let left = tokio::time::timeout_at(deadline + RETIRE_GRACE, part.retire(deadline)).await;
                let overran = left.is_err();
                let Leftovers { forced } = left.unwrap_or(Leftovers { forced: 1 });
                if forced > 0 {
                    warn!(section, forced, overran, "work in flight of a replaced part was cut at its deadline");
                    counted.0.send_modify(|status| status.forced = status.forced.saturating_add(forced));
                }
            }));
        }
    }

    /// The watch follows what was read last: a chain of links moves with every swap, and a file that is missing now
    /// may be what makes the next attempt succeed.
    fn watch(&self, snapshot: &Snapshot) {
        let Live { config, generation: _ } = self.live_tx.borrow().clone();
        let watched = Watched::new(snapshot, config.reload.clone());
        self.watched_tx.send_if_modified(|now| {
            let differs = *now != watched;
            *now = watched;
            differs
        });
    }
}

/// Counts a part that retires, however it ends.
struct Retiring(watch::Sender<ReloadStatus>);

impl Drop for Retiring {
    fn drop(&mut self) {
        self.0.send_modify(|status| status.retiring = status.retiring.saturating_sub(1));
    }
}

/// Waits for `step` while requests are taken in; shutdown ends it.
async fn attended<T>(shutdown: &Shutdown, inbox: &mut Inbox, step: impl Future<Output = T>) -> Result<T, Ended> {
    tokio::select! {
        biased;
        () = shutdown.wait() => Err(Ended::Superseded),
        output = step => Ok(output),
        never = inbox.collect() => match never {},
    }
}

fn unreadable(failure: &ReadFailure) -> Rejection {
    let reason = match failure {
        ReadFailure::Unsettled { .. } => Reason::Unsettled,
        ReadFailure::Empty { .. } => Reason::Guard,
        ReadFailure::Missing { .. } | ReadFailure::Unreadable { .. } => Reason::Missing,
    };
    // It may hold still without another hint: whoever wrote it stopped, and never closed it.
    let passing = reason == Reason::Unsettled;
    Rejection { passing, ..Rejection::content(reason, vec![failure.to_string()]) }
}
