//! The connection of the data plane as plugins hold it: counted, so that an old one ends with its last user.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use async_nats::Client;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use crate::nats::{ConnectionState, NatsClient, Standing};
use crate::task::Shutdown;

/// How often the number of users is looked at while an old connection is left: counting costs its users nothing.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// For users that were told to end at once, and then for the last bytes of the connection.
const HURRY_TIME: Duration = Duration::from_millis(300);

/// One connection of the data plane. Whoever holds a clone uses it.
///
/// It never becomes another connection: a reload that asks for one hands a new `DataClient` to every plugin that uses
/// NATS, beside the old one. A user lets go of the old one when nothing of its own is left on it.
#[derive(Debug, Clone)]
pub(crate) struct DataClient(Arc<Held>);

#[derive(Debug)]
struct Held {
    nats: NatsClient,
    cut: Shutdown,
}

/// Tells one connection from another, and holds none.
#[derive(Debug, Clone)]
pub(crate) struct DataClientId(Weak<Held>);

impl PartialEq for DataClientId {
    fn eq(&self, other: &Self) -> bool {
        // As long as one of the two is there, nothing else is put where it points to.
        self.0.ptr_eq(&other.0)
    }
}

impl DataClient {
    pub(crate) fn new(nats: NatsClient) -> Self {
        Self(Arc::new(Held { nats, cut: Shutdown::default() }))
    }

    /// Takes commands even while there is no connection: they wait in its queue.
    pub(crate) fn client(&self) -> &Client {
        &self.0.nats.client
    }

    /// The same, with its state and [`barrier`](NatsClient::barrier).
    pub(crate) fn nats(&self) -> &NatsClient {
        &self.0.nats
    }

    pub(crate) fn id(&self) -> DataClientId {
        DataClientId(Arc::downgrade(&self.0))
    }

    /// What the connection is doing, since when, and why if it is not connected.
    pub(crate) fn standing(&self) -> Standing {
        self.0.nats.standing()
    }

    /// Waits until the time is over in which users of a replaced connection may finish: they end with an error then.
    /// Safe to drop and call again.
    pub(crate) async fn cut(&self) {
        self.0.cut.wait().await;
    }

    /// For the last holder that is not a user: waits until nobody uses the connection, cuts those who still do at
    /// `deadline`, and closes it. Says how many were cut.
    pub(crate) async fn retire(self, deadline: Instant) -> usize {
        self.unused(deadline).await;
        self.0.cut.trigger();
        // Plugins cut what they have in flight at the same deadline, and count it.
        let forced = self.unused(Instant::now() + HURRY_TIME).await;
        if forced > 0 {
            warn!(forced, "the old connection of the data plane ends under its users");
        }
        self.close().await;
        forced
    }

    /// Waits for the end of other users, at most until `deadline`: how many are left.
    async fn unused(&self, deadline: Instant) -> usize {
        loop {
            let users = Arc::strong_count(&self.0).saturating_sub(1);
            if users == 0 || Instant::now() >= deadline {
                return users;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Sends what is left and ends the connection, whoever still holds it.
    pub(crate) async fn close(&self) {
        if !self.0.nats.is_connected() || self.client().drain().await.is_err() {
            return;
        }
        let mut state = self.0.nats.state.clone();
        let closed = state.wait_for(|state| *state == ConnectionState::Closed);
        if timeout(HURRY_TIME, closed).await.is_err() {
            warn!("the old connection of the data plane did not close in time");
        }
    }
}

impl Standing {
    /// As of now.
    pub(super) fn now(state: ConnectionState, error: Option<String>) -> Self {
        Self { state, since: SystemTime::now(), error }
    }
}
