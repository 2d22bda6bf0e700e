//! `[plugins.wasmcloud-messaging]`: what carries messages, and how many at once.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::path::index;
use crate::config::resolve::Resolver;

/// `[plugins.wasmcloud-messaging]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagingPlugin {
    /// What carries the messages.
    pub backend: MessagingBackend,
    /// Patterns of subjects that components can neither publish nor subscribe to.
    pub deny_subjects: Vec<String>,
    /// Who shares messages.
    pub queue_group: QueueGroup,
    /// Messages in flight, host-wide; `None`: derived from the number of instances.
    pub max_in_flight: Option<NonZeroU32>,
    /// Messages in flight per component; `None`: a quarter of those host-wide.
    pub max_in_flight_per_component: Option<NonZeroU32>,
}

/// What carries messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessagingBackend {
    /// The host's memory, each workload for itself.
    Memory,
    /// The connection `[nats.data]`.
    Nats,
}

/// Who shares messages if a workload does not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueGroup {
    /// The replicas of a deployment.
    Deployment,
    /// Only workloads of the same name.
    Workload,
}

impl Default for MessagingPlugin {
    fn default() -> Self {
        Self {
            backend: MessagingBackend::Memory,
            deny_subjects: ["runtime.>", "$SYS.>", "$JS.>", "_INBOX.>"].map(str::to_owned).to_vec(),
            queue_group: QueueGroup::Deployment,
            max_in_flight: None,
            max_in_flight_per_component: None,
        }
    }
}

/// `[plugins.wasmcloud-messaging]`: messages by subject.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileMessaging {
    /// Whether the plugin is on.
    pub(super) enabled: bool,
    /// What carries the messages.
    pub(super) backend: FileMessagingBackend,
    /// Subjects that components can neither publish nor subscribe to.
    pub(super) deny_subjects: Vec<String>,
    /// Who shares messages: the replicas of a deployment, or nobody.
    pub(super) queue_group: FileQueueGroup,
    /// Messages in flight, host-wide. 0: derived from engine.max_instances.
    pub(super) max_in_flight: u32,
    /// Messages in flight per component. 0: a quarter of the above.
    pub(super) max_in_flight_per_component: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileMessagingBackend {
    Memory,
    Nats,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileQueueGroup {
    Deployment,
    Workload,
}

impl Default for FileMessaging {
    fn default() -> Self {
        Self {
            enabled: true,
            backend: FileMessagingBackend::Memory,
            deny_subjects: MessagingPlugin::default().deny_subjects,
            queue_group: FileQueueGroup::Deployment,
            max_in_flight: 0,
            max_in_flight_per_component: 0,
        }
    }
}

impl FileMessaging {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Option<MessagingPlugin> {
        let Self { enabled, backend, deny_subjects, queue_group, max_in_flight, max_in_flight_per_component } = self;
        for (i, pattern) in deny_subjects.iter().enumerate() {
            if pattern.is_empty() || pattern.contains(char::is_whitespace) || pattern.split('.').any(str::is_empty) {
                let path = index("plugins.wasmcloud-messaging.deny_subjects", i);
                cx.error(&path, "expected a NATS subject, with `*` for a token or `>` for the rest");
            }
        }
        let backend = match backend {
            FileMessagingBackend::Memory => MessagingBackend::Memory,
            FileMessagingBackend::Nats => MessagingBackend::Nats,
        };
        let queue_group = match queue_group {
            FileQueueGroup::Deployment => QueueGroup::Deployment,
            FileQueueGroup::Workload => QueueGroup::Workload,
        };
        let max_in_flight = NonZeroU32::new(max_in_flight);
        let max_in_flight_per_component = NonZeroU32::new(max_in_flight_per_component);
        let resolved =
            MessagingPlugin { backend, deny_subjects, queue_group, max_in_flight, max_in_flight_per_component };
        enabled.then_some(resolved)
    }
}
