//! What carries messages: the trait that every backend of `wasmcloud:messaging` implements.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::subject;
use crate::nats::DataClientId;
use crate::task::Shutdown;
use crate::types::WorkloadId;

/// One message, as it was received or is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) body: Bytes,
    pub(super) reply_to: Option<String>,
}

/// What one component subscribes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wiring {
    /// Patterns, each a subscription of its own.
    pub(super) subjects: Vec<String>,
    /// Who shares each message; `None`: nobody.
    pub(super) group: Option<String>,
}

impl Wiring {
    /// Whether messages of this subject come through it.
    pub(super) fn covers(&self, subject: &str) -> bool {
        self.subjects.iter().any(|pattern| subject::overlap(pattern, subject))
    }
}

/// Messages of one subscription, in order. It ends when the broker has confirmed that nothing more comes, after it was
/// told to leave; or when the broker is gone for good.
pub(super) type Incoming = BoxStream<'static, Message>;

/// An operation under way. Dropping it gives it up; whether it took effect is then unknown.
pub(super) type Answer<'a, T> = BoxFuture<'a, Result<T, BrokerError>>;

/// Carries messages. Contains no wasmtime. Subjects are checked before they come here.
pub(super) trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Subscribes for a workload; the server may not know of it yet. When `leave` is triggered, the subscriptions end
    /// without losing what is on its way. Dropping a stream unsubscribes at once.
    fn subscribe<'a>(
        &'a self,
        who: &'a WorkloadId,
        wiring: &'a Wiring,
        leave: &'a Shutdown,
    ) -> Answer<'a, Vec<Incoming>>;

    /// Yields when the server knows of all subscriptions made before; an error if it refuses one of `wiring`.
    fn confirm<'a>(&'a self, wiring: &'a Wiring) -> Answer<'a, ()>;

    /// Sends a message and does not wait for anyone to get it.
    fn publish<'a>(&'a self, who: &'a WorkloadId, message: Message) -> Answer<'a, ()>;

    /// Sends a message and waits for one reply.
    fn request<'a>(&'a self, who: &'a WorkloadId, message: Message, limit: Duration) -> Answer<'a, Message>;

    /// Whether components without subscriptions get every message of their workload.
    fn delivers_all(&self) -> bool;
}

/// A broker, told from those before and after it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) broker: Arc<dyn Broker>,
    /// Equal for brokers that are one: the same connection, or the same memory.
    id: LinkId,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum LinkId {
    Memory,
    Nats(DataClientId),
}

impl Link {
    pub(super) fn new(id: LinkId, broker: Arc<dyn Broker>) -> Self {
        Self { broker, id }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Why an operation failed; guests see it as the interface's own error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BrokerError {
    /// It is no subject.
    #[error("invalid subject {0:?}: it must not be empty, hold blanks or be a wildcard")]
    SubjectInvalid(String),
    /// The host keeps guests from it.
    #[error("access denied: subject {0:?} is reserved by the host")]
    AccessDenied(String),
    /// Nobody replied.
    #[error("request timed out after {}ms", .0.as_millis())]
    Timeout(Duration),
    /// There is no connection.
    #[error("the message broker is not connected")]
    Unavailable,
    /// More than the server takes.
    #[error("a message of {bytes} bytes is larger than {bytes_max} bytes")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What it may have.
        bytes_max: usize,
    },
    /// The queue in memory is full.
    #[error("message queue full")]
    QueueFull,
    /// A request that nobody is there to answer, or could not be sent.
    #[error("failed to send request: {0}")]
    Request(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}
