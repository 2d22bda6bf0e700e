//! One connection of the control plane: its subscriptions, and the way its replies leave.
//!
//! ```text
//! candidate --- commit ---> live --- another one is live ---> leaving --- nothing more comes ---> farewell
//!     '------------- abandoned ---------------------------------^                         replies in flight leave, end
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Client, Message, SubscribeError, Subscriber};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::control::command::{Outbox, Request, SendError, Way};
use crate::control::question::Question;
use crate::control::subject;
use crate::nats::handover::Fingerprint;
use crate::nats::{NatsClient, Purpose, Tally};
use crate::task::Shutdown;
use crate::types::HostId;

/// How long telling the client to unsubscribe may take: one that takes no commands is not listened to any more.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(50);
/// For an answer that is under way to arrive: a round trip around the world takes less.
const PONG_TIMEOUT: Duration = Duration::from_millis(250);
/// For the server to confirm that nothing more comes.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// For the last replies to be on their way.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Which connection of this control plane, counted from 0.
pub(super) type LinkId = u64;

/// What a subscription is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Heartbeat,
    Status,
    Start,
    Stop,
    Config(Question),
}

/// In which order waiting messages are taken. Questions first, for they cost nothing; a start before a stop, for that
/// is the order in which a client would send both for one workload.
pub(super) const IN_ORDER: [Topic; 7] = [
    Topic::Heartbeat,
    Topic::Status,
    Topic::Start,
    Topic::Stop,
    Topic::Config(Question::Status),
    Topic::Config(Question::Reload),
    Topic::Config(Question::Check),
];

/// A connection, before the control task has it.
pub(super) struct NewLink {
    pub(super) id: LinkId,
    pub(super) nats: NatsClient,
    /// Triggered when it is not wanted after all.
    pub(super) abandoned: Option<Shutdown>,
    /// What becomes of the one that it replaces.
    pub(super) replaced: Option<Replaced>,
    /// Told when it is subscribed.
    pub(super) attached: Option<oneshot::Sender<Result<(), SubscribeError>>>,
}

/// The end of a connection that another one has replaced.
pub(super) struct Replaced {
    /// Triggered when what is in flight has to be answered as it stands.
    pub(super) hurry: Shutdown,
    /// Told when nothing is left of it.
    pub(super) left: oneshot::Sender<()>,
}

/// A connection and its subscriptions.
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) nats: NatsClient,
    pub(super) way: Way,
    /// Present while nobody has said whether it will be live.
    pub(super) abandoned: Option<Shutdown>,
    /// What becomes of the one that it replaces; taken when it is live.
    pub(super) replaced: Option<Replaced>,
    subscriptions: Vec<(Topic, Subscriber)>,
    /// Whether replies may leave.
    gate: watch::Sender<bool>,
    /// Triggered when no reply is on its way any more.
    idle: Shutdown,
    leaving: Option<Leaving>,
}

struct Leaving {
    until: Instant,
    replaced: Option<Replaced>,
}

impl Topic {
    fn subject(self, id: &HostId) -> String {
        match self {
            Self::Heartbeat => subject::heartbeat(id),
            Self::Status => subject::status(id),
            Self::Start => subject::start(id),
            Self::Stop => subject::stop(id),
            Self::Config(Question::Status) => subject::config_status(id),
            Self::Config(Question::Reload) => subject::config_reload(id),
            Self::Config(Question::Check) => subject::config_check(id),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Status => "workload.status",
            Self::Start => "workload.start",
            Self::Stop => "workload.stop",
            Self::Config(Question::Status) => "config.status",
            Self::Config(Question::Reload) => "config.reload",
            Self::Config(Question::Check) => "config.check",
        }
    }

    /// Whether a host on its way out leaves it, so that the operator places nothing more there.
    pub(super) fn is_for_placing(self) -> bool {
        matches!(self, Self::Heartbeat | Self::Start)
    }
}

/// The subjects without which a host cannot be worked with.
pub(super) fn required_subjects(id: &HostId) -> Vec<String> {
    let required = IN_ORDER.into_iter().filter(|topic| !matches!(topic, Topic::Config(_)));
    required.map(|topic| topic.subject(id)).collect()
}

/// How connections of the control plane present themselves.
pub(super) fn purpose(id: &HostId, tally: &Arc<Tally>) -> Purpose {
    let optional = IN_ORDER.into_iter().filter(|topic| matches!(topic, Topic::Config(_)));
    let optional: BTreeSet<String> = optional.map(|topic| topic.subject(id)).collect();
    Purpose { name: format!("washlet-scheduler-{id}"), optional, tally: Arc::clone(tally) }
}

impl Link {
    /// Subscribes to `topics`. Returns at once, connected or not.
    pub(super) async fn open(new: NewLink, id: &HostId, topics: &[Topic]) -> Result<Self, SubscribeError> {
        let NewLink { id: link, nats, abandoned, replaced, attached: _ } = new;
        let mut subscriptions = Vec::new();
        for topic in topics {
            subscriptions.push((*topic, nats.client.subscribe(topic.subject(id)).await?));
        }
        let (gate, idle) = (watch::Sender::new(true), Shutdown::default());
        let outbox = ClientOutbox { client: nats.client.clone(), gate: gate.subscribe(), idle: idle.clone() };
        let way = Way { outbox: Arc::new(outbox), hurry: Shutdown::default() };
        Ok(Self { id: link, nats, way, abandoned, replaced, subscriptions, gate, idle, leaving: None })
    }

    /// The next message on `topic`, or the end of that subscription.
    pub(super) fn poll(&mut self, topic: Topic, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let Some(at) = self.subscriptions.iter().position(|(other, _)| *other == topic) else { return Poll::Pending };
        let Some((_, subscription)) = self.subscriptions.get_mut(at) else { return Poll::Pending };
        let message = subscription.poll_next_unpin(cx);
        if let Poll::Ready(None) = message {
            self.subscriptions.remove(at);
        }
        message
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether nothing more can come.
    pub(super) fn is_silent(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// When a leaving connection is not listened to any longer.
    pub(super) fn leaves_by(&self) -> Option<Instant> {
        self.leaving.as_ref().map(|leaving| leaving.until)
    }

    /// Unsubscribes from everything. What the server has sent is still read: [`Link::is_silent`] says when it was.
    pub(super) async fn leave(&mut self, replaced: Option<Replaced>, id: &HostId) {
        self.leaving = Some(Leaving { until: Instant::now() + LEAVE_TIMEOUT, replaced });
        self.close_gate();
        if self.nats.is_connected() {
            // A PONG that is still to come would be taken for the answer.
            let _none_to_come = timeout(PONG_TIMEOUT, self.nats.barrier(&subject::heartbeat(id))).await;
        }
        self.unsubscribe(|_topic| true).await;
    }

    /// Unsubscribes from what places workloads here. No reply leaves until that is confirmed.
    pub(super) async fn leave_placing(&mut self) {
        self.close_gate();
        let was_connected = self.nats.is_connected();
        self.unsubscribe(Topic::is_for_placing).await;
        if self.has_left_placing() {
            self.open_gate();
            if was_connected {
                warn!("left the control plane without a word: the connection to NATS takes nothing");
            }
        }
    }

    /// Whether nothing more comes of what places workloads here.
    pub(super) fn has_left_placing(&self) -> bool {
        !self.subscriptions.iter().any(|(topic, _)| topic.is_for_placing())
    }

    async fn unsubscribe(&mut self, chosen: impl Fn(Topic) -> bool) {
        let mut is_told = false;
        if self.nats.is_connected() {
            let unsubscribe = async {
                for (_, subscription) in self.subscriptions.iter_mut().filter(|(topic, _)| chosen(*topic)) {
                    // An error is the end of the client, and so of the subscription.
                    let _end_of_client = subscription.drain().await;
                }
            };
            is_told = timeout(COMMAND_TIMEOUT, unsubscribe).await.is_ok();
        }
        if !is_told {
            // Dropped, so that the next connection does not bring them back.
            self.subscriptions.retain(|(topic, _)| !chosen(*topic));
        }
    }

    /// No reply leaves until it is opened again. The client ends a subscription at its first turn after the one in
    /// which it unsubscribed. That has to be the server's answer: a reply would make it an earlier one, and what the
    /// server had sent until then would be lost.
    fn close_gate(&self) {
        self.gate.send_replace(false);
    }

    /// Replies may leave again.
    pub(super) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Lets go of it: what is in flight is answered, then the connection ends.
    pub(super) fn farewell(self) -> impl Future<Output = ()> + Send + 'static {
        self.open_gate();
        let Self { nats, way: Way { outbox, hurry }, idle, leaving, .. } = self;
        // From here on only requests in flight hold it.
        drop(outbox);
        async move {
            match leaving.and_then(|leaving| leaving.replaced) {
                Some(Replaced { hurry: told_to_hurry, left }) => {
                    tokio::select! {
                        () = idle.wait() => {}
                        () = told_to_hurry.wait() => {
                            hurry.trigger();
                            idle.wait().await;
                        }
                    }
                    end(&nats).await;
                    let _nobody_waits = left.send(());
                }
                None => {
                    idle.wait().await;
                    end(&nats).await;
                }
            }
        }
    }
}

/// Sends what is written and ends the client.
pub(super) async fn end(nats: &NatsClient) {
    if nats.is_connected() {
        // Both fail only if the client has ended already, or the connection takes nothing more.
        let _end_of_client = timeout(FLUSH_TIMEOUT, nats.client.flush()).await;
        let _end_of_client = timeout(FLUSH_TIMEOUT, nats.client.drain()).await;
    }
}

/// What makes `message` the same as one of another connection.
pub(super) fn fingerprint(message: &Message) -> Fingerprint {
    let reply = message.reply.as_ref().map_or("", |reply| reply.as_str());
    Fingerprint::of(message.subject.as_str(), reply, &message.payload)
}

/// What is to be done about `message`, and whom it is answered through.
pub(super) fn request(message: Message, way: Way) -> Request {
    Request { way, reply_to: message.reply.map(|subject| subject.to_string()), payload: message.payload }
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

/// The client as the way out of one connection's replies, held by all requests that are not answered.
struct ClientOutbox {
    client: Client,
    gate: watch::Receiver<bool>,
    idle: Shutdown,
}

impl Outbox for ClientOutbox {
    fn send(&self, to: String, payload: Bytes) -> BoxFuture<'static, Result<(), SendError>> {
        let (client, mut gate) = (self.client.clone(), self.gate.clone());
        async move {
            // Without a gate it is open: then the control task has let go of the connection.
            drop(gate.wait_for(|is_open| *is_open).await);
            Outbox::send(&client, to, payload).await
        }
        .boxed()
    }

    fn max_payload(&self) -> usize {
        self.client.max_payload()
    }
}

impl Drop for ClientOutbox {
    fn drop(&mut self) {
        self.idle.trigger();
    }
}
