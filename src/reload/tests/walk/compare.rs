//! What can be seen, beside what the model says.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::Level;

use super::Walk;
use super::model::Expected;
use super::parts::NAMES;
use crate::reload::plan::Pending;
use crate::reload::{Outcome, ReloadOutcome};

impl Walk {
    pub(super) fn is_as(&self, outcome: &ReloadOutcome, expected: &Expected) {
        let rejection = outcome.rejection.as_ref();
        let is_unchanged = expected.outcome == Outcome::Unchanged;
        let actual = Expected {
            trigger: outcome.trigger,
            outcome: outcome.outcome,
            reason: rejection.map(|rejection| rejection.reason),
            passing: rejection.is_some_and(|rejection| rejection.passing),
            generation: outcome.generation.get(),
            section: NAMES.into_iter().find(|name| {
                outcome.errors().first().is_some_and(|error| error.line.starts_with(&format!("{name}: ")))
            }),
            changed: expected
                .changed
                .iter()
                .copied()
                .filter(|key| outcome.changed.iter().any(|c| c.key == *key))
                .collect(),
            restart_pending: expected.restart_pending.clone(),
            // What runs is known by its hash without being loaded again.
            file_hash: outcome.file_hash.clone().or_else(|| expected.file_hash.clone().filter(|_| is_unchanged)),
        };
        assert_eq!(&actual, expected, "{}", self.did);
        assert_eq!(outcome.changed.len(), expected.changed.len(), "{:?}: {}", outcome.changed, self.did);
        assert_eq!(keys(&outcome.restart_pending), expected.restart_pending, "{}", self.did);
        assert_eq!(rejection.is_none(), outcome.errors().is_empty());
    }

    /// Everything that can be seen is as the model says.
    pub(super) fn agree(&mut self) {
        let retiring = self.model.retiring(Instant::now());
        let Self { model, did, .. } = &*self;
        for (index, stage) in self.stages.iter().enumerate() {
            let live = stage.live.lock().unwrap().as_ref().map(|live| live.group.clone());
            assert_eq!(live, model.live[index], "section {}: {did}", NAMES[index]);
            let (parts, live) = (stage.parts.get(), isize::from(live.is_some()));
            let most = live + isize::try_from(retiring).unwrap();
            assert!(live <= parts && parts <= most, "{parts} parts of {}, {retiring} retire: {did}", NAMES[index]);
            assert_eq!(stage.drafts.get(), 0, "drafts of {}: {did}", NAMES[index]);
        }
        let live = self.reloader.live().borrow().clone();
        assert_eq!(
            (live.generation.get(), &live.config.host.group),
            (model.generation, &model.group.unwrap().to_string()),
            "{did}"
        );
        assert_eq!(live.config.host.environment, model.environment.to_string(), "{did}");
        let status = self.reloader.status().borrow().clone();
        let (checks, forced): (u64, usize) = (status.checks.values().sum(), status.forced.values().sum());
        assert_eq!((checks, status.retiring, forced), (model.checks, retiring, model.forced), "{did}");
        assert_eq!((&status.totals, status.restarts), (&model.totals, 0), "{did}");
        assert_eq!(status.last_ok(), model.last_ok(), "{did}");
        assert_eq!(keys(&status.restart_pending), model.restart_pending, "{did}");
        let first = model.history.len().saturating_sub(20);
        assert_eq!(status.attempts.len(), model.history.len() - first, "{did}");
        for (index, (outcome, expected)) in status.attempts.iter().zip(&model.history[first..]).enumerate() {
            assert_eq!(outcome.n, u64::try_from(first + index + 1).unwrap(), "{did}");
            self.is_as(outcome, expected);
        }
        self.is_logged();
    }

    /// One line for each attempt, and none for anything else.
    fn is_logged(&mut self) {
        let lines = self.log.take();
        let told = lines.iter().filter(|line| line.message().starts_with("configuration "));
        let told: Vec<_> = told
            .map(|line| {
                assert_eq!(line.level == Level::ERROR, line.message() == "configuration rejected", "{}", self.did);
                (line.message(), line.field("trigger"), line.field("generation"))
            })
            .collect();
        let new = &self.model.history[self.logged..];
        let due: Vec<_> = new
            .iter()
            .map(|it| {
                (format!("configuration {}", it.outcome.as_str()), it.trigger.as_str(), it.generation.to_string())
            })
            .collect();
        let due: Vec<_> = due.iter().map(|(message, trigger, n)| (message.as_str(), *trigger, n.as_str())).collect();
        assert_eq!(told, due, "{}", self.did);
        self.logged = self.model.history.len();
    }

    /// At the end nothing is left but what is live.
    pub(super) async fn end(mut self) {
        self.shutdown.trigger();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(self.model.retiring(Instant::now()), 0);
        assert_eq!(self.reloader.status().borrow().retiring, 0);
        for stage in &self.stages {
            let is_live = stage.live.lock().unwrap().is_some();
            assert_eq!((stage.parts.get(), stage.drafts.get()), (isize::from(is_live), 0));
            assert!(stage.prepared.load(Ordering::SeqCst) > 0);
        }
    }
}

fn keys(pending: &[Pending]) -> Vec<&str> {
    pending.iter().map(|pending| pending.key.as_str()).collect()
}
