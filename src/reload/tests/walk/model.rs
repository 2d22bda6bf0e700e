//! What a reloader should do, said in the plainest way: no tasks, no queues, no time but what is passed in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::parts::{DRAIN, Does, NAMES, PREPARE, Retires, SLOW, Text};
use crate::reload::{Outcome, Reason, Trigger};

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
const LOAD: Duration = Duration::from_secs(7);
/// What a part gets beyond its deadline.
const GRACE: Duration = Duration::from_secs(1);

/// What is to become of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) trigger: Trigger,
    pub(super) outcome: Outcome,
    pub(super) reason: Option<Reason>,
    pub(super) passing: bool,
    pub(super) generation: u64,
    /// Which section failed.
    pub(super) section: Option<&'static str>,
    pub(super) changed: Vec<&'static str>,
    pub(super) restart_pending: Vec<&'static str>,
    pub(super) file_hash: Option<String>,
}

/// A part on its way out.
#[derive(Debug, Clone, Copy)]
struct Retiring {
    until: Instant,
    forced: usize,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) file: Option<Text>,
    pub(super) does: [Does; NAMES.len()],
    pub(super) retires: [Retires; NAMES.len()],
    pub(super) generation: u64,
    pub(super) live: [Option<String>; NAMES.len()],
    pub(super) group: Option<u8>,
    pub(super) history: Vec<Expected>,
    pub(super) totals: BTreeMap<(Trigger, Outcome, Option<Reason>), u64>,
    pub(super) checks: u64,
    pub(super) restart_pending: Vec<&'static str>,
    pub(super) forced: usize,
    pub(super) environment: u8,
    pub(super) listens: bool,
    pub(super) running: Option<Text>,
    /// What the last attempt found: a text, or nothing.
    pub(super) attempted: Option<Option<Text>>,
    retiring: Vec<Retiring>,
    retry_next: Duration,
    /// Between these two the next retry begins.
    pub(super) retry: Option<(Instant, Instant)>,
    superseded_in_a_row: u32,
}

/// What is told about an attempt, gathered on the way.
#[derive(Default)]
struct Notes {
    changed: Vec<&'static str>,
    waiting: Option<Vec<&'static str>>,
    file_hash: Option<String>,
}

/// How the steps end before the commit.
enum End {
    Nothing,
    Unchanged,
    Rejected { reason: Reason, passing: bool, section: Option<&'static str> },
    Accepted,
}

impl Model {
    /// The first one is live.
    pub(super) fn started(text: Text) -> Self {
        let Text::Good { group, environment, listens, .. } = text.clone() else { panic!("it would not start") };
        let hash = text.hash();
        let (file, running) = (Some(text.clone()), Some(text));
        let live = std::array::from_fn(|_| Some(group.to_string()));
        let (group, attempted, retry_next) = (Some(group), Some(file.clone()), RETRY_FIRST);
        let mut model = Self { file, running, live, group, attempted, retry_next, ..Self::default() };
        (model.environment, model.listens, model.generation) = (environment, listens, 1);
        model.record(Expected {
            trigger: Trigger::Start,
            outcome: Outcome::Applied,
            reason: None,
            passing: false,
            generation: 1,
            section: None,
            changed: vec!["host.group", "host.environment"],
            restart_pending: Vec::new(),
            file_hash: Some(hash),
        });
        model
    }

    pub(super) fn last_ok(&self) -> bool {
        self.history.last().is_some_and(|last| matches!(last.outcome, Outcome::Applied | Outcome::Unchanged))
    }

    /// One attempt that begins now, and when it ended; `None` if there is nothing to look at.
    pub(super) fn attempt(&mut self, trigger: Trigger, now: Instant) -> Option<Expected> {
        let is_check = trigger == Trigger::Check;
        let before = self.attempted.clone();
        let is_new = self.attempted.as_ref() != Some(&self.file);
        self.attempted = Some(self.file.clone());
        let mut notes = Notes::default();
        let end = self.steps(trigger, is_new, &mut notes, now);
        let Notes { changed, waiting, file_hash } = notes;
        if is_check {
            self.attempted = before;
        }
        let (outcome, reason, passing, section) = match end {
            Err(End::Nothing) => {
                self.checks += 1;
                return None;
            }
            Err(End::Unchanged) => (Outcome::Unchanged, None, false, None),
            Err(End::Rejected { reason, passing, section }) => (Outcome::Rejected, Some(reason), passing, section),
            Err(End::Accepted) => (Outcome::Accepted, None, false, None),
            Ok(()) => (Outcome::Applied, None, false, None),
        };
        let restart_pending = match waiting {
            Some(waiting) if is_check && outcome != Outcome::Rejected => waiting,
            Some(_) | None => self.restart_pending.clone(),
        };
        let generation = self.generation;
        let expected =
            Expected { trigger, outcome, reason, passing, generation, section, changed, restart_pending, file_hash };
        if !is_check {
            self.superseded_in_a_row = 0;
            self.schedule(passing, is_new, now);
            self.record(expected.clone());
        }
        Some(expected)
    }

    /// An attempt that newer input stops while it prepares.
    pub(super) fn superseded(&mut self, trigger: Trigger) {
        let Some(Text::Good { group, listens, .. }) = self.file.clone() else { panic!("it cannot hang") };
        self.retry = None;
        self.retry_next = RETRY_FIRST;
        self.attempted = None;
        self.superseded_in_a_row += 1;
        let (generation, restart_pending) = (self.generation, self.restart_pending.clone());
        let file_hash = self.file.as_ref().map(Text::hash);
        let changed = self.changed(group, listens);
        let (outcome, reason, passing, section) = (Outcome::Superseded, None, false, None);
        self.record(Expected {
            trigger,
            outcome,
            reason,
            passing,
            generation,
            section,
            changed,
            restart_pending,
            file_hash,
        });
    }

    /// Whether newer input would stop an attempt now.
    pub(super) fn may_supersede(&self) -> bool {
        self.superseded_in_a_row < 3
    }

    /// How long an attempt takes now.
    pub(super) fn takes(&self, trigger: Trigger) -> Duration {
        let is_nothing = self.attempted.as_ref() == Some(&self.file) && !trigger.insists();
        match &self.file {
            _ if is_nothing => Duration::ZERO,
            Some(Text::LoaderHangs) => LOAD,
            Some(Text::Good { group, listens, .. }) if self.hangs(*group, *listens) => PREPARE,
            Some(_) | None => Duration::ZERO,
        }
    }

    /// Whether an attempt would hang in one of the sections.
    fn hangs(&self, group: u8, listens: bool) -> bool {
        let is_same = self.running == self.file || self.changed(group, listens).is_empty();
        let is_passed =
            |does: &&Does| matches!(does, Does::Prepare | Does::Nothing | Does::PanicAtDrop | Does::PanicAtCommit);
        let first = self.does.iter().find(|does| !is_passed(does));
        let is_refused = self.listens && !listens;
        !is_same && !is_refused && first == Some(&Does::Hang)
    }

    fn record(&mut self, expected: Expected) {
        *self.totals.entry((expected.trigger, expected.outcome, expected.reason)).or_default() += 1;
        self.history.push(expected);
    }

    fn schedule(&mut self, passing: bool, is_new: bool, now: Instant) {
        if !passing || is_new {
            self.retry_next = RETRY_FIRST;
        }
        self.retry = None;
        if passing {
            self.retry = Some((now + self.retry_next * 3 / 4, now + self.retry_next));
            self.retry_next = (self.retry_next * 2).min(RETRY_MAX);
        }
    }

    fn changed(&self, group: u8, listens: bool) -> Vec<&'static str> {
        let group = (self.group != Some(group)).then_some("host.group");
        let listen = (self.listens != listens).then_some("http.listen");
        group.into_iter().chain(listen).collect()
    }

    fn steps(&mut self, trigger: Trigger, is_new: bool, notes: &mut Notes, now: Instant) -> Result<(), End> {
        let is_check = trigger == Trigger::Check;
        let rejected = |reason, passing| Err(End::Rejected { reason, passing, section: None });
        if !is_new && !trigger.insists() {
            return Err(End::Nothing);
        }
        let Some(text) = self.file.clone() else { return rejected(Reason::Missing, false) };
        if self.running.as_ref() == Some(&text) {
            notes.file_hash = Some(text.hash());
            return Err(End::Unchanged);
        }
        let (group, environment, listens) = match text {
            Text::Wrong(_) | Text::LoaderPanics => return rejected(Reason::Invalid, false),
            Text::LoaderHangs => return rejected(Reason::Invalid, true),
            Text::PlanPanics => {
                notes.file_hash = Some(text.hash());
                return rejected(Reason::Panic, true);
            }
            Text::Good { group, environment, listens, .. } => (group, environment, listens),
        };
        notes.file_hash = Some(text.hash());
        let waits = if environment == self.environment { Vec::new() } else { vec!["host.environment"] };
        notes.waiting = Some(waits.clone());
        notes.changed = self.changed(group, listens);
        if self.listens && !listens {
            return rejected(Reason::Guard, false);
        }
        if notes.changed.is_empty() {
            if !is_check {
                (self.restart_pending, self.running) = (waits, Some(text));
            }
            return Err(End::Unchanged);
        }
        for (does, name) in self.does.iter().zip(NAMES) {
            let (reason, passing) = match does {
                Does::Fail | Does::Panic | Does::PanicAtOnce => (Reason::Prepare, false),
                Does::FailForNow | Does::Hang => (Reason::Prepare, true),
                Does::InUse => (Reason::InUse, false),
                Does::Prepare | Does::Nothing | Does::PanicAtCommit | Does::PanicAtDrop => continue,
            };
            return Err(End::Rejected { reason, passing, section: Some(name) });
        }
        if is_check {
            return Err(End::Accepted);
        }
        (self.restart_pending, self.running) = (waits, Some(text));
        (self.group, self.listens) = (Some(group), listens);
        self.generation += 1;
        self.commit(group, now);
        Ok(())
    }

    fn commit(&mut self, group: u8, now: Instant) {
        for index in 0..NAMES.len() {
            if matches!(self.does[index], Does::Nothing | Does::PanicAtCommit) {
                continue;
            }
            self.live[index] = Some(group.to_string());
            let (after, forced) = match self.retires[index] {
                Retires::AtOnce | Retires::Panics => continue,
                Retires::Slowly => (SLOW, 0),
                Retires::Cut => (DRAIN, 2),
                Retires::Never => (DRAIN + GRACE, 1),
            };
            self.retiring.push(Retiring { until: now + after, forced });
        }
    }

    /// How many parts drain at `now`.
    pub(super) fn retiring(&mut self, now: Instant) -> usize {
        let (gone, stay) = self.retiring.iter().partition(|part| part.until <= now);
        let gone: Vec<Retiring> = gone;
        self.retiring = stay;
        self.forced += gone.iter().map(|part| part.forced).sum::<usize>();
        self.retiring.len()
    }

    /// Whether a part is gone about now, and only the timer knows whether it is already.
    pub(super) fn retires_about(&self, now: Instant) -> bool {
        let about = Duration::from_millis(20);
        self.retiring.iter().any(|part| part.until < now + about && part.until + about > now)
    }
}
