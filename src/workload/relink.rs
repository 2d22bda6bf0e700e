//! The same workloads against another set of plugins: no pull, no compile.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::OwnedRwLockWriteGuard;
use tokio::time::Instant;
use tracing::warn;

use crate::config::InUse;
use crate::plugin::PluginSet;
use crate::types::WorkloadId;
use crate::workload::Workloads;
use crate::workload::error::StartError;
use crate::workload::start::{Assembled, Basis};
use crate::workload::table::{Failure, Phase, StartNumber};
use crate::workload::trigger::Trigger;

/// Why workloads cannot be linked against another set of plugins.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelinkError {
    /// Taking an interface away from whoever uses it is refused.
    #[error("{}", in_use(.0))]
    InUse(BTreeMap<String, BTreeSet<String>>),
    /// It would not link.
    #[error("workload {id} does not link against the new plugins")]
    Assemble {
        id: WorkloadId,
        #[source]
        cause: StartError,
    },
}

fn in_use(users: &BTreeMap<String, BTreeSet<String>>) -> String {
    let of_plugin = |(interface, workloads): (&String, &BTreeSet<String>)| {
        let workloads: Vec<&str> = workloads.iter().map(String::as_str).collect();
        format!("{interface} is in use by {}", workloads.join(", "))
    };
    format!("{}: stop these workloads first", users.iter().map(of_plugin).collect::<Vec<_>>().join("; "))
}

/// Workloads linked against another set of plugins, not yet live. Starts wait to publish until it is committed or
/// dropped.
#[derive(Debug)]
pub(crate) struct Relinked {
    workloads: Workloads,
    plugins: Arc<PluginSet>,
    assembled: Vec<(StartNumber, Arc<Assembled>)>,
    failing: Vec<Failing>,
    _hold: OwnedRwLockWriteGuard<()>,
}

/// A workload that loses an interface it uses.
#[derive(Debug)]
struct Failing {
    number: StartNumber,
    old: Arc<Assembled>,
    missing: String,
}

/// What was live before: its calls in flight still hold it.
#[derive(Debug)]
pub(crate) struct Replaced(Vec<Old>);

#[derive(Debug)]
struct Old {
    assembled: Arc<Assembled>,
    /// Whether another version has its place.
    goes_on: bool,
}

impl Workloads {
    /// Links every workload that a change of plugins concerns; `leaving` are about to be stopped or replaced anyway.
    pub(crate) async fn relink(
        &self,
        plugins: Arc<PluginSet>,
        leaving: &HashSet<WorkloadId>,
        in_use: InUse,
    ) -> Result<Relinked, RelinkError> {
        let hold = Arc::clone(&self.0.publishing).write_owned().await;
        let running: Vec<(StartNumber, Arc<Assembled>)> = self
            .table()
            .iter()
            .filter(|(id, _entry)| !leaving.contains(*id))
            .filter_map(|(_id, entry)| match &entry.phase {
                Phase::Running(assembled) => Some((entry.number, Arc::clone(assembled))),
                Phase::Starting(_) | Phase::Stopping | Phase::Failed(_) => None,
            })
            .collect();
        let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut affected = Vec::new();
        let mut failing = Vec::new();
        for (number, old) in running {
            let mut is_affected = false;
            let mut missing = Vec::new();
            for (plugin, import) in &old.served {
                match plugins.provider_of(import) {
                    None => {
                        missing.push(format!("{import} of plugin '{plugin}'"));
                        let user = format!("{}/{}", old.spec.namespace, old.spec.name);
                        users.entry(import.to_string()).or_default().insert(user);
                    }
                    Some(new) => is_affected |= new.id() != *plugin,
                }
            }
            for (plugin, export) in old.triggers.iter().flat_map(Trigger::called) {
                match plugins.caller_of(export) {
                    None => {
                        missing.push(format!("{export} by plugin '{plugin}'"));
                        let user = format!("{}/{}", old.spec.namespace, old.spec.name);
                        users.entry(export.to_string()).or_default().insert(user);
                    }
                    Some(new) => is_affected |= new.id() != plugin,
                }
            }
            if !missing.is_empty() {
                failing.push(Failing { number, old, missing: missing.join(", ") });
            } else if is_affected {
                affected.push((number, old));
            }
        }
        if !users.is_empty() && in_use == InUse::Refuse {
            return Err(RelinkError::InUse(users));
        }
        let basis = Basis { plugins: Arc::clone(&plugins), ..self.basis() };
        let mut assembled = Vec::with_capacity(affected.len());
        for (number, old) in affected {
            let new = self
                .assemble_again(&old, &basis)
                .await
                .map_err(|cause| RelinkError::Assemble { id: old.id.clone(), cause })?;
            assembled.push((number, Arc::new(new)));
            // Many workloads are many milliseconds: others get their turn in between.
            tokio::task::yield_now().await;
        }
        Ok(Relinked { workloads: self.clone(), plugins, assembled, failing, _hold: hold })
    }
}

impl Relinked {
    /// Makes the plugins and what was linked against them live.
    pub(crate) fn commit(self) -> Replaced {
        let Self { workloads, plugins, assembled, failing, _hold } = self;
        workloads.0.plugins.store(plugins);
        let mut replaced = Vec::new();
        for (number, new) in assembled {
            let mut table = workloads.table();
            if let Some(old) = table.swap_running(&new.id, number, Arc::clone(&new)) {
                workloads.route(&new);
                new.take_over_service(&old);
                replaced.push(Old { assembled: old, goes_on: true });
            }
        }
        for Failing { number, old, missing } in failing {
            let reason = Arc::from(format!("nothing serves {missing} any more: the configuration took it away"));
            let mut table = workloads.table();
            if table
                .fail_running(&old.id, number, Failure { reason: Arc::clone(&reason), at: std::time::Instant::now() })
                .is_none()
            {
                continue;
            }
            if let Some((_binding, route)) = &old.route {
                route.begin_stop();
                workloads.withdraw(route);
            }
            old.begin_service_end();
            drop(table);
            warn!(workload.id = %old.id, error = %reason, "workload failed");
            // It starts again as soon as the interface is back.
            workloads.retry_later(&old.id, number, &old.spec);
            replaced.push(Old { assembled: old, goes_on: false });
        }
        workloads.0.plugins_changed.notify_waiters();
        Replaced(replaced)
    }
}

impl Replaced {
    /// Lets calls in flight end by `deadline`; says how many were cut.
    pub(crate) async fn retire(self, deadline: Instant) -> usize {
        let drain = |Old { assembled, goes_on }: Old| async move {
            if let Some((_binding, route)) = &assembled.route {
                route.begin_stop();
            }
            let cut = assembled.drain(deadline, goes_on).await;
            if cut > 0 {
                warn!(workload.id = %assembled.id, forced = cut, "calls of a replaced link were cut");
            }
            cut
        };
        join_all(self.0.into_iter().map(drain)).await.into_iter().sum()
    }
}
