//! One attempt: read, hash, load, compare, guard, prepare, commit, retire.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::error;

use crate::config::files::{InputHash, ReadFailure, Snapshot, Urgency};
use crate::error::Blame;
use crate::reload::Live;
use crate::reload::generations::Generations;
use crate::reload::hints::Watched;
use crate::reload::inbox::Inbox;
use crate::reload::notes::{Ended, Notes, attended, panicked};
use crate::reload::outcome::{Outcome, Reason, Rejection, ReloadOutcome, Trigger};
use crate::reload::plan::{Change, Pending, Plan, guard};
use crate::reload::prepare::{Drafts, prepare_all};
use crate::reload::pulse::Pulse;
use crate::reload::retire::Retiring;
use crate::reload::said::Said;
use crate::reload::section::Section;
use crate::reload::source::{ConfigSource, Loaded};
use crate::reload::status::ReloadStatus;
use crate::task::{Shutdown, panic_text};

/// Parsing and validating. 1,000 workloads take a tenth of a second; what takes longer hangs on a disk.
const LOAD_TIMEOUT: Duration = Duration::from_secs(7);

/// Reading until the files have settled. Components may be large and disks slow: only what never ends is missed.
const READ_TIME_MAX: Duration = Duration::from_secs(120);

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
    pulse: Pulse,
    generations: Generations,
    /// What the last attempt found, whatever became of it.
    attempted: Option<Attempted>,
    /// What was read for the running generation.
    running: Option<Arc<Snapshot>>,
    restart_pending: Vec<Pending>,
    superseded_in_a_row: u32,
}

/// What an attempt found when it read.
#[derive(Clone, PartialEq, Eq)]
enum Attempted {
    Input(InputHash),
    Failure(ReadFailure),
}

impl<D: Default + Send + 'static> Pipeline<D> {
    pub(super) fn new(
        source: Box<dyn ConfigSource>,
        sections: Vec<Box<dyn Section<D>>>,
        live_tx: watch::Sender<Live>,
        status_tx: watch::Sender<ReloadStatus>,
        watched_tx: watch::Sender<Watched>,
        (shutdown, pulse): (Shutdown, Pulse),
    ) -> Self {
        let generations = status_tx.borrow().generations.clone();
        Self {
            source,
            sections,
            live_tx,
            status_tx,
            watched_tx,
            shutdown,
            pulse,
            generations,
            attempted: None,
            running: None,
            restart_pending: Vec::new(),
            superseded_in_a_row: 0,
        }
    }

    /// Keys that differ between the file and what runs, and wait for a restart.
    pub(super) fn restart_pending(&self) -> &Vec<Pending> {
        &self.restart_pending
    }

    /// One attempt, not numbered yet; `None` if there was nothing to look at.
    pub(super) async fn attempt(&mut self, trigger: Trigger, inbox: &mut Inbox) -> Option<ReloadOutcome> {
        let (at, begun) = (SystemTime::now(), Instant::now());
        let mut notes = Notes { is_told: trigger != Trigger::Check, ..Notes::default() };
        if trigger.insists() || trigger == Trigger::Sighup {
            self.tell(&notes);
        }
        // A check leaves no trace: what it read is still to be attempted.
        let is_check = trigger == Trigger::Check;
        let attempted = is_check.then(|| self.attempted.clone());
        let ended = AssertUnwindSafe(self.steps(trigger, inbox, &mut notes)).catch_unwind().await;
        let ended = ended.unwrap_or_else(|panic| Err(Ended::Rejected(panicked(&*panic))));
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
        match outcome {
            _ if is_check => {}
            Outcome::Superseded => {
                // Should the newer input turn out to be this one again, it is to be tried again.
                self.attempted = None;
                self.superseded_in_a_row += 1;
            }
            Outcome::Applied | Outcome::Unchanged | Outcome::Rejected | Outcome::Accepted => {
                self.superseded_in_a_row = 0;
            }
        }
        let Notes { input_is_new, is_told: _, file_hash, changed, restart_pending, phases, retirement } = notes;
        let would_wait = restart_pending.filter(|_| is_check && outcome != Outcome::Rejected);
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
            restart_pending: would_wait.unwrap_or_else(|| self.restart_pending.clone()),
            phases,
            retirement,
        })
    }

    /// From now on it is more than a look.
    fn tell(&self, notes: &Notes) {
        if notes.is_told && !self.status_tx.borrow().is_under_way {
            self.status_tx.send_modify(|status| {
                status.begun += 1;
                status.is_under_way = true;
            });
        }
    }

    async fn steps(&mut self, trigger: Trigger, inbox: &mut Inbox, notes: &mut Notes) -> Result<(), Ended> {
        let snapshot = self.read(trigger, inbox, notes).await?;
        let loaded = self.load(&snapshot, inbox, notes).await?;
        let (plan, restart_pending) = self.plan(&loaded, &snapshot, notes)?;
        notes.restart_pending = Some(restart_pending.clone());
        // The file as it is, not what of it can be live: a cut-off file is refused before a restart would obey it.
        let refusals =
            if plan.is_first { Vec::new() } else { guard(&plan.old, &loaded.config, &loaded.plugins_switched_off) };
        if !refusals.is_empty() {
            notes.changed.clone_from(&plan.changed);
            return Err(Ended::Rejected(Rejection::content(Reason::Guard, refusals)));
        }
        let said = self.said(&loaded, &snapshot);
        if !plan.is_first && plan.changed.is_empty() && plan.rotated.is_empty() {
            if notes.is_told {
                self.say_otherwise(said, restart_pending, snapshot);
            }
            return Err(Ended::Unchanged);
        }
        notes.changed.clone_from(&plan.changed);
        let mut draft = D::default();
        let drafts = self.prepare(&plan, &mut draft, snapshot.hash, inbox, notes).await?;
        let failed = drafts.failed();
        notes.changed.iter_mut().filter(|change| failed.contains(&change.key)).for_each(|change| change.verb = "fail");
        if trigger == Trigger::Check {
            drop(drafts);
            return Err(Ended::Accepted);
        }
        self.restart_pending = restart_pending;
        self.commit(plan, drafts, (snapshot, said), notes);
        Ok(())
    }

    fn said(&self, loaded: &Loaded, snapshot: &Snapshot) -> Said {
        let (hashes, pinned) = (loaded.hashes.clone(), loaded.pinned.clone());
        Said { source: snapshot.path.clone(), hashes, since: Some(SystemTime::now()), pinned }
    }

    /// Another text that means the same: the generation stays.
    fn say_otherwise(&mut self, said: Said, restart_pending: Vec<Pending>, snapshot: Arc<Snapshot>) {
        self.restart_pending = restart_pending;
        self.running = Some(snapshot);
        let old = Arc::clone(&self.live_tx.borrow().said);
        said.warn_of_pinned(&old);
        self.live_tx.send_modify(|live| live.said = Arc::new(Said { since: old.since, ..said }));
    }

    async fn read(&mut self, trigger: Trigger, inbox: &mut Inbox, notes: &mut Notes) -> Result<Arc<Snapshot>, Ended> {
        let urgency = if self.running.is_none() { Urgency::Start } else { Urgency::Change };
        self.pulse.promise(READ_TIME_MAX);
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
        self.tell(notes);
        let snapshot = Arc::new(read.map_err(|failure| Ended::Rejected(Rejection::unreadable(&failure)))?);
        if self.running.as_ref().is_some_and(|running| running.hash == snapshot.hash) {
            notes.file_hash.clone_from(&self.live_tx.borrow().said.hashes.file);
            return Err(Ended::Unchanged);
        }
        Ok(snapshot)
    }

    async fn load(&mut self, snapshot: &Arc<Snapshot>, inbox: &mut Inbox, notes: &mut Notes) -> Result<Loaded, Ended> {
        self.pulse.promise(LOAD_TIMEOUT);
        let load = AssertUnwindSafe(async { self.source.load(Arc::clone(snapshot)).await }).catch_unwind();
        let loaded = attended(&self.shutdown, inbox, notes.timed("load", timeout(LOAD_TIMEOUT, load))).await?;
        let loaded = match loaded {
            Ok(Ok(loaded)) => loaded.map_err(Ended::Rejected)?,
            Ok(Err(panic)) => {
                error!(panic = panic_text(&*panic), "loading the configuration panicked");
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
        notes.file_hash.clone_from(&loaded.hashes.file);
        Ok(loaded)
    }

    /// What is to be done, and the keys that wait for a restart.
    fn plan(&self, loaded: &Loaded, snapshot: &Snapshot, notes: &mut Notes) -> Result<(Plan, Vec<Pending>), Ended> {
        let begun = Instant::now();
        let Live { config: old, generation, .. } = self.live_tx.borrow().clone();
        let is_first = self.running.is_none();
        let (new, restart_pending) = if is_first {
            (loaded.config.clone(), Vec::new())
        } else {
            let effective = self.source.effective(&old, &loaded.config).map_err(Ended::Rejected)?;
            let pending = self.source.changes(&effective, &loaded.config);
            let pending = pending.into_iter().map(|Change { key, verb: _ }| {
                let at = loaded.origins.get(&key).cloned();
                Pending { key, at }
            });
            (effective, pending.collect())
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
        self.pulse.promise(plan.new.reload.prepare_timeout);
        let prepare = prepare_all(&self.sections, plan, draft, plan.new.reload.prepare_timeout);
        let source = &mut self.source;
        let newer_input = async {
            let mut is_hinted = false;
            loop {
                let more = is_hinted || inbox.hinted().await;
                if !more || !may_supersede {
                    // Everything that arrives is still remembered; it only stops nothing.
                    inbox.collect().await;
                }
                let (read, arrived) = inbox.receive_during(source.read(Urgency::Change)).await;
                if read.is_ok_and(|snapshot| snapshot.hash != hash) {
                    return;
                }
                is_hinted = arrived;
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
    fn commit(&mut self, plan: Plan, drafts: Drafts, (snapshot, said): (Arc<Snapshot>, Said), notes: &mut Notes) {
        let begun = Instant::now();
        let Plan { new: config, generation, is_first, .. } = plan;
        let retired = drafts.commit();
        let deadline = begun + config.drain.timeout;
        self.running = Some(Arc::clone(&snapshot));
        let live = Live { config, generation, said: Arc::new(said), handle: Some(self.generations.begin()) };
        let old = self.live_tx.send_replace(live);
        notes.phases.push(("commit", begun.elapsed()));
        if !is_first {
            self.live_tx.borrow().said.warn_of_pinned(&old.said);
        }
        self.watch(&snapshot);
        let (status_tx, retirement) = (self.status_tx.clone(), Arc::clone(&notes.retirement));
        Retiring { status_tx, retirement, handle: old.handle }.begin(retired, deadline);
    }

    /// The watch follows what was read last: a chain of links moves with every swap, and a file that is missing now
    /// may be what makes the next attempt succeed.
    fn watch(&self, snapshot: &Snapshot) {
        let watched = Watched::new(snapshot, self.live_tx.borrow().config.reload.clone());
        self.watched_tx.send_if_modified(|now| {
            let differs = *now != watched;
            *now = watched;
            differs
        });
    }
}
