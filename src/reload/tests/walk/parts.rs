//! What the walk drives: sections with faults, parts that are counted, and an input that is a value.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::Config;
use crate::config::files::{ReadFailure, Snapshot, Urgency};
use crate::error::Blame;
use crate::reload::source::Hashes;
use crate::reload::*;

pub(super) const PREPARE: Duration = Duration::from_secs(10);
pub(super) const DRAIN: Duration = Duration::from_secs(4);
/// How long a part that is slow to retire takes; well before the deadline.
pub(super) const SLOW: Duration = Duration::from_secs(2);
pub(super) const NAMES: [&str; 4] = ["one", "two", "three", "four"];

/// What a section does when it is asked to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Does {
    #[default]
    Prepare,
    Nothing,
    Fail,
    FailForNow,
    InUse,
    Hang,
    Panic,
    /// Before there is a future.
    PanicAtOnce,
    /// Prepares a part that panics when it is committed.
    PanicAtCommit,
    /// Prepares a part that panics when it is undone.
    PanicAtDrop,
}

/// What the part that it makes live does when it is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Retires {
    #[default]
    AtOnce,
    Slowly,
    /// Says how many were cut, at the deadline.
    Cut,
    /// Minds no deadline.
    Never,
    Panics,
}

impl Does {
    pub(super) const ALL: [Self; 10] = [
        Self::Prepare,
        Self::Nothing,
        Self::Fail,
        Self::FailForNow,
        Self::InUse,
        Self::Hang,
        Self::Panic,
        Self::PanicAtOnce,
        Self::PanicAtCommit,
        Self::PanicAtDrop,
    ];
}

impl Retires {
    pub(super) const ALL: [Self; 5] = [Self::AtOnce, Self::Slowly, Self::Cut, Self::Never, Self::Panics];
}

/// What the input says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    Good {
        group: u8,
        environment: u8,
        listens: bool,
        comment: u8,
    },
    Wrong(u8),
    LoaderPanics,
    LoaderHangs,
    /// The comparison with what is live panics, outside of every guard but the task's.
    PlanPanics,
}

impl Text {
    pub(super) fn bytes(&self) -> Vec<u8> {
        format!("{self:?}").into_bytes()
    }

    pub(super) fn hash(&self) -> String {
        format!("hash of {self:?}")
    }
}

/// Objects that exist.
#[derive(Debug, Clone, Default)]
pub(super) struct Count(Arc<AtomicIsize>);

pub(super) struct Counted(Count);

impl Count {
    pub(super) fn get(&self) -> isize {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn new_one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::SeqCst);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What sections prepare for later ones; counted, so that a leaked draft shows.
#[derive(Default)]
pub(super) struct Draft(Vec<Counted>);

/// Shared by the walk and the section.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) does: Mutex<Does>,
    pub(super) retires: Mutex<Retires>,
    pub(super) live: Mutex<Option<Live>>,
    pub(super) prepared: AtomicUsize,
    /// Parts, live and not.
    pub(super) parts: Count,
    pub(super) drafts: Count,
}

/// The live part of a section.
pub(super) struct Live {
    pub(super) group: String,
    _counted: Counted,
}

pub(super) struct WalkSection {
    pub(super) name: &'static str,
    pub(super) stage: Arc<Stage>,
}

struct Part {
    stage: Arc<Stage>,
    does: Does,
    live: Option<Live>,
}

struct Old {
    retires: Retires,
    _live: Option<Live>,
}

impl Section<Draft> for WalkSection {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        let does = *self.stage.does.lock().unwrap();
        assert_ne!(does, Does::PanicAtOnce, "a bug on purpose");
        self.stage.prepared.fetch_add(1, Ordering::SeqCst);
        async move {
            draft.0.push(self.stage.drafts.new_one());
            let live = Live { group: plan.new.host.group.clone(), _counted: self.stage.parts.new_one() };
            tokio::task::yield_now().await;
            match does {
                Does::Fail => return Err(PrepareError::new(Blame::Workload, "cannot be built")),
                Does::FailForNow => return Err(PrepareError::new(Blame::Remote, "cannot connect").passing()),
                Does::InUse => return Err(PrepareError::new(Blame::Configuration, "is in use").in_use()),
                Does::Nothing => return Ok(None),
                Does::Hang => std::future::pending().await,
                Does::Panic | Does::PanicAtOnce => panic!("a bug on purpose"),
                Does::Prepare | Does::PanicAtCommit | Does::PanicAtDrop => {}
            }
            let part = Part { stage: Arc::clone(&self.stage), does, live: Some(live) };
            Ok(Some(Box::new(part) as Box<dyn Prepared>))
        }
        .boxed()
    }
}

impl Prepared for Part {
    fn commit(mut self: Box<Self>) -> Box<dyn Retired> {
        let live = self.live.take();
        assert_ne!(self.does, Does::PanicAtCommit, "a bug on purpose");
        let old = std::mem::replace(&mut *self.stage.live.lock().unwrap(), live);
        Box::new(Old { retires: *self.stage.retires.lock().unwrap(), _live: old })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let is_undone = self.live.is_some();
        assert!(!(is_undone && self.does == Does::PanicAtDrop), "a bug on purpose");
    }
}

impl Retired for Old {
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers> {
        async move {
            match self.retires {
                Retires::AtOnce => Leftovers::default(),
                Retires::Slowly => {
                    sleep(SLOW).await;
                    Leftovers::default()
                }
                Retires::Cut => {
                    sleep_until(deadline).await;
                    Leftovers { forced: 2 }
                }
                Retires::Never => std::future::pending().await,
                Retires::Panics => panic!("a bug on purpose"),
            }
        }
        .boxed()
    }
}

pub(super) struct WalkSource {
    pub(super) text: watch::Receiver<Option<Text>>,
    /// When it was read.
    pub(super) reads: Arc<Mutex<VecDeque<Instant>>>,
}

impl ConfigSource for WalkSource {
    fn read(&mut self, _urgency: Urgency) -> BoxFuture<'_, Result<Snapshot, ReadFailure>> {
        let text = self.text.borrow().clone();
        self.reads.lock().unwrap().push_back(Instant::now());
        let read = text.map(|text| Snapshot::of_bytes(&text.bytes()));
        async move {
            tokio::task::yield_now().await;
            read.ok_or(ReadFailure::Missing { path: "a.toml".into() })
        }
        .boxed()
    }

    fn load(&mut self, snapshot: Arc<Snapshot>) -> BoxFuture<'_, Result<Loaded, Rejection>> {
        let text = self.text.borrow().clone().filter(|text| *snapshot.config.as_deref().unwrap() == text.bytes());
        async move {
            // The walk changes nothing between the read and the load.
            match text.unwrap() {
                Text::Wrong(_) => Err(Rejection::content(Reason::Invalid, vec!["a.toml:1:1: wrong".to_owned()])),
                Text::LoaderPanics => panic!("a bug on purpose"),
                Text::LoaderHangs => std::future::pending().await,
                Text::PlanPanics => Ok(loaded("plan panics", &Text::PlanPanics)),
                Text::Good { group, environment, listens, comment } => {
                    let text = Text::Good { group, environment, listens, comment };
                    let mut loaded = loaded(&group.to_string(), &text);
                    loaded.config.host.environment = environment.to_string();
                    loaded.config.http.listen = listens.then(|| ([127, 0, 0, 1], 80).into());
                    Ok(loaded)
                }
            }
        }
        .boxed()
    }

    fn effective(&self, live: &Config, new: &Config) -> Result<Config, Rejection> {
        assert_ne!(new.host.group, "plan panics", "a bug on purpose");
        // The environment stands for a key that waits for a restart.
        let mut effective = new.clone();
        effective.host.environment.clone_from(&live.host.environment);
        Ok(effective)
    }

    fn changes(&self, old: &Config, new: &Config) -> Vec<Change> {
        let differs = |differs: bool, key: &str, verb| differs.then(|| Change { key: key.to_owned(), verb });
        let group = differs(old.host.group != new.host.group, "host.group", "set");
        let environment = differs(old.host.environment != new.host.environment, "host.environment", "defer");
        let listen = differs(old.http != new.http, "http.listen", "bind");
        [group, environment, listen].into_iter().flatten().collect()
    }
}

fn loaded(group: &str, text: &Text) -> Loaded {
    let mut config = Config::default();
    config.host.group = group.to_owned();
    config.reload.prepare_timeout = PREPARE;
    config.reload.poll_interval = None;
    config.drain.timeout = DRAIN;
    let hashes = Hashes { file: Some(text.hash()), config: None };
    Loaded { config, hashes, ..Loaded::default() }
}
