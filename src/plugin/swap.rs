//! How a plugin that runs gets other settings or another connection: made beside the live part, then in its place.

use std::time::SystemTime;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use tokio::time::Instant;

use crate::nats::{ConnectionState, DataClient};

/// What the host lends to plugins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Means {
    /// The connection of the data plane; there if the settings of some plugin ask for it.
    pub(crate) data: Option<DataClient>,
}

/// Other settings, or another connection, for a plugin that runs. Dropped, nothing happened.
///
/// ```text
/// Builtin::change --> Swap -- ready --> commit --> Retiring -- retire
/// ```
pub(crate) trait Swap: Send + Sync {
    /// Finds out whether it can go live: probes, subscribes, waits for the server. Changes nothing that is visible.
    /// Not asked at a start, where the host does not wait for its servers.
    fn ready(&mut self) -> BoxFuture<'_, Result<(), NotReady>> {
        ready(Ok(())).boxed()
    }

    /// Makes it live: stores of pointers.
    fn commit(self: Box<Self>) -> Option<Box<dyn Retiring>>;
}

/// For a plugin that has nothing to change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unchanged;

impl Swap for Unchanged {
    fn commit(self: Box<Self>) -> Option<Box<dyn Retiring>> {
        None
    }
}

/// What a plugin used until a moment ago. It holds on to its connection for as long as it needs it.
pub(crate) trait Retiring: Send {
    /// Lets what is in flight end, and cuts what is left at `deadline`: how many were cut.
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, usize>;
}

/// Why a plugin cannot begin with what the configuration gives it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct NotReady {
    /// Names step and thing.
    pub(crate) message: String,
    /// Whether it may be by itself another time.
    pub(crate) is_passing: bool,
    /// Why.
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Whether a plugin can do its work now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PluginState {
    /// As far as anyone knows.
    Ready,
    /// Not yet: its server was not reached since it began.
    Connecting,
    /// Not any more, for now.
    Down,
}

/// How a plugin has been doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether it can do its work now.
    pub(crate) state: PluginState,
    /// Since when.
    pub(crate) since: SystemTime,
    /// Why it cannot. Holds no secret.
    pub(crate) error: Option<String>,
}

impl PluginState {
    /// The word for it in texts and labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Connecting => "connecting",
            Self::Down => "down",
        }
    }
}

impl Health {
    /// That of what needs nobody else.
    pub(crate) fn ready(since: SystemTime) -> Self {
        Self { state: PluginState::Ready, since, error: None }
    }

    /// That of what lives by the data plane, used since `since`.
    pub(crate) fn of_data(data: &DataClient, since: SystemTime) -> Self {
        let standing = data.standing();
        let state = match standing.state {
            ConnectionState::Connecting => PluginState::Connecting,
            ConnectionState::Connected { session: _ } => PluginState::Ready,
            ConnectionState::Lost | ConnectionState::Closed => PluginState::Down,
        };
        Self { state, since: standing.since.max(since), error: standing.error }
    }
}
