//! `[host] state_dir`: who the host is and what it was given, opened once, at the start.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tracing::info;

use crate::cluster::resume::Found;
use crate::daemon::draft::Draft;
use crate::daemon::sections::Shared;
use crate::error::Blame;
use crate::host::name;
use crate::reload::{NothingRetired, Plan, Prepare, PrepareError, Prepared, Retired, Section};
use crate::state::{Identity, Journal, State, StateError};
use crate::task;

pub(super) struct StateSection(Arc<Shared>);

/// What outlives the process.
#[derive(Debug, Default)]
pub(super) struct Kept {
    journal: Journal,
    /// What the journal held at the start; taken by whoever brings it back.
    found: Mutex<Option<Found>>,
}

struct PreparedState {
    shared: Arc<Shared>,
    state: Option<State>,
    identity: Identity,
}

impl StateSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }
}

impl Shared {
    /// Keeps nothing before the first commit, or without a state directory.
    pub(super) fn journal(&self) -> Journal {
        self.kept().map(|kept| kept.journal.clone()).unwrap_or_default()
    }

    /// What is to be brought back: once.
    pub(super) fn take_found(&self) -> Option<Found> {
        self.kept()?.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn open(plan: &Plan) -> Result<Option<State>, PrepareError> {
    let Some(directory) = plan.new.host.state_dir.clone() else { return Ok(None) };
    let opened = task::blocking("state", move || State::open(&directory, name::generate)).await;
    let refused = |error: StateError| PrepareError::new(error.blame(), "host.state_dir").because(error);
    let panicked = || PrepareError::new(Blame::Host, "opening the state directory panicked");
    opened.ok_or_else(panicked)?.map(Some).map_err(refused)
}

impl Section<Draft> for StateSection {
    fn name(&self) -> &'static str {
        "state"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        Box::pin(async move {
            if !plan.is_first {
                return Ok(None);
            }
            let state = open(plan).await?;
            let identity =
                state.as_ref().map_or_else(|| Identity::random(name::generate), |state| state.identity.clone());
            draft.identity = Some(identity.clone());
            Ok(Some(Box::new(PreparedState { shared: Arc::clone(&self.0), state, identity }) as Box<dyn Prepared>))
        })
    }
}

impl Prepared for PreparedState {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { shared, state, identity } = *self;
        info!(host.id = %identity.host_id, persists = state.is_some(), "this is the host");
        let kept = state.map_or_else(Kept::default, |state| {
            let State { identity: _, starts, last_heartbeat, journal } = state;
            let found = Mutex::new(Some(Found { starts, last_heartbeat }));
            Kept { journal: Journal::start(journal, &shared.control_thread), found }
        });
        shared.kept.get_or_init(|| kept);
        Box::new(NothingRetired)
    }
}
