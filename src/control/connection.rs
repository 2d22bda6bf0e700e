//! The control task: subscribes, hands each message to the commands, moves to another connection, leaves in order.
//!
//! While a connection is being replaced, two of them are served. What both deliver is handled once: see
//! [`Handover`]. One of them is *live*: heartbeats leave on it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_nats::{Message, SubscribeError};
use futures::future::{BoxFuture, FutureExt as _, select_all};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::control::command::Commands;
use crate::control::heartbeat::Heartbeat;
use crate::control::link::{self, IN_ORDER, Link, LinkId, NewLink, Replaced, Topic};
use crate::control::question::Questions;
use crate::control::{ControlState, Core, Phase};
use crate::nats::handover::Handover;
use crate::nats::{self, NatsError};
use crate::task;

/// How long leaving all subscriptions may hold up the end: a connection that is down has nothing to leave.
const EMPTY_TIMEOUT: Duration = Duration::from_millis(500);

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

/// All that the control task owns.
struct Session {
    core: Arc<Core>,
    links: Links,
    /// The one of `links` that heartbeats leave on.
    live: LinkId,
    handover: Handover<LinkId>,
    commands: Commands,
    questions: Option<Questions>,
    /// Gone while draining: no more heartbeats.
    heartbeat: Option<AbortOnDropHandle<Option<()>>>,
    /// Of connections that were left.
    farewells: FuturesUnordered<JoinHandle<Option<()>>>,
    is_draining: bool,
}

/// The connections; more than one while one replaces another.
struct Links(Vec<Link>);

/// A message, or the end of a subscription.
struct Arrival {
    link: LinkId,
    topic: Topic,
    message: Option<Message>,
}

/// Serves until it is told to close. An error, or a panic, means that it has to begin anew.
///
/// Reads: phase, settings and the wanted connection (whose senders `core` keeps), new connections that `core` hands
/// over, and the subscriptions.
pub(super) async fn serve(core: Arc<Core>) -> Result<(), ConnectionError> {
    let (mut phase, mut settings, mut live) =
        (core.phase.subscribe(), core.settings.subscribe(), core.live.subscribe());
    let mut session = Session::open(Arc::clone(&core)).await?;
    phase.mark_changed();
    loop {
        let (abandoned, late) = (session.links.abandoned(), session.links.late());
        // Phase before messages: a start that comes with the drain is refused. All arms may be dropped: `changed`,
        // `notified` and a subscription's `next` lose nothing, `step` says so, the rest only waits.
        tokio::select! {
            biased;
            Ok(()) = phase.changed() => {
                let now = *phase.borrow_and_update();
                match now {
                    Phase::Serving => {}
                    Phase::Draining => session.drain().await,
                    Phase::Closing(deadline) => {
                        session.close(deadline).await;
                        return Ok(());
                    }
                }
            }
            () = core.joined.notified() => session.admit().await,
            Ok(()) = live.changed() => {
                let wanted = *live.borrow_and_update();
                session.switch(wanted).await?;
            }
            Ok(()) = settings.changed() => session.commands.apply(&settings.borrow_and_update()),
            unwanted = abandoned => session.leave(unwanted, None).await,
            overdue = late => session.part(overdue),
            // Before what arrives: there is no more of it than there were starts, so it cannot keep the rest waiting.
            () = session.commands.step() => {}
            Some(_ended) = session.farewells.next(), if !session.farewells.is_empty() => {}
            arrival = session.links.next() => session.take(arrival).await?,
        }
    }
}

impl Session {
    async fn open(core: Arc<Core>) -> Result<Self, ConnectionError> {
        let (live, settings) = (*core.live.borrow(), core.settings.borrow().clone());
        let commands = Commands::new(Arc::clone(&core.host), &settings);
        let is_draining = *core.phase.borrow() != Phase::Serving;
        let questions = core.config.as_ref().map(|port| Questions::new(Arc::clone(port)));
        let mut session = Self {
            core,
            links: Links(Vec::new()),
            live,
            handover: Handover::default(),
            commands,
            questions,
            heartbeat: None,
            farewells: FuturesUnordered::new(),
            is_draining,
        };
        session.admit().await;
        session.make_live(live).await?;
        Ok(session)
    }

    /// What is subscribed to on each connection.
    fn topics(&self) -> Vec<Topic> {
        let is_wanted = |topic: &Topic| match topic {
            Topic::Config(_) => self.questions.is_some(),
            Topic::Heartbeat | Topic::Start | Topic::Status | Topic::Stop => {
                !(self.is_draining && topic.is_for_placing())
            }
        };
        IN_ORDER.into_iter().filter(is_wanted).collect()
    }

    /// Subscribes on new connections. What they deliver is handled from now on, live or not: a change that is
    /// abandoned loses nothing. What the others deliver from now on is counted, so that it is handled once.
    async fn admit(&mut self) {
        let topics = self.topics();
        for mut new in self.core.take_joining() {
            let attached = new.attached.take();
            let opened = Link::open(new, &self.core.host_id, &topics).await;
            let told = opened.map(|link| self.links.0.push(link));
            if let Some(attached) = attached {
                let _nobody_waits = attached.send(told);
            }
        }
    }

    /// Heartbeats leave on `wanted` from now on. Without such a connection, because this task began anew, one is made.
    async fn make_live(&mut self, wanted: LinkId) -> Result<Option<Replaced>, ConnectionError> {
        if self.links.get(wanted).is_none() {
            let settings = self.core.settings.borrow().connection.clone();
            let purpose = link::purpose(&self.core.host_id, &self.core.tally);
            let nats = nats::connect(&settings, purpose).await.map_err(ConnectionError::Connect)?;
            let new = NewLink { id: wanted, nats, abandoned: None, replaced: None, attached: None };
            let link = Link::open(new, &self.core.host_id, &self.topics()).await;
            self.links.0.push(link.map_err(ConnectionError::Subscribe)?);
        }
        self.live = wanted;
        let Some(link) = self.links.get(wanted) else { return Ok(None) };
        link.abandoned = None;
        let (nats, replaced) = (link.nats.clone(), link.replaced.take());
        if !self.is_draining {
            // The old one ends first: it is dropped before another await.
            self.heartbeat = Some(Heartbeat::spawn(Arc::clone(&self.core), nats));
        }
        Ok(replaced)
    }

    /// Another connection was committed.
    async fn switch(&mut self, wanted: LinkId) -> Result<(), ConnectionError> {
        let old = self.live;
        if old != wanted {
            let replaced = self.make_live(wanted).await?;
            info!("switched the control plane to its new connection");
            self.leave(old, replaced).await;
        }
        Ok(())
    }

    /// Takes no more from `link`, but for what is under way.
    async fn leave(&mut self, id: LinkId, replaced: Option<Replaced>) {
        let Some(link) = self.links.get(id) else { return };
        link.abandoned = None;
        let way = link.way.clone();
        self.commands.leave(&way);
        let Some(link) = self.links.get(id) else { return };
        link.leave(replaced, &self.core.host_id).await;
        if link.is_silent() {
            self.part(id);
        }
    }

    /// Nothing more comes from `link`, or is waited for.
    fn part(&mut self, id: LinkId) {
        if let Some(at) = self.links.0.iter().position(|link| link.id == id) {
            let farewell = self.links.0.remove(at).farewell();
            self.farewells.push(task::spawn("farewell", farewell));
        }
    }

    async fn take(&mut self, arrival: Arrival) -> Result<(), ConnectionError> {
        let Arrival { link: id, topic, message } = arrival;
        let Some(message) = message else { return self.ended(id, topic).await };
        if !self.is_mine(id, &message) {
            return Ok(());
        }
        let Some(way) = self.links.get(id).map(|link| link.way.clone()) else { return Ok(()) };
        let request = link::request(message, way);
        match topic {
            Topic::Heartbeat => self.commands.heartbeat(request),
            Topic::Start => self.commands.start(request),
            Topic::Status => self.commands.status(request),
            Topic::Stop => self.commands.stop(request),
            Topic::Config(question) => {
                if let Some(questions) = &self.questions {
                    questions.ask(question, request);
                }
            }
        }
        Ok(())
    }

    /// Whether a message is to be handled, or is the copy of one that was.
    fn is_mine(&mut self, id: LinkId, message: &Message) -> bool {
        let now = Instant::now().into_std();
        if self.links.0.len() > 1 {
            self.handover.during(id, link::fingerprint(message), now)
        } else {
            self.handover.is_over(now) || self.handover.after(id, link::fingerprint(message), now)
        }
    }

    async fn ended(&mut self, id: LinkId, topic: Topic) -> Result<(), ConnectionError> {
        let Some(link) = self.links.get(id) else { return Ok(()) };
        if link.is_leaving() {
            if link.is_silent() {
                self.part(id);
            }
        } else if self.is_draining && topic.is_for_placing() {
            if link.has_left_placing() {
                link.open_gate();
            }
        } else if id == self.live {
            return Err(ConnectionError::Ended(topic.name()));
        } else {
            self.leave(id, None).await;
        }
        Ok(())
    }

    /// Stops heartbeats, leaves two subscriptions and refuses starts. What had already arrived on them is still read.
    async fn drain(&mut self) {
        self.is_draining = true;
        self.heartbeat = None;
        self.commands.drain();
        for link in self.links.0.iter_mut().filter(|link| !link.is_leaving()) {
            link.leave_placing().await;
        }
        self.core.set_state(ControlState::Draining);
    }

    /// Leaves all subscriptions, and reads what had already arrived on them.
    async fn empty(&mut self) {
        let ids: Vec<LinkId> = self.links.0.iter().filter(|link| !link.is_leaving()).map(|link| link.id).collect();
        for id in ids {
            self.leave(id, None).await;
        }
        while !self.links.0.is_empty() {
            let arrival = self.links.next().await;
            // The end of a subscription is no error any more.
            let _never = self.take(arrival).await;
        }
    }

    /// Answers what is open, flushes and ends the clients, until `deadline` at the latest.
    async fn close(mut self, deadline: Instant) {
        self.is_draining = true;
        self.heartbeat = None;
        self.commands.drain();
        let leave = async {
            if timeout(EMPTY_TIMEOUT, self.empty()).await.is_err() {
                warn!("left the control plane without a word: the connection to NATS takes nothing");
            }
            self.links.0.iter().for_each(Link::open_gate);
            self.commands.finish().await;
            if let Some(questions) = &self.questions {
                questions.finish().await;
            }
            for link in &self.links.0 {
                link::end(&link.nats).await;
            }
            while self.farewells.next().await.is_some() {}
        };
        if timeout_at(deadline, leave).await.is_err() {
            warn!("closed the control plane before its last replies were sent");
        }
    }
}

impl Links {
    fn get(&mut self, id: LinkId) -> Option<&mut Link> {
        self.0.iter_mut().find(|link| link.id == id)
    }

    /// The next message of any connection.
    async fn next(&mut self) -> Arrival {
        poll_fn(|cx| {
            for topic in IN_ORDER {
                for link in &mut self.0 {
                    if let Poll::Ready(message) = link.poll(topic, cx) {
                        return Poll::Ready(Arrival { link: link.id, topic, message });
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for a candidate that is not wanted after all.
    fn abandoned(&self) -> BoxFuture<'static, LinkId> {
        let candidates = self.0.iter().filter_map(|link| {
            let (id, abandoned) = (link.id, link.abandoned.clone()?);
            Some(Box::pin(async move {
                abandoned.wait().await;
                id
            }))
        });
        let candidates: Vec<_> = candidates.collect();
        if candidates.is_empty() {
            return std::future::pending().boxed();
        }
        select_all(candidates).map(|(id, _index, _rest)| id).boxed()
    }

    /// Waits for a leaving connection that took too long.
    fn late(&self) -> BoxFuture<'static, LinkId> {
        let first = self.0.iter().filter_map(|link| Some((link.leaves_by()?, link.id))).min();
        async move {
            let Some((until, id)) = first else { return std::future::pending().await };
            sleep_until(until).await;
            id
        }
        .boxed()
    }
}
