//! Calls from a plugin into guests: what the room above implements for it, and what it gives that room to hold.
//!
//! ```text
//! Attach --> Attachment (subscribed, nothing delivered) -- open(target) --> delivers -- close --> what came is handled
//! ```
//!
//! A plugin names no workload and holds no instance: it delivers to a [`GuestTarget`], which finds an instance, keeps
//! within the limits of the component, and may be replaced by another one between two calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::plugin::{GuestInstance, GuestPre, GuestStore};
use crate::types::{ComponentName, LocalResources, WorkloadId};
use crate::wit::{ImportName, WitInterface};

/// Calls one component, on whatever instances it has. Cheap to call, never blocks.
pub(crate) trait GuestTarget: fmt::Debug + Send + Sync + 'static {
    /// Runs `job` on an instance, as a request is served: with a place among the host's instances, within the time of a
    /// call. Dropping the future ends the call.
    fn call(self: Arc<Self>, job: Box<dyn GuestJob>) -> BoxFuture<'static, Result<GuestAnswer, GuestCallError>>;
}

/// What is done with an instance, once.
pub(crate) trait GuestJob: Send + 'static {
    /// Calls the guest. An error is a trap, or an instance that is not what was promised.
    fn run<'a>(
        self: Box<Self>,
        store: &'a mut GuestStore,
        instance: &'a GuestInstance,
    ) -> BoxFuture<'a, anyhow::Result<GuestAnswer>>;
}

/// What the guest said.
pub(crate) type GuestAnswer = Result<(), String>;

/// Why the guest said nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestCallError {
    /// It trapped, or could not be instantiated.
    #[error("the guest failed")]
    Guest(#[source] anyhow::Error),
    /// The call's time was over.
    #[error("the call took longer than {0:?}")]
    Deadline(Duration),
    /// No instance became free in time, or too many wait for one.
    #[error("no instance is free")]
    Busy,
    /// The workload is being stopped.
    #[error("the workload is not serving")]
    Unavailable,
}

/// A component that exports what a plugin calls.
#[derive(Clone)]
pub(crate) struct Attach {
    pub(crate) workload_id: WorkloadId,
    pub(crate) workload_name: Arc<str>,
    pub(crate) workload_namespace: Arc<str>,
    /// Whether other workloads are replicas of the same deployment, and their names differ in the last two parts.
    pub(crate) is_replica: bool,
    pub(crate) component: ComponentName,
    /// What it exports of the plugin's world, in whatever versions.
    pub(crate) exports: Vec<ImportName>,
    /// The workload's entries that ask for one of them.
    pub(crate) entries: Vec<WitInterface>,
    pub(crate) local_resources: Arc<LocalResources>,
    /// How many instances the host has at once, if they come from a pool.
    pub(crate) instances_max: Option<usize>,
    /// To look exports up, so that a wrong shape is found before the first call.
    pub(crate) pre: GuestPre,
}

impl fmt::Debug for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attach")
            .field("workload_id", &self.workload_id)
            .field("component", &self.component)
            .field("exports", &self.exports)
            .finish_non_exhaustive()
    }
}

/// What delivers to one component. Dropped without [`close`](Self::close), it ends at once.
pub(crate) trait Attachment: fmt::Debug + Send + Sync + 'static {
    /// From now on deliveries go to `target`; until the first call they wait.
    fn open(&self, target: Arc<dyn GuestTarget>);

    /// What was taken on and is not handled yet.
    fn in_flight(&self) -> usize;

    /// Takes on nothing more, and lets what was taken on end, at the longest to `deadline`; says how much of it was
    /// given up. Harmless when repeated.
    fn close(&self, deadline: Instant) -> BoxFuture<'_, usize>;
}

/// An attachment, once whoever sends what it delivers has confirmed it.
pub(crate) type Attaching = BoxFuture<'static, Result<Arc<dyn Attachment>, AttachError>>;

/// Why a component cannot be called as its workload asks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The workload's own settings.
    #[error("{0}")]
    Settings(String),
    /// The export has another shape than its name promises.
    #[error("the exported {export} has another shape than its version says")]
    Shape {
        /// Which one.
        export: &'static str,
        /// In which way.
        source: anyhow::Error,
    },
    /// Whoever would send what is delivered cannot be had, now.
    #[error("{0}")]
    Unreachable(String),
    /// This plugin calls no guests: a bug.
    #[error("plugin '{0}' calls no guests")]
    NoCalls(&'static str),
}
