//! Messages over core NATS, on the connection of the data plane: at most once, no redelivery.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, Request, Subscriber};
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::broker::{Answer, Broker, BrokerError, Incoming, Message, Wiring};
use crate::error::Chain;
use crate::nats::{ConnectionState, DataClient};
use crate::task::Shutdown;
use crate::types::WorkloadId;

/// A subscription on which nothing came for this long has nothing on its way, or will not have in the moment in which
/// it ends: also on a machine that is slow to read.
const QUIET: Duration = Duration::from_secs(1);

/// For how long messages are counted to know how many may be on their way: a round trip around the world is shorter,
/// and twice that is asked for.
const STRETCH: Duration = Duration::from_millis(250);

/// What a leaving subscription still takes, beside twice what came within [`STRETCH`].
const LAST_MESSAGES: u64 = 64;

/// For the server to answer a question on a connection that may publish to its own inbox.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);

/// The client learns of a refusal before the answer to a later question, but tells it on another way.
const REFUSAL_DELAY: Duration = Duration::from_millis(5);

/// The backend `nats`.
#[derive(Debug)]
pub(super) struct NatsBroker {
    data: DataClient,
}

/// One subscription at the server.
struct Subscription {
    subscriber: Subscriber,
    data: DataClient,
    leave: Shutdown,
    received: u64,
    /// In which the server was told of it: in a later one it counts from that one's begin.
    session: Option<u64>,
    recent: Recent,
    /// Set once it leaves.
    leaving: Option<Leaving>,
}

/// How much came lately.
#[derive(Debug, Clone, Copy)]
struct Recent {
    /// Of the current stretch of time, at least as long as [`STRETCH`].
    since: Instant,
    count: u64,
    /// Of the stretch before.
    before: u64,
    last: Option<Instant>,
}

/// How a subscription ends without losing what is on its way.
///
/// The client forgets a subscription at its next turn after it has told the server, whatever the server has sent until
/// then. But it keeps one that is to end after so many messages until they are there, and so does the server: if that
/// number is larger than what is on its way, nothing is lost. Under load it is soon reached; otherwise nothing comes for
/// a while, and then the end loses nothing.
struct Leaving {
    /// Read already, so that what was delivered is known.
    buffered: VecDeque<async_nats::Message>,
    /// Told to end at once: for the server to confirm that.
    until: Option<Instant>,
    is_over: bool,
}

impl NatsBroker {
    pub(super) fn new(data: DataClient) -> Self {
        Self { data }
    }

    fn client(&self) -> Result<&Client, BrokerError> {
        if self.data.nats().is_connected() { Ok(self.data.client()) } else { Err(BrokerError::Unavailable) }
    }

    /// The number of the connection that there is now, or of the first one. After a loss it is not known.
    fn session(data: &DataClient) -> Option<u64> {
        match *data.nats().state.borrow() {
            ConnectionState::Connected { session } => Some(session),
            // Sessions are counted from 1.
            ConnectionState::Connecting => Some(1),
            ConnectionState::Lost | ConnectionState::Closed => None,
        }
    }

    fn check(client: &Client, message: &Message) -> Result<(), BrokerError> {
        let (bytes, bytes_max) = (message.body.len(), client.max_payload());
        if bytes > bytes_max { Err(BrokerError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
    }

    /// What the server handles comes in order: whoever hears himself knows that it knows what was said before.
    async fn echo(&self) -> Result<(), BrokerError> {
        let failed = |error: &dyn std::error::Error| BrokerError::Other(error.to_string());
        let client = self.data.client();
        let inbox = client.new_inbox();
        let mut heard = client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
        client.publish(inbox.clone(), bytes::Bytes::new()).await.map_err(|error| failed(&error))?;
        if timeout(ECHO_TIMEOUT, heard.next()).await.is_err() {
            // Not everybody may talk to himself.
            self.data.nats().barrier(&inbox).await;
        }
        Ok(())
    }
}

impl Recent {
    fn count_one(&mut self, now: Instant) {
        let stretch = now.duration_since(self.since);
        if stretch > STRETCH {
            let before = if stretch <= STRETCH * 2 { self.count } else { 0 };
            *self = Self { since: now, count: 0, before, last: self.last };
        }
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }

    fn is_quiet(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() > QUIET)
    }
}

impl Subscription {
    async fn next(mut self) -> Option<(Message, Self)> {
        loop {
            let message = if self.leaving.is_some() {
                self.next_of_last().await?
            } else {
                let leave = self.leave.clone();
                tokio::select! {
                    // What is there goes first: a leave is not urgent.
                    biased;
                    message = self.subscriber.next() => {
                        self.received = self.received.saturating_add(1);
                        message?
                    }
                    () = leave.wait() => {
                        self.begin_leaving().await;
                        continue;
                    }
                }
            };
            return Some((self.count(message), self));
        }
    }

    fn count(&mut self, message: async_nats::Message) -> Message {
        self.recent.count_one(Instant::now());
        if self.session.is_none() {
            // Made while there was no connection: the first message shows in which one the server counts.
            self.session = NatsBroker::session(&self.data);
        }
        let async_nats::Message { subject, reply, payload, .. } = message;
        Message { subject: subject.into_string(), body: payload, reply_to: reply.map(async_nats::Subject::into_string) }
    }

    /// Everything that the client has delivered.
    fn read_ready(&mut self) -> VecDeque<async_nats::Message> {
        let mut ready = VecDeque::new();
        while let Some(Some(message)) = tokio::task::unconstrained(self.subscriber.next()).now_or_never() {
            self.received = self.received.saturating_add(1);
            ready.push_back(message);
        }
        ready
    }

    async fn begin_leaving(&mut self) {
        let buffered = self.read_ready();
        let is_quiet = buffered.is_empty() && self.recent.is_quiet();
        let Recent { count, before, .. } = self.recent;
        let lately = count.max(before).saturating_add(u64::try_from(buffered.len()).unwrap_or(u64::MAX));
        let last_messages = lately.saturating_mul(2).saturating_add(LAST_MESSAGES);
        self.leaving = Some(Leaving { buffered, until: None, is_over: false });
        self.end_after(if is_quiet { 0 } else { last_messages }).await;
    }

    /// Ends after so many messages more; at once if none.
    async fn end_after(&mut self, last_messages: u64) {
        // The server would count from the reconnect, and go on sending what the client has forgotten.
        let last_messages = if self.session == NatsBroker::session(&self.data) { last_messages } else { 0 };
        let told = match last_messages {
            _ if !self.data.nats().is_connected() => false,
            0 => self.subscriber.drain().await.is_ok(),
            more => self.subscriber.unsubscribe_after(self.received.saturating_add(more)).await.is_ok(),
        };
        if let Some(leaving) = &mut self.leaving {
            leaving.until = (last_messages == 0).then(|| Instant::now() + STRETCH);
            // Without a connection nothing is on its way, and the next one must not bring the subscription back.
            leaving.is_over |= !told;
        }
    }

    async fn next_of_last(&mut self) -> Option<async_nats::Message> {
        loop {
            let leaving = self.leaving.as_mut()?;
            if let Some(message) = leaving.buffered.pop_front() {
                return Some(message);
            }
            if leaving.is_over {
                return None;
            }
            let until = leaving.until;
            match timeout_at(until.unwrap_or_else(|| Instant::now() + STRETCH), self.subscriber.next()).await {
                Ok(Some(message)) => {
                    self.received = self.received.saturating_add(1);
                    return Some(message);
                }
                Ok(None) => return None,
                Err(_elapsed) if until.is_some() => return None,
                Err(_elapsed) if self.recent.is_quiet() => self.end_after(0).await,
                Err(_elapsed) => {}
            }
        }
    }
}

impl Broker for NatsBroker {
    fn subscribe<'a>(
        &'a self,
        _who: &'a WorkloadId,
        wiring: &'a Wiring,
        leave: &'a Shutdown,
    ) -> Answer<'a, Vec<Incoming>> {
        async move {
            let client = self.data.client();
            // Looked at before: should the connection change meanwhile, the count is not relied on.
            let session = Self::session(&self.data);
            let mut incoming: Vec<Incoming> = Vec::with_capacity(wiring.subjects.len());
            for subject in &wiring.subjects {
                let subscriber = match &wiring.group {
                    Some(group) => client.queue_subscribe(subject.clone(), group.clone()).await,
                    None => client.subscribe(subject.clone()).await,
                };
                let subscriber = subscriber.map_err(|error| BrokerError::Other(Chain(&error).to_string()))?;
                let (data, leave) = (self.data.clone(), leave.clone());
                let recent = Recent { since: Instant::now(), count: 0, before: 0, last: None };
                let subscription =
                    Subscription { subscriber, data, leave, received: 0, session, recent, leaving: None };
                let counted = stream::unfold(subscription, Subscription::next);
                incoming.push(counted.boxed());
            }
            Ok(incoming)
        }
        .boxed()
    }

    fn confirm<'a>(&'a self, wiring: &'a Wiring) -> Answer<'a, ()> {
        async move {
            if wiring.subjects.is_empty() {
                return Ok(());
            }
            let mut state = self.data.nats().state.clone();
            let connected = state.wait_for(|state| matches!(state, ConnectionState::Connected { .. })).await;
            drop(connected.map_err(|_closed| BrokerError::Unavailable)?);
            self.echo().await?;
            sleep(REFUSAL_DELAY).await;
            match self.data.nats().refused_of(&wiring.subjects).first() {
                None => Ok(()),
                Some(subject) => {
                    Err(BrokerError::Other(format!("the NATS server refuses the subscription '{subject}'")))
                }
            }
        }
        .boxed()
    }

    fn publish<'a>(&'a self, _who: &'a WorkloadId, message: Message) -> Answer<'a, ()> {
        async move {
            let client = self.client()?;
            Self::check(client, &message)?;
            let Message { subject, body, reply_to } = message;
            let sent = match reply_to {
                None => client.publish(subject, body).await,
                Some(reply_to) => client.publish_with_reply(subject, reply_to, body).await,
            };
            sent.map_err(|error| BrokerError::Other(Chain(&error).to_string()))
        }
        .boxed()
    }

    fn request<'a>(&'a self, _who: &'a WorkloadId, message: Message, limit: Duration) -> Answer<'a, Message> {
        async move {
            let client = self.client()?;
            Self::check(client, &message)?;
            let request = Request::new().payload(message.body).timeout(Some(limit));
            let replied = tokio::select! {
                replied = client.send_request(message.subject, request) => replied,
                () = self.data.cut() => return Err(BrokerError::Unavailable),
            };
            let reply = replied.map_err(|error| match error.kind() {
                RequestErrorKind::TimedOut => BrokerError::Timeout(limit),
                RequestErrorKind::NoResponders => BrokerError::Request("no responders".to_owned()),
                _ => BrokerError::Request(Chain(&error).to_string()),
            })?;
            let async_nats::Message { subject, reply, payload, .. } = reply;
            let reply_to = reply.map(async_nats::Subject::into_string);
            Ok(Message { subject: subject.into_string(), body: payload, reply_to })
        }
        .boxed()
    }

    fn delivers_all(&self) -> bool {
        false
    }
}
