//! A section between the real ones that does what the test says.

use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::daemon::draft::Draft;
use crate::error::Blame;
use crate::reload::{Plan, Prepare, PrepareError, Section};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Nothing,
    Fail,
    Panic,
    Hang,
}

#[derive(Clone)]
pub(super) struct Saboteur {
    /// The section that comes next.
    pub(super) before: &'static str,
    does: Arc<Mutex<Does>>,
    reached: Arc<Notify>,
}

impl Saboteur {
    pub(super) fn before(section: &'static str) -> Self {
        Self { before: section, does: Arc::new(Mutex::new(Does::Nothing)), reached: Arc::default() }
    }

    pub(super) fn set(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    /// Waits until it hangs.
    pub(super) async fn reached(&self) {
        tokio::time::timeout(super::PATIENCE, self.reached.notified()).await.expect("it comes that far");
    }
}

impl Section<Draft> for Saboteur {
    fn name(&self) -> &'static str {
        "saboteur"
    }

    fn prepare<'a>(&'a self, _plan: &'a Plan, _draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        let does = *self.does.lock().unwrap();
        async move {
            match does {
                Does::Nothing => Ok(None),
                Does::Fail => Err(PrepareError::new(Blame::Host, "on purpose")),
                Does::Panic => panic!("on purpose"),
                Does::Hang => {
                    self.reached.notify_one();
                    std::future::pending().await
                }
            }
        }
        .boxed()
    }
}
