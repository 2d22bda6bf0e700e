//! Sections that record what is done to them, and an input that is a text.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::Config;
use crate::config::files::{ReadFailure, Snapshot, Urgency};
use crate::error::Blame;
use crate::reload::*;
use crate::task::{Shutdown, spawn};

/// Everything that happened, in order.
#[derive(Clone)]
pub(super) struct Diary(watch::Sender<Vec<String>>);

impl Diary {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }

    fn write(&self, entry: String) {
        self.0.send_modify(|entries| entries.push(entry));
    }

    /// What was written since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        let mut taken = Vec::new();
        self.0.send_modify(|entries| taken = std::mem::take(entries));
        taken
    }

    pub(super) async fn wait_for(&self, entry: &str) {
        let mut rx = self.0.subscribe();
        super::seen(&mut rx, |entries| entries.iter().any(|written| written == entry).then_some(())).await;
    }
}

/// What a section does when it is asked to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Prepare,
    Nothing,
    Fail,
    FailForNow,
    Hang,
    WaitForGate,
    Panic,
}

#[derive(Clone)]
pub(super) struct FakeSection {
    name: &'static str,
    pub(super) does: Arc<Mutex<Does>>,
    pub(super) gate: Arc<Notify>,
    diary: Diary,
}

impl FakeSection {
    pub(super) fn set(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }
}

struct Part {
    name: &'static str,
    diary: Diary,
    is_live: bool,
}

impl Section<Vec<&'static str>> for FakeSection {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare<'a>(&'a self, _plan: &'a Plan, draft: &'a mut Vec<&'static str>) -> BoxFuture<'a, Prepare> {
        let does = *self.does.lock().unwrap();
        async move {
            self.diary.write(format!("prepare {}", self.name));
            draft.push(self.name);
            if does == Does::WaitForGate {
                self.gate.notified().await;
            }
            match does {
                Does::Prepare | Does::WaitForGate => {
                    let part = Part { name: self.name, diary: self.diary.clone(), is_live: false };
                    Ok(Some(Box::new(part) as Box<dyn Prepared>))
                }
                Does::Nothing => Ok(None),
                Does::Fail => Err(PrepareError::new(Blame::Workload, "cannot be built")),
                Does::FailForNow => Err(PrepareError::new(Blame::Remote, "cannot connect").passing()),
                Does::Hang => std::future::pending().await,
                Does::Panic => panic!("a bug in {}", self.name),
            }
        }
        .boxed()
    }
}

impl Prepared for Part {
    fn commit(mut self: Box<Self>) -> Box<dyn Retired> {
        self.diary.write(format!("commit {}", self.name));
        self.is_live = true;
        self
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_live {
            self.diary.write(format!("drop {}", self.name));
        }
    }
}

impl Retired for Part {
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers> {
        async move {
            // The part called `slow` never ends by itself.
            if self.name != "slow" {
                return Leftovers::default();
            }
            tokio::time::sleep_until(deadline).await;
            Leftovers { forced: 2 }
        }
        .boxed()
    }
}

/// The text of the input is the host group of the configuration; a first word says what is special about it.
pub(super) struct FakeSource {
    text: watch::Receiver<Option<String>>,
    diary: Diary,
}

impl ConfigSource for FakeSource {
    fn read(&mut self, _urgency: Urgency) -> BoxFuture<'_, Result<Snapshot, ReadFailure>> {
        let text = self.text.borrow().clone();
        self.diary.write("read".to_owned());
        let path = "a.toml".into();
        let read = match text {
            Some(text) if text.starts_with("unsettled") => {
                Err(ReadFailure::Unsettled { path, after: Duration::from_secs(10) })
            }
            Some(text) => Ok(Snapshot::of_bytes(text.as_bytes())),
            None => Err(ReadFailure::Missing { path }),
        };
        std::future::ready(read).boxed()
    }

    fn load(&mut self, snapshot: Arc<Snapshot>) -> BoxFuture<'_, Result<Loaded, Rejection>> {
        let text = String::from_utf8(snapshot.config.as_deref().unwrap().to_vec()).unwrap();
        async move {
            if text.starts_with("wrong") {
                let errors = vec!["a.toml:1:1: wrong".to_owned(), "a.toml:2:1: wrong too".to_owned()];
                return Err(Rejection::content(Reason::Invalid, errors));
            }
            assert!(!text.starts_with("panic"), "a bug in the loader");
            let mut config = Config::default();
            config.host.group = text.trim().to_owned();
            config.reload.prepare_timeout = Duration::from_millis(300);
            config.reload.poll_interval = None;
            config.drain.timeout = Duration::from_millis(100);
            if text.starts_with("listen") {
                config.http.listen = Some(([127, 0, 0, 1], 80).into());
            }
            if text.starts_with("patient") {
                config.reload.prepare_timeout = Duration::from_secs(600);
            }
            let hashes = Hashes { file: Some("ab12cd34ef567890".to_owned()), config: None };
            Ok(Loaded { config, hashes, ..Loaded::default() })
        }
        .boxed()
    }

    fn effective(&self, live: &Config, new: &Config) -> Result<Config, Rejection> {
        // The environment stands for a key that waits for a restart.
        let mut effective = new.clone();
        effective.host.environment.clone_from(&live.host.environment);
        Ok(effective)
    }

    fn changes(&self, old: &Config, new: &Config) -> Vec<Change> {
        let group = (old.host.group != new.host.group).then(|| Change { key: "host.group".to_owned(), verb: "set" });
        let listen = (old.http != new.http).then(|| Change { key: "http.listen".to_owned(), verb: "bind" });
        group.into_iter().chain(listen).collect()
    }
}

/// A reloader over fakes.
pub(super) struct Rig {
    pub(super) reloader: Reloader,
    pub(super) sections: Vec<FakeSection>,
    pub(super) diary: Diary,
    pub(super) shutdown: Shutdown,
    text_tx: watch::Sender<Option<String>>,
}

impl Rig {
    /// Started on `text`, with sections of these names.
    pub(super) async fn start(text: &str, names: &[&'static str]) -> Self {
        let rig = Self::new(text, names);
        assert_eq!(rig.reloader.first().await.unwrap().outcome, Outcome::Applied);
        rig.diary.take();
        rig
    }

    pub(super) fn new(text: &str, names: &[&'static str]) -> Self {
        let diary = Diary::new();
        let (text_tx, text_rx) = watch::channel(Some(text.to_owned()));
        let section = |name: &&'static str| FakeSection {
            name,
            does: Arc::new(Mutex::new(Does::Prepare)),
            gate: Arc::default(),
            diary: diary.clone(),
        };
        let sections: Vec<FakeSection> = names.iter().map(section).collect();
        let boxed = |section: &FakeSection| Box::new(section.clone()) as Box<dyn Section<Vec<&'static str>>>;
        let shutdown = Shutdown::default();
        let (reloader, task) = Reloader::new(ReloaderParts {
            source: Box::new(FakeSource { text: text_rx, diary: diary.clone() }),
            sections: sections.iter().map(boxed).collect(),
            poll_seed: "host".to_owned(),
            shutdown: shutdown.clone(),
        });
        drop(spawn("reload", task.run()));
        Self { reloader, sections, diary, shutdown, text_tx }
    }

    pub(super) fn write(&self, text: &str) {
        self.text_tx.send_replace(Some(text.to_owned()));
    }

    pub(super) fn remove(&self) {
        self.text_tx.send_replace(None);
    }

    pub(super) async fn reload(&self) -> Arc<ReloadOutcome> {
        let asked = self.reloader.trigger(Trigger::Request);
        tokio::time::timeout(super::PATIENCE, asked).await.expect("no answer").unwrap()
    }

    pub(super) fn group(&self) -> String {
        self.reloader.live().borrow().config.host.group.clone()
    }
}
