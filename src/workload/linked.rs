//! Linked components, shared by all workloads that run the same artifact with the same plugins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::engine::compile::Compiled;
use crate::engine::link::Linked;
use crate::engine::plan::PluginImport;
use crate::plugin::PluginSet;
use crate::workload::error::StartError;

/// Known for as long as somebody uses them.
#[derive(Debug, Default)]
pub(crate) struct LinkedComponents(Mutex<HashMap<Key, Weak<Linked>>>);

/// Digest of the artifact, and which plugin serves each of the imports that plugins serve. Linkers capture no
/// backend, so two sets in which the same plugins serve the same imports link alike.
type Key = (Arc<str>, Vec<(&'static str, String)>);

impl LinkedComponents {
    /// What `compiled` is linked to already, or what `link` makes.
    pub(crate) fn get_or_link(
        &self,
        compiled: &Compiled,
        plugins: &PluginSet,
        planned: &[PluginImport],
        link: impl FnOnce() -> Result<Arc<Linked>, StartError>,
    ) -> Result<Arc<Linked>, StartError> {
        let served = planned
            .iter()
            .filter_map(|planned| Some((plugins.plugins().get(planned.plugin)?.id(), planned.import.to_string())))
            .collect();
        let key = (Arc::clone(&compiled.digest), served);
        if let Some(linked) = self.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(linked);
        }
        // Linked outside the lock: two at once do the work twice, which is cheaper than all waiting for one.
        let linked = link()?;
        let mut known = self.lock();
        known.retain(|_key, linked| linked.strong_count() > 0);
        known.insert(key, Arc::downgrade(&linked));
        Ok(linked)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Weak<Linked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
