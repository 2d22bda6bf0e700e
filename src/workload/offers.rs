//! What the host offers to the components of one workload.

use crate::engine::inspect::Import;
use crate::engine::plan::Offers;
use crate::plugin::PluginSet;
use crate::wit::{ImportName, WitInterface};

/// What the plugins offer to one workload: an interface needs a plugin that serves it and an entry that asks for it.
pub(super) struct OffersOf<'a> {
    pub(super) plugins: &'a PluginSet,
    pub(super) entries: &'a [WitInterface],
}

impl Offers for OffersOf<'_> {
    fn plugin_for(&self, import: &Import) -> Option<usize> {
        if import.label.is_some() || !self.entries.iter().any(|entry| import.name.is_asked_for_by(entry)) {
            return None;
        }
        self.plugins.plugins().iter().position(|plugin| plugin.serves(&import.name))
    }

    fn remedy(&self, import: &Import) -> String {
        if import.label.is_some() {
            return "named imports are not implemented yet".to_owned();
        }
        let ImportName { namespace, package, interface, .. } = &import.name;
        match (self.plugins.provider_of(&import.name), self.plugins.suggestion(&import.name)) {
            (Some(_plugin), _) => {
                format!("add a hostInterfaces entry {namespace}:{package}/{interface} to the workload")
            }
            (None, Some(suggestion)) => suggestion,
            (None, None) => "no plugin of this host serves it".to_owned(),
        }
    }
}
