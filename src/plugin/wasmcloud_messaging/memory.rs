//! Messages in the host's memory: each workload has a bus of its own, which no other workload reaches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, future, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::broker::{Answer, Broker, BrokerError, Incoming, Message, Wiring};
use super::{Known, subject};
use crate::task::Shutdown;
use crate::types::WorkloadId;

/// Messages of one workload that nobody has taken yet; more are refused.
const QUEUED_MAX: usize = 10_000;

/// Requests of one workload that wait for a reply; more are refused.
const REQUESTS_MAX: usize = 10_000;

/// Where replies to requests go. Guests may only send there what answers a message they got.
const INBOX: &str = "_INBOX.memory";

/// The backend `memory`.
#[derive(Debug, Default)]
pub(super) struct MemoryBroker {
    buses: Mutex<Known<WorkloadId, Bus>>,
}

/// Lives as long as a binding of the workload, or a subscription.
#[derive(Debug, Default)]
pub(super) struct Bus {
    queued: AtomicUsize,
    last_number: AtomicU64,
    parties: Mutex<Parties>,
}

#[derive(Debug, Default)]
struct Parties {
    subscribers: Vec<Subscriber>,
    /// By the subject that their reply goes to.
    requests: HashMap<String, oneshot::Sender<Message>>,
}

#[derive(Debug)]
struct Subscriber {
    number: u64,
    pattern: String,
    group: Option<String>,
    /// Takes as many as the bus lets wait.
    queue: mpsc::Sender<Queued>,
}

/// A message that nobody has taken yet.
#[derive(Debug)]
struct Queued(Message, Arc<Bus>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.1.queued.fetch_sub(1, Ordering::SeqCst);
    }
}

impl MemoryBroker {
    pub(super) fn bus(&self, who: &WorkloadId) -> Arc<Bus> {
        let mut buses = self.buses.lock().unwrap_or_else(PoisonError::into_inner);
        buses.get_or_make(who.clone(), Bus::default)
    }
}

impl Bus {
    fn parties(&self) -> MutexGuard<'_, Parties> {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed)
    }

    /// To whoever waits for this reply, and to every subscriber but all of a group except one. How many that were.
    fn send(self: &Arc<Self>, message: &Message) -> Result<usize, BrokerError> {
        let mut parties = self.parties();
        if let Some(request) = parties.requests.remove(&message.subject) {
            // Nobody waits any more: its time was over in this moment.
            let _too_late = request.send(message.clone());
            return Ok(1);
        }
        let turn = usize::try_from(self.number()).unwrap_or(0);
        let matching = |pattern: &str| subject::overlap(pattern, &message.subject);
        let mut chosen: Vec<&Subscriber> = Vec::new();
        let mut groups: HashMap<(&str, &str), Vec<&Subscriber>> = HashMap::new();
        for subscriber in parties.subscribers.iter().filter(|subscriber| matching(&subscriber.pattern)) {
            match &subscriber.group {
                None => chosen.push(subscriber),
                Some(group) => groups.entry((&subscriber.pattern, group)).or_default().push(subscriber),
            }
        }
        chosen.extend(groups.values().filter_map(|members| members.get(turn.checked_rem(members.len())?).copied()));
        let has_room = |queued: usize| queued.checked_add(chosen.len()).filter(|queued| *queued <= QUEUED_MAX);
        let counted = self.queued.try_update(Ordering::SeqCst, Ordering::SeqCst, has_room);
        counted.map_err(|_full| BrokerError::QueueFull)?;
        for subscriber in &chosen {
            // A subscriber that is just leaving drops it, which counts it out.
            let _leaving = subscriber.queue.try_send(Queued(message.clone(), Arc::clone(self)));
        }
        Ok(chosen.len())
    }
}

/// Ends a subscription when it is dropped.
struct Membership {
    bus: Arc<Bus>,
    number: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.bus.parties().subscribers.retain(|subscriber| subscriber.number != self.number);
    }
}

/// Takes a request out that nobody waits for any more.
struct Pending<'a> {
    bus: &'a Bus,
    reply_to: String,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.bus.parties().requests.remove(&self.reply_to);
    }
}

impl Broker for MemoryBroker {
    fn subscribe<'a>(
        &'a self,
        who: &'a WorkloadId,
        wiring: &'a Wiring,
        leave: &'a Shutdown,
    ) -> Answer<'a, Vec<Incoming>> {
        let bus = self.bus(who);
        let subscribe = |pattern: &String| {
            let (queue, queued) = mpsc::channel(QUEUED_MAX);
            let number = bus.number();
            let (pattern, group) = (pattern.clone(), wiring.group.clone());
            bus.parties().subscribers.push(Subscriber { number, pattern, group, queue });
            let mut membership = Some(Membership { bus: Arc::clone(&bus), number });
            let leave = leave.clone();
            // Without its membership the bus lets go of the sender, and the queue ends behind what is in it.
            let left = async move { leave.wait().await }.into_stream().map(move |()| {
                drop(membership.take());
                None
            });
            let messages = stream::unfold(queued, |mut queued| async {
                let next: Queued = queued.recv().await?;
                Some((Some(next.0.clone()), queued))
            });
            stream::select(left, messages).filter_map(future::ready).boxed()
        };
        future::ready(Ok(wiring.subjects.iter().map(subscribe).collect())).boxed()
    }

    fn confirm<'a>(&'a self, _wiring: &'a Wiring) -> Answer<'a, ()> {
        future::ready(Ok(())).boxed()
    }

    fn publish<'a>(&'a self, who: &'a WorkloadId, message: Message) -> Answer<'a, ()> {
        future::ready(self.bus(who).send(&message).map(|_receivers| ())).boxed()
    }

    fn request<'a>(&'a self, who: &'a WorkloadId, message: Message, limit: Duration) -> Answer<'a, Message> {
        let bus = self.bus(who);
        async move {
            let reply_to = format!("{INBOX}.{}", bus.number());
            let (sender, reply) = oneshot::channel();
            {
                let mut parties = bus.parties();
                if parties.requests.len() >= REQUESTS_MAX {
                    return Err(BrokerError::QueueFull);
                }
                parties.requests.insert(reply_to.clone(), sender);
            }
            let pending = Pending { bus: &bus, reply_to: reply_to.clone() };
            let receivers = bus.send(&Message { reply_to: Some(reply_to), ..message })?;
            if receivers == 0 {
                return Err(BrokerError::Request("no responders".to_owned()));
            }
            let reply = timeout(limit, reply).await;
            drop(pending);
            match reply {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(_gone)) => Err(BrokerError::Unavailable),
                Err(_elapsed) => Err(BrokerError::Timeout(limit)),
            }
        }
        .boxed()
    }

    fn delivers_all(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, body: &str) -> Message {
        Message { subject: subject.to_owned(), body: body.to_owned().into(), reply_to: None }
    }

    fn wiring(subject: &str, group: Option<&str>) -> Wiring {
        Wiring { subjects: vec![subject.to_owned()], group: group.map(str::to_owned) }
    }

    async fn subscribe(broker: &MemoryBroker, who: &str, wiring: &Wiring, leave: &Shutdown) -> Incoming {
        broker.subscribe(&WorkloadId::from(who), wiring, leave).await.unwrap().remove(0)
    }

    fn taken(incoming: &mut Incoming) -> Vec<String> {
        let mut taken = Vec::new();
        while let Some(Some(message)) = tokio::task::unconstrained(incoming.next()).now_or_never() {
            taken.push(String::from_utf8(message.body.to_vec()).unwrap());
        }
        taken
    }

    #[tokio::test]
    async fn a_group_shares_messages_and_everyone_else_gets_each() {
        let broker = MemoryBroker::default();
        let (leave, who) = (Shutdown::default(), WorkloadId::from("w"));
        let mut one = subscribe(&broker, "w", &wiring("a.*", Some("g")), &leave).await;
        let mut two = subscribe(&broker, "w", &wiring("a.*", Some("g")), &leave).await;
        let mut all = subscribe(&broker, "w", &wiring("a.>", None), &leave).await;
        let mut other = subscribe(&broker, "other", &wiring(">", None), &leave).await;
        for number in 0..10 {
            broker.publish(&who, message("a.b", &number.to_string())).await.unwrap();
        }
        let (one, two) = (taken(&mut one), taken(&mut two));
        assert_eq!((one.len(), two.len(), taken(&mut all).len()), (5, 5, 10));
        let mut shared = [one, two].concat();
        shared.sort_unstable();
        assert_eq!(shared, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(taken(&mut other).is_empty(), "another workload has another bus");
    }

    #[tokio::test]
    async fn whoever_leaves_gets_what_was_sent_before_and_nothing_after() {
        let broker = MemoryBroker::default();
        let (leave, who) = (Shutdown::default(), WorkloadId::from("w"));
        let bus = broker.bus(&who);
        let incoming = subscribe(&broker, "w", &wiring("a", None), &leave).await;
        broker.publish(&who, message("a", "before")).await.unwrap();
        leave.trigger();
        let all: Vec<Message> = incoming.collect().await;
        assert_eq!(all, [message("a", "before")]);
        broker.publish(&who, message("a", "after")).await.unwrap();
        assert_eq!(bus.queued.load(Ordering::SeqCst), 0);
        assert!(bus.parties().subscribers.is_empty());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_takes_again_when_it_was_read() {
        let broker = MemoryBroker::default();
        let (leave, who) = (Shutdown::default(), WorkloadId::from("w"));
        let mut incoming = subscribe(&broker, "w", &wiring("a", None), &leave).await;
        for _ in 0..QUEUED_MAX {
            broker.publish(&who, message("a", "")).await.unwrap();
        }
        let full = broker.publish(&who, message("a", "")).await.unwrap_err();
        assert_eq!(full.to_string(), "message queue full");
        assert_eq!(taken(&mut incoming).len(), QUEUED_MAX);
        broker.publish(&who, message("a", "")).await.unwrap();
    }

    #[tokio::test]
    async fn a_request_gets_its_reply_or_says_why_not() {
        let broker = MemoryBroker::default();
        let (leave, who) = (Shutdown::default(), WorkloadId::from("w"));
        let nobody = broker.request(&who, message("a", "?"), Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(nobody.to_string(), "failed to send request: no responders");
        let mut incoming = subscribe(&broker, "w", &wiring("a", None), &leave).await;
        let answer = async {
            let asked = incoming.next().await.unwrap();
            broker.publish(&who, message(&asked.reply_to.unwrap(), "!")).await.unwrap();
        };
        let (reply, ()) = tokio::join!(broker.request(&who, message("a", "?"), Duration::from_secs(5)), answer);
        assert_eq!(reply.unwrap().body, "!");
        let silent = broker.request(&who, message("a", "?"), Duration::from_millis(5)).await.unwrap_err();
        assert_eq!(silent.to_string(), "request timed out after 5ms");
        assert!(broker.bus(&who).parties().requests.is_empty());
    }

    #[tokio::test]
    async fn a_bus_lasts_while_somebody_is_on_it_and_no_longer() {
        let broker = MemoryBroker::default();
        let (leave, who) = (Shutdown::default(), WorkloadId::from("w"));
        let older = broker.bus(&who);
        let mut incoming = subscribe(&broker, "w", &wiring("a", None), &leave).await;
        drop(older);
        broker.publish(&who, message("a", "still there")).await.unwrap();
        assert_eq!(taken(&mut incoming), ["still there"]);
        let bus = Arc::downgrade(&broker.bus(&who));
        drop(incoming);
        assert!(bus.upgrade().is_none(), "with the last subscription it is gone");
    }
}
