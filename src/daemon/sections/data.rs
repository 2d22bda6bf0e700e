//! `[nats.data]`: the connection of the data plane, made if a plugin needs it, and another one beside the old one.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use tokio::time::Instant;

use crate::config::{Config, NatsConnection};
use crate::daemon::draft::Draft;
use crate::daemon::sections::{Shared, files_differ};
use crate::error::Blame;
use crate::nats::{self, DataClient, NatsError, Purpose};
use crate::plugin::PluginSet;
use crate::reload::{Leftovers, NothingRetired, Plan, Prepare, PrepareError, Prepared, Retired, Section};
use crate::task;
use crate::types::HostId;

pub(super) struct DataSection(Arc<Shared>);

struct PreparedData {
    shared: Arc<Shared>,
    data: Option<DataClient>,
}

struct RetiredData(DataClient);

impl DataSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    async fn prepare_now(&self, plan: &Plan, draft: &mut Draft) -> Prepare {
        let live = self.0.live().data.clone();
        let is_needed = PluginSet::uses_nats(&plan.new.plugins);
        let keep = live.is_some() && !needs_another_connection(&plan.old, &plan.new);
        let data = match (is_needed, &live) {
            (false, None) => return Ok(None),
            (false, Some(_)) => None,
            (true, Some(live)) if keep => {
                draft.means.data = Some(live.clone());
                return Ok(None);
            }
            (true, _) => Some(self.connect(&plan.new.nats.data, plan.is_first, &self.name(draft)).await?),
        };
        draft.means.data.clone_from(&data);
        Ok(Some(Box::new(PreparedData { shared: Arc::clone(&self.0), data })))
    }

    /// What the server lists the connection as.
    fn name(&self, draft: &Draft) -> String {
        let starting = draft.identity.as_ref().map(|identity| &identity.host_id);
        let id = starting.or_else(|| self.0.host().map(|host| host.id()));
        format!("washlet-data-{}", id.map_or("", HostId::as_str))
    }

    /// On the workers, where its users are. At a start its server may come later than the host.
    async fn connect(&self, settings: &NatsConnection, is_first: bool, name: &str) -> Result<DataClient, PrepareError> {
        let tally = Arc::clone(&self.0.tallies.data);
        let purpose = Purpose { name: name.to_owned(), optional: BTreeSet::new(), tally };
        let settings = settings.clone();
        let connect = async move {
            if is_first { nats::connect(&settings, purpose).await } else { nats::connect_now(&settings, purpose).await }
        };
        let connected = task::spawn_on(&self.0.workers, "connect the data plane", connect).await;
        let connected = connected.ok().flatten();
        let connected = connected.ok_or_else(|| PrepareError::new(Blame::Host, "connecting panicked"))?;
        connected.map(DataClient::new).map_err(refusal)
    }
}

/// Other settings, or other content of a file that they name.
fn needs_another_connection(old: &Config, new: &Config) -> bool {
    old.nats.data != new.nats.data || files_differ("nats.data", old, new)
}

fn refusal(error: NatsError) -> PrepareError {
    let is_passing = !matches!(error, NatsError::ParseUrl { .. } | NatsError::NoUrl);
    let refused = PrepareError::new(Blame::Remote, "the new connection cannot be made").because(error);
    if is_passing { refused.passing() } else { refused }
}

impl Section<Draft> for DataSection {
    fn name(&self) -> &'static str {
        "nats.data"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        self.prepare_now(plan, draft).boxed()
    }
}

impl Prepared for PreparedData {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { shared, data } = *self;
        let old = std::mem::replace(&mut shared.live().data, data);
        match old {
            Some(old) => Box::new(RetiredData(old)),
            None => Box::new(NothingRetired),
        }
    }
}

impl Retired for RetiredData {
    /// Its users are retired beside it, each with what it has in flight.
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers> {
        async move { Leftovers { forced: self.0.retire(deadline).await } }.boxed()
    }
}
