//! One connection's life: subscribe, hand each message to the commands, leave in order.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message, SubscribeError, Subscriber};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::control::command::{Commands, Outbox, Request, SendError};
use crate::control::heartbeat::Heartbeat;
use crate::control::{ControlState, Core, Phase, subject};
use crate::nats::{self, NatsClient, NatsError};
use crate::types::HostId;

/// How long leaving two subscriptions may hold up a drain: a connection that is down has nothing to leave.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(50);

/// Why the control plane has to be set up anew.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// No client.
    #[error("cannot set up the connection of the control plane")]
    Connect(#[source] NatsError),
    /// A subscription was refused by the client.
    #[error("cannot subscribe to the subjects of the control plane")]
    Subscribe(#[source] SubscribeError),
    /// The client ended.
    #[error("the subscription to {0} ended by itself")]
    Ended(&'static str),
}

/// The four subscriptions. Each may be left on its own; then it is `None`.
struct Subscriptions {
    heartbeat: Option<Subscriber>,
    start: Option<Subscriber>,
    status: Option<Subscriber>,
    stop: Option<Subscriber>,
}

/// A message, or the end of a subscription.
enum Arrival {
    Heartbeat(Option<Message>),
    Start(Option<Message>),
    Status(Option<Message>),
    Stop(Option<Message>),
}

/// What one connection works with.
struct Session {
    nats: NatsClient,
    subscriptions: Subscriptions,
    commands: Commands,
    /// Gone while draining: no more heartbeats.
    heartbeat: Option<AbortOnDropHandle<Option<()>>>,
}

impl Outbox for Client {
    fn send(&self, to: String, payload: Bytes) -> BoxFuture<'static, Result<(), SendError>> {
        let client = self.clone();
        async move { client.publish(to, payload).await.map_err(SendError::Publish) }.boxed()
    }

    fn max_payload(&self) -> usize {
        Client::max_payload(self)
    }
}

/// Serves on one connection until it is told to close. An error, or a panic, means that another one is needed.
///
/// Reads: the phase and the settings (whose senders `core` keeps) and the subscriptions.
pub(super) async fn serve(core: Arc<Core>) -> Result<(), ConnectionError> {
    let (mut phase, mut settings) = (core.phase.subscribe(), core.settings.subscribe());
    let mut session = Session::open(&core).await?;
    phase.mark_changed();
    loop {
        // Phase before messages: a start that comes with the drain is refused. All arms may be dropped: `changed` and a
        // subscription's `next` lose nothing, `step` says so.
        tokio::select! {
            biased;
            Ok(()) = phase.changed() => {
                let now = *phase.borrow_and_update();
                match now {
                    Phase::Serving => {}
                    Phase::Draining => session.drain(&core).await,
                    Phase::Closing(deadline) => {
                        session.close(deadline).await;
                        return Ok(());
                    }
                }
            }
            Ok(()) = settings.changed() => session.commands.apply(&settings.borrow_and_update()),
            // Before what arrives: there is no more of it than there were starts, so it cannot keep the rest waiting.
            () = session.commands.step() => {}
            arrival = session.subscriptions.next() => session.take(arrival)?,
        }
    }
}

impl Session {
    async fn open(core: &Arc<Core>) -> Result<Self, ConnectionError> {
        let settings = core.settings.borrow().clone();
        let name = format!("washlet-scheduler-{}", core.host_id);
        let nats = nats::connect(&settings.connection, &name).await.map_err(ConnectionError::Connect)?;
        let is_serving = *core.phase.borrow() == Phase::Serving;
        let subscriptions = Subscriptions::open(&nats.client, &core.host_id, is_serving).await;
        let subscriptions = subscriptions.map_err(ConnectionError::Subscribe)?;
        let outbox = Arc::new(nats.client.clone());
        let commands = Commands::new(Arc::clone(&core.host), outbox, &settings);
        let heartbeat = is_serving.then(|| Heartbeat::spawn(Arc::clone(core), nats.clone()));
        Ok(Self { nats, subscriptions, commands, heartbeat })
    }

    fn take(&mut self, arrival: Arrival) -> Result<(), ConnectionError> {
        match arrival {
            Arrival::Heartbeat(Some(message)) => self.commands.heartbeat(message.into()),
            Arrival::Start(Some(message)) => self.commands.start(message.into()),
            Arrival::Status(Some(message)) => self.commands.status(message.into()),
            Arrival::Stop(Some(message)) => self.commands.stop(message.into()),
            Arrival::Heartbeat(None) if self.heartbeat.is_none() => self.subscriptions.heartbeat = None,
            Arrival::Start(None) if self.heartbeat.is_none() => self.subscriptions.start = None,
            Arrival::Heartbeat(None) => return Err(ConnectionError::Ended("heartbeat")),
            Arrival::Start(None) => return Err(ConnectionError::Ended("workload.start")),
            Arrival::Status(None) => return Err(ConnectionError::Ended("workload.status")),
            Arrival::Stop(None) => return Err(ConnectionError::Ended("workload.stop")),
        }
        Ok(())
    }

    /// Stops heartbeats, leaves two subscriptions and refuses starts. What had already arrived on them is still read.
    async fn drain(&mut self, core: &Core) {
        self.heartbeat = None;
        self.commands.drain();
        if self.is_connected() {
            if timeout(LEAVE_TIMEOUT, self.leave()).await.is_err() {
                warn!("left the control plane without a word: the connection to NATS takes nothing");
            }
        } else {
            // Dropped, so that the next connection does not bring them back.
            (self.subscriptions.heartbeat, self.subscriptions.start) = (None, None);
        }
        core.set_state(ControlState::Draining);
    }

    async fn leave(&mut self) {
        let Subscriptions { heartbeat, start, .. } = &mut self.subscriptions;
        for subscription in [heartbeat, start].into_iter().flatten() {
            // An error is the end of the client, which the next arrival reports.
            let _end_of_client = subscription.drain().await;
        }
        let _end_of_client = self.nats.client.flush().await;
    }

    /// Leaves all subscriptions, and reads what had already arrived on them.
    async fn empty(&mut self) {
        self.leave().await;
        let Subscriptions { status, stop, .. } = &mut self.subscriptions;
        for subscription in [status, stop].into_iter().flatten() {
            let _end_of_client = subscription.drain().await;
        }
        while !self.subscriptions.are_over() {
            match self.subscriptions.next().await {
                Arrival::Status(None) => self.subscriptions.status = None,
                Arrival::Stop(None) => self.subscriptions.stop = None,
                arrival => {
                    // The end of the other two is no error any more.
                    let _never = self.take(arrival);
                }
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.nats.client.connection_state() == State::Connected
    }

    /// Answers what is open, flushes and ends the client, until `deadline` at the latest.
    async fn close(mut self, deadline: Instant) {
        self.heartbeat = None;
        self.commands.drain();
        let leave = async {
            if self.is_connected() && timeout(LEAVE_TIMEOUT, self.empty()).await.is_err() {
                warn!("left the control plane without a word: the connection to NATS takes nothing");
            }
            self.commands.finish().await;
            if self.is_connected() {
                // Both fail only if the client has ended already.
                let _end_of_client = self.nats.client.flush().await;
                let _end_of_client = self.nats.client.drain().await;
            }
        };
        if timeout_at(deadline, leave).await.is_err() {
            warn!("closed the control plane before its last replies were sent");
        }
    }
}

impl Subscriptions {
    /// Only `status` and `stop` if the host is on its way out. Returns at once, connected or not.
    async fn open(client: &Client, id: &HostId, is_serving: bool) -> Result<Self, SubscribeError> {
        let (mut heartbeat, mut start) = (None, None);
        if is_serving {
            heartbeat = Some(client.subscribe(subject::heartbeat(id)).await?);
            start = Some(client.subscribe(subject::start(id)).await?);
        }
        let status = Some(client.subscribe(subject::status(id)).await?);
        let stop = Some(client.subscribe(subject::stop(id)).await?);
        Ok(Self { heartbeat, start, status, stop })
    }

    fn are_over(&self) -> bool {
        let Self { heartbeat, start, status, stop } = self;
        [heartbeat, start, status, stop].into_iter().all(Option::is_none)
    }

    /// The next message. Questions first, for they cost nothing; a start before a stop, for that is the order in which
    /// a client would send both for one workload.
    async fn next(&mut self) -> Arrival {
        tokio::select! {
            biased;
            message = next_of(&mut self.heartbeat) => Arrival::Heartbeat(message),
            message = next_of(&mut self.status) => Arrival::Status(message),
            message = next_of(&mut self.start) => Arrival::Start(message),
            message = next_of(&mut self.stop) => Arrival::Stop(message),
        }
    }
}

async fn next_of(subscription: &mut Option<Subscriber>) -> Option<Message> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

impl From<Message> for Request {
    fn from(message: Message) -> Self {
        Self { reply_to: message.reply.map(|subject| subject.to_string()), payload: message.payload }
    }
}
