//! Components that plugins call: found when a workload is assembled, attached before it is published, open while it is
//! live.

use std::sync::{Arc, OnceLock};

use futures::future::{join_all, try_join_all};
use tokio::time::Instant;
use tracing::warn;

use crate::plugin::guest::{Attach, Attachment, GuestTarget};
use crate::plugin::{HostPlugin, PluginSet};
use crate::types::{ComponentSpec, WorkloadId, WorkloadSpec};
use crate::wit::{ImportName, WitInterface};
use crate::workload::Workloads;
use crate::workload::error::StartError;
use crate::workload::route::Route;
use crate::workload::start::{Assembled, Item};

/// Set by the operator on each replica of a deployment.
const REPLICA_ANNOTATION: &str = "runtime.wasmcloud.dev/workload-replica-set-generation";

/// A component that a plugin calls.
#[derive(Debug)]
pub(crate) struct Trigger {
    plugin: Arc<dyn HostPlugin>,
    attach: Attach,
    route: Arc<Route>,
    attachment: OnceLock<Arc<dyn Attachment>>,
}

impl Trigger {
    /// Which plugin calls which exports.
    pub(crate) fn called(&self) -> impl Iterator<Item = (&'static str, &ImportName)> {
        self.attach.exports.iter().map(|export| (self.plugin.id(), export))
    }

    /// Calls of it that are not over.
    pub(crate) fn in_flight(&self) -> usize {
        self.attachment.get().map_or(0, |attachment| attachment.in_flight())
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plugin, &other.plugin) && self.attach.component == other.attach.component
    }
}

impl Workloads {
    /// The triggers of one component: at most one for each plugin.
    pub(super) fn triggers_of(
        &self,
        (id, spec): (&WorkloadId, &WorkloadSpec),
        component: &ComponentSpec,
        exports: &[ImportName],
        item: &Item,
        plugins: &PluginSet,
    ) -> Result<Vec<Trigger>, StartError> {
        let mut triggers: Vec<Trigger> = Vec::new();
        for export in exports {
            let entries = asking_for(export, &spec.host_interfaces);
            let Some(plugin) = plugins.caller_of(export) else {
                match PluginSet::caller_suggested(export) {
                    Some(plugin) if !entries.is_empty() => {
                        let (component, export) = (component.name.clone(), export.to_string());
                        return Err(StartError::NotCalled { component, export, plugin });
                    }
                    Some(_) | None => continue,
                }
            };
            if entries.is_empty() {
                warn!(workload.id = %id, component = %component.name, %export, "exported, but no hostInterfaces entry of the workload asks for it to be called");
                continue;
            }
            if let Some(trigger) = triggers.iter_mut().find(|trigger| Arc::ptr_eq(&trigger.plugin, plugin)) {
                trigger.attach.exports.push(export.clone());
                continue;
            }
            let timeout = self.settings().limits.call_timeout;
            let route = Route::new(self.engine().clone(), Arc::clone(&item.ctx), Arc::clone(&item.linked), timeout);
            let attach = Attach {
                workload_id: id.clone(),
                workload_name: Arc::clone(&item.ctx.workload_name),
                workload_namespace: Arc::clone(&item.ctx.workload_namespace),
                is_replica: spec.annotations.contains_key(REPLICA_ANNOTATION),
                component: component.name.clone(),
                exports: vec![export.clone()],
                entries,
                local_resources: Arc::new(component.local_resources.clone()),
                instances_max: self.engine().pooled_instances(),
                pre: item.linked.pre.clone(),
            };
            let (plugin, route) = (Arc::clone(plugin), Arc::new(route));
            triggers.push(Trigger { plugin, attach, route, attachment: OnceLock::new() });
        }
        Ok(triggers)
    }
}

/// The entries without a label that ask for an export, in whatever version: the component's own counts.
fn asking_for(export: &ImportName, entries: &[WitInterface]) -> Vec<WitInterface> {
    let asks = |entry: &&WitInterface| {
        export.is_of_package(entry) && entry.interfaces.contains(&export.interface) && entry.name.is_none()
    };
    entries.iter().filter(asks).cloned().collect()
}

impl Assembled {
    /// Subscribes whatever its triggers need; what `previous` has of the same component and plugin is kept.
    pub(crate) async fn attach(&self, previous: Option<&Self>) -> Result<(), StartError> {
        let attach = |trigger: &Trigger| {
            let mut candidates = previous.into_iter().flat_map(|previous| &previous.triggers);
            let kept =
                candidates.find(|other| other.is_same(trigger)).and_then(|other| other.attachment.get().cloned());
            let attaching = kept.is_none().then(|| trigger.plugin.attach(trigger.attach.clone()));
            let (plugin, component) = (trigger.plugin.id(), trigger.attach.component.clone());
            async move {
                match (kept, attaching) {
                    (Some(kept), _) => Ok(Some(kept)),
                    (None, Some(attaching)) => match attaching.await {
                        Ok(attachment) => Ok(Some(attachment)),
                        Err(cause) => Err(StartError::Attach { plugin, component, cause }),
                    },
                    (None, None) => Ok(None),
                }
            }
        };
        let attached = try_join_all(self.triggers.iter().map(attach)).await?;
        for (trigger, attachment) in self.triggers.iter().zip(attached) {
            if let Some(attachment) = attachment {
                // Attached once: a workload is built, then published.
                trigger.attachment.get_or_init(|| attachment);
            }
        }
        Ok(())
    }

    /// From now on what plugins deliver comes to this version.
    pub(super) fn open_triggers(&self) {
        for trigger in &self.triggers {
            if let Some(attachment) = trigger.attachment.get() {
                attachment.open(Arc::clone(&trigger.route) as Arc<dyn GuestTarget>);
            }
        }
    }

    /// Takes on nothing more that plugins deliver, and lets what was taken on end by `deadline`.
    pub(super) async fn close_triggers(&self, deadline: Instant) {
        let attachments = self.triggers.iter().filter_map(|trigger| trigger.attachment.get());
        join_all(attachments.map(|attachment| attachment.close(deadline))).await;
    }

    /// Lets calls by plugins end by `deadline`; says how many were cut. Unless another version goes on with them, the
    /// attachments end as well.
    pub(super) async fn drain_triggers(&self, deadline: Instant, goes_on: bool) -> usize {
        let drains = self.triggers.iter().map(|trigger| async move {
            let given_up = match trigger.attachment.get() {
                Some(attachment) if !goes_on => attachment.close(deadline).await,
                Some(_) | None => 0,
            };
            given_up.max(trigger.route.drain(deadline).await)
        });
        join_all(drains).await.into_iter().sum()
    }
}
