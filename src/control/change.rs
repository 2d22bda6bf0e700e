//! Another connection for a control plane that runs: connected and subscribed beside the one in use, then in its place.
//!
//! Each step consumes the one before. Until the commit heartbeats leave on the old connection, while messages are taken
//! from both; afterwards the old one is unsubscribed, and ends when what came on it is answered.

use std::sync::Arc;
use std::time::Duration;

use async_nats::SubscribeError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Scheduler;
use crate::control::link::{self, LinkId, NewLink, Replaced};
use crate::control::{Core, subject};
use crate::nats::{self, NatsClient, NatsError, Tally};
use crate::task::Shutdown;
use crate::types::HostId;

/// A server that takes longer than this to answer a PING is not one to move to.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);
/// For the last replies, once they were told to hurry.
const HURRY_TIME: Duration = Duration::from_millis(500);

/// Why another connection cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// Unreachable, or it does not let us in.
    #[error("the new connection cannot be made")]
    Connect(#[source] NatsError),
    /// It ended at once.
    #[error("the new connection takes no subscriptions")]
    Subscribe(#[source] SubscribeError),
    /// It does not let us hear the operator.
    #[error("the new connection may not subscribe to {}: grant its user `runtime.host.<id>.>`", .0.join(", "))]
    Refused(Vec<String>),
    /// It says nothing.
    #[error("the new connection did not confirm its subscriptions within {} s", BARRIER_TIMEOUT.as_secs())]
    Silent,
    /// The control plane is ending, or began anew.
    #[error("the control plane takes no other connection now")]
    Gone,
}

/// A connection that is subscribed and not yet the live one. Dropped instead of committed, it is left again.
pub(crate) struct PreparedConnection {
    core: Arc<Core>,
    id: LinkId,
    settings: Scheduler,
    abandon: Abandon,
    retired: RetiredConnection,
}

/// The connection that was live until a moment ago.
pub(crate) struct RetiredConnection {
    hurry: Shutdown,
    left: oneshot::Receiver<()>,
}

/// Tells that a connection is not wanted, unless it was.
struct Abandon(Option<Shutdown>);

impl ChangeError {
    /// Whether trying again with the same settings may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Connect(error) => !matches!(error, NatsError::ParseUrl { .. } | NatsError::NoUrl),
            Self::Subscribe(_) | Self::Refused(_) | Self::Silent | Self::Gone => true,
        }
    }
}

/// A connection for a control plane that is about to begin.
pub(crate) async fn prove(settings: &Scheduler, id: &HostId, tally: &Arc<Tally>) -> Result<NatsClient, ChangeError> {
    nats::connect_now(&settings.connection, link::purpose(id, tally)).await.map_err(ChangeError::Connect)
}

/// Connects with `settings`, subscribes, and waits until the server has confirmed it. May be dropped at any time.
pub(super) async fn prepare(core: Arc<Core>, settings: Scheduler) -> Result<PreparedConnection, ChangeError> {
    let nats = prove(&settings, &core.host_id, &core.tally).await?;
    let id = core.next_link();
    let (unwanted, hurry) = (Shutdown::default(), Shutdown::default());
    let abandon = Abandon(Some(unwanted.clone()));
    let (left_tx, left) = oneshot::channel();
    let (attached_tx, attached) = oneshot::channel();
    core.join(NewLink {
        id,
        nats: nats.clone(),
        abandoned: Some(unwanted),
        replaced: Some(Replaced { hurry: hurry.clone(), left: left_tx }),
        attached: Some(attached_tx),
    });
    let confirmed = async {
        match attached.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(ChangeError::Subscribe(error)),
            Err(_ended) => return Err(ChangeError::Gone),
        }
        nats.barrier(&subject::heartbeat(&core.host_id)).await;
        Ok(())
    };
    timeout(BARRIER_TIMEOUT, confirmed).await.unwrap_or(Err(ChangeError::Silent))?;
    // What the server refused before its PONG was received before it; it is handed on by a task of its own.
    tokio::task::yield_now().await;
    let refused = nats.refused_of(&link::required_subjects(&core.host_id));
    if !refused.is_empty() {
        return Err(ChangeError::Refused(refused));
    }
    if !nats.is_connected() {
        return Err(ChangeError::Silent);
    }
    Ok(PreparedConnection { core, id, settings, abandon, retired: RetiredConnection { hurry, left } })
}

impl PreparedConnection {
    /// From now on heartbeats leave on this connection, and the old one is left.
    pub(crate) fn commit(self) -> RetiredConnection {
        let Self { core, id, settings, mut abandon, retired } = self;
        abandon.0 = None;
        core.settings.send_replace(settings);
        core.live.send_replace(id);
        retired
    }
}

impl RetiredConnection {
    /// Waits until nothing is left of it. At `deadline` what is in flight is answered as it stands. How many were cut:
    /// whatever could not even be told.
    pub(crate) async fn retire(self, deadline: Instant) -> usize {
        let Self { hurry, mut left } = self;
        // An error is the end of the control task, and with it of the connection.
        if timeout_at(deadline, &mut left).await.is_ok() {
            return 0;
        }
        hurry.trigger();
        usize::from(timeout(HURRY_TIME, left).await.is_err())
    }
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if let Some(unwanted) = &self.0 {
            unwanted.trigger();
        }
    }
}
