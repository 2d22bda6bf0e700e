//! Start, stop and status of one workload, waiting for what was asked for if that is wanted.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::control::Reply;
use crate::control::tool::{Question, id_request, start_request};
use crate::ctl::{CtlError, Session, unreadable};
use crate::types::{HostId, WorkloadId, WorkloadState};

/// A host answers a start after its `start_reply_wait`, which is below 55 s.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at a workload that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Between two lines of progress that say the same.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// What is said of a workload that was stopped and awaited, unlike one that never was there.
pub(crate) const GONE: &str = "Workload is gone";

/// Where a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) host: HostId,
    pub(crate) id: WorkloadId,
    pub(crate) state: WorkloadState,
    /// What the host says of it.
    pub(crate) message: String,
}

/// How long to wait for the end of a start or a stop; `None`: not at all.
pub(crate) type Patience = Option<Duration>;

impl Session {
    /// What the host says of `id`.
    pub(crate) async fn status(&self, host: &HostId, id: &WorkloadId) -> Result<Placed, CtlError> {
        self.about(host, Question::Status, &id_request(id), id, self.timeout).await
    }

    /// Starts `workload`; `progress` is told how far it is, while the first answer is out too.
    pub(crate) async fn start(
        &self,
        host: &HostId,
        id: &WorkloadId,
        workload: &Value,
        patience: Patience,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Placed, CtlError> {
        let mut progress = Progress::new(progress);
        let request = start_request(id, workload);
        let mut started =
            std::pin::pin!(self.about(host, Question::Start, &request, id, START_TIMEOUT.max(self.timeout)));
        let mut looks = interval(LOOK_AGAIN);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.tick().await;
        let answered = loop {
            // The answer is pinned and goes on; a look that is dropped is asked again.
            tokio::select! {
                biased;
                answered = &mut started => break answered?,
                _tick = looks.tick() => {
                    if let Ok(placed) = self.status(host, id).await && placed.state == WorkloadState::Starting {
                        progress.say(&placed);
                    }
                }
            }
        };
        if answered.state != WorkloadState::Starting || patience.is_none() {
            return Ok(answered);
        }
        self.wait(answered, patience, &mut progress, |state| state != WorkloadState::Starting).await
    }

    /// Stops `id`.
    pub(crate) async fn stop(
        &self,
        host: &HostId,
        id: &WorkloadId,
        patience: Patience,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Placed, CtlError> {
        let answered = self.about(host, Question::Stop, &id_request(id), id, self.timeout).await?;
        if answered.state != WorkloadState::Stopping || patience.is_none() {
            return Ok(answered);
        }
        let mut progress = Progress::new(progress);
        let gone = self.wait(answered, patience, &mut progress, |state| state == WorkloadState::NotFound).await?;
        Ok(Placed { message: GONE.to_owned(), ..gone })
    }

    async fn wait(
        &self,
        mut placed: Placed,
        patience: Patience,
        progress: &mut Progress<'_>,
        is_done: impl Fn(WorkloadState) -> bool,
    ) -> Result<Placed, CtlError> {
        let patience = patience.unwrap_or_default();
        let until = Instant::now() + patience;
        while !is_done(placed.state) {
            progress.say(&placed);
            if Instant::now() >= until {
                let (id, state) = (placed.id.to_string(), placed.state.to_string().to_lowercase());
                return Err(CtlError::Unfinished { id, state, after: patience });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            placed = self.status(&placed.host, &placed.id).await?;
        }
        Ok(placed)
    }

    async fn about(
        &self,
        host: &HostId,
        question: Question,
        request: &Value,
        id: &WorkloadId,
        patience: Duration,
    ) -> Result<Placed, CtlError> {
        let answer = self.ask(host, question, request, patience).await?;
        let Reply { workload_id: _, state, message } =
            Reply::decode(&answer).map_err(|malformed| unreadable(host, &malformed))?;
        Ok(Placed { host: host.clone(), id: id.clone(), state, message })
    }
}

impl Placed {
    /// All of it, for scripts.
    pub(crate) fn json(&self) -> Value {
        let Self { host, id, state, message } = self;
        json!({ "host": host.as_str(), "id": id.as_str(), "state": state.to_string(), "message": message })
    }
}

/// Lines about something that takes its time: at each change, and now and then.
struct Progress<'a> {
    tell: &'a mut dyn FnMut(&str),
    began: Instant,
    last: Option<(String, Instant)>,
}

impl<'a> Progress<'a> {
    fn new(tell: &'a mut dyn FnMut(&str)) -> Self {
        Self { tell, began: Instant::now(), last: None }
    }

    fn say(&mut self, placed: &Placed) {
        let now = Instant::now();
        let is_news = self.last.as_ref().is_none_or(|(text, at)| *text != placed.message || now - *at >= SAY_AGAIN);
        if is_news {
            (self.tell)(&format!("{} ({} s)", placed.message, (now - self.began).as_secs()));
            self.last = Some((placed.message.clone(), now));
        }
    }
}
