//! What the host tells of itself over HTTP and NATS, from snapshots that hold up nobody: the probes here, the rest beside.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::admin::{AdminPort, Check};
use crate::config::port::ConfigPort;
use crate::control::ControlState;
use crate::daemon::sections::Shared;
use crate::daemon::{scrape, status};
use crate::plugin::PluginState;
use crate::reload::{Reloader, Trigger};

/// After this a request for a reload is answered with how far it has come.
const RELOAD_ANSWER_MAX: Duration = Duration::from_secs(10);

/// Holds the host weakly: a listener must not keep alive what owns it.
#[derive(Debug)]
pub(super) struct Report(Weak<Shared>);

impl Report {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }
}

impl AdminPort for Report {
    fn liveness(&self) -> Vec<Check> {
        let Some(shared) = self.0.upgrade() else { return vec![Check::required("host", false, "gone")] };
        let mut checks = vec![Check::required(
            "reload task",
            shared.is_draining() || shared.reloader().is_some_and(Reloader::is_alive),
            "",
        )];
        if let Some(control) = &shared.live().control {
            let state = *control.state().borrow();
            checks.push(Check::required("control plane", state != ControlState::Closed || shared.is_draining(), ""));
        }
        checks
    }

    fn readiness(&self) -> Vec<Check> {
        let Some(shared) = self.0.upgrade() else { return vec![Check::required("host", false, "gone")] };
        let mut checks = vec![Check::required(
            "draining",
            !shared.is_draining(),
            if shared.is_draining() { "draining" } else { "" },
        )];
        let status = shared.reload_status();
        let is_applied = shared.reloader().is_some_and(|reloader| reloader.live().borrow().generation.get() > 0);
        checks.push(Check::required("configuration", is_applied, ""));
        let rejected = if status.last_ok() { "" } else { "config: rejected" };
        checks.push(Check::told("last reload", status.last_ok(), rejected));
        let live = shared.live();
        if let Some(http) = &live.http {
            let detail = format!("{} connections on {}", http.connections(), http.local_addr());
            checks.push(Check::required("http", !http.is_full(), detail));
        }
        if let Some(control) = &live.control {
            let state = *control.state().borrow();
            let trouble = shared.tallies.scheduler.trouble().filter(|_why| state != ControlState::Joined);
            let detail = trouble.map_or_else(
                || status::of_control(state).to_owned(),
                |why| format!("{}: {why}", status::of_control(state)),
            );
            checks.push(Check::required("nats", state == ControlState::Joined, detail));
        }
        drop(live);
        for (id, health) in shared.plugins() {
            let is_ready = health.state == PluginState::Ready;
            checks.push(Check::told(format!("plugin {id}"), is_ready, health.error.unwrap_or_default()));
        }
        checks
    }

    fn metrics(&self) -> String {
        self.0.upgrade().map_or_else(String::new, |shared| scrape::metrics(&shared))
    }
}

impl ConfigPort for Report {
    fn status(&self) -> Value {
        self.0.upgrade().map_or_else(|| json!({}), |shared| status::of(&shared))
    }

    fn reload(&self) -> BoxFuture<'static, Value> {
        self.ask(Trigger::Request)
    }

    fn check(&self) -> BoxFuture<'static, Value> {
        self.ask(Trigger::Check)
    }
}

impl Report {
    fn ask(&self, trigger: Trigger) -> BoxFuture<'static, Value> {
        let reloader = self.0.upgrade().and_then(|shared| shared.reloader().cloned());
        async move {
            let Some(reloader) = reloader else { return json!({ "outcome": "gone" }) };
            match tokio::time::timeout(RELOAD_ANSWER_MAX, reloader.trigger(trigger)).await {
                Ok(Ok(outcome)) => status::of_attempt(&outcome),
                Ok(Err(error)) => json!({ "outcome": "refused", "error": error.to_string() }),
                Err(_elapsed) => {
                    let last = reloader.status().borrow().attempts.back().map_or(0, |last| last.n);
                    json!({ "outcome": "running", "n": last.saturating_add(1) })
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Verdict;
    use crate::config::Config;
    use crate::config::files::{ReadFailure, Snapshot, Urgency};
    use crate::reload::{Change, ConfigSource, Loaded, Rejection, ReloaderParts};
    use crate::task::{Shutdown, spawn};

    /// A disk that never answers, once it was read.
    struct Hanging;

    impl ConfigSource for Hanging {
        fn read(&mut self, urgency: Urgency) -> BoxFuture<'_, Result<Snapshot, ReadFailure>> {
            async move {
                match urgency {
                    Urgency::Start => Ok(Snapshot::of_bytes(b"#")),
                    Urgency::Change => std::future::pending().await,
                }
            }
            .boxed()
        }

        fn load(&mut self, _snapshot: Arc<Snapshot>) -> BoxFuture<'_, Result<Loaded, Rejection>> {
            std::future::ready(Ok(Loaded::default())).boxed()
        }

        fn effective(&self, _live: &Config, new: &Config) -> Result<Config, Rejection> {
            Ok(new.clone())
        }

        fn changes(&self, _old: &Config, _new: &Config) -> Vec<Change> {
            Vec::new()
        }
    }

    #[tokio::test]
    async fn liveness_fails_while_the_reload_task_is_not_heard_of() {
        let handle = tokio::runtime::Handle::current();
        let shared = Arc::new(Shared::new(handle.clone(), handle));
        let (reloader, task) = Reloader::new::<()>(ReloaderParts {
            source: Box::new(Hanging),
            sections: Vec::new(),
            poll_seed: String::new(),
            shutdown: Shutdown::default(),
        });
        shared.set_reloader(reloader.clone());
        let is_alive = || Report::new(&shared).liveness().iter().all(|check| check.verdict == Verdict::Pass);
        assert!(is_alive(), "it may take a moment to begin");
        drop(spawn("reload", task.run()));
        reloader.first().await.unwrap();
        let an_hour = Duration::from_secs(3600);
        reloader.age(an_hour);
        assert!(!is_alive());
        let beats = async {
            while !is_alive() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), beats).await.expect("it is heard of while it has nothing to do");

        let mut asked = Box::pin(reloader.trigger(Trigger::Request));
        let begun = tokio::time::timeout(Duration::from_secs(20), async {
            let mut status = reloader.status();
            drop(status.wait_for(|status| status.is_under_way).await);
        });
        assert!(futures::poll!(&mut asked).is_pending());
        begun.await.expect("the attempt begins");
        reloader.age(Duration::from_secs(60));
        assert!(is_alive(), "reading may take a while");
        reloader.age(an_hour);
        assert!(!is_alive(), "but not for ever");
        assert!(futures::poll!(&mut asked).is_pending());
    }
}
