//! `PluginSet`: which plugin serves which interface, an immutable value that reloads replace whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::config::Plugins;
use crate::plugin::builtin::Builtins;
use crate::plugin::{Health, HostPlugin, Means, NotReady, Retiring, Swap};
use crate::types::WorkloadId;
use crate::wit::{ImportName, WitInterface, WitWorld};

/// The plugins of a host at one generation. The default is that of the empty host.
#[derive(Debug, Default)]
pub(crate) struct PluginSet {
    builtins: Builtins,
    /// In order of their ids, which is the order in which they are asked.
    plugins: Vec<Arc<dyn HostPlugin>>,
}

/// What differs between two plugin sets. Dropped without [`commit`](Self::commit), nothing changes.
#[derive(Default)]
#[must_use]
pub(crate) struct SetChange {
    /// Plugins that the new set has and the old one had not.
    pub(crate) added: Vec<Arc<dyn HostPlugin>>,
    /// Plugins that the old set had and the new one has not.
    pub(crate) removed: Vec<Arc<dyn HostPlugin>>,
    /// Ids of plugins that get other settings at commit; their interfaces stay.
    pub(crate) changed: Vec<&'static str>,
    pub(super) swaps: Vec<(&'static str, Box<dyn Swap>)>,
}

impl PluginSet {
    /// The set that `settings` ask for, and how it differs from `previous` (none: from the empty host).
    ///
    /// A plugin that `previous` has already is the same `Arc` in both, with all it keeps.
    ///
    /// One that uses NATS is changed if `means` has another connection than the one it uses.
    pub(crate) fn build(settings: &Plugins, means: &Means, previous: Option<&Self>) -> (Self, SetChange) {
        let mut change = SetChange::default();
        let none = Builtins::default();
        let builtins = Builtins::build(settings, means, previous.map_or(&none, |set| &set.builtins), &mut change);
        let plugins = builtins.plugins();
        (Self { builtins, plugins }, change)
    }

    /// A set of these, in order of their ids.
    #[cfg(test)]
    pub(crate) fn for_test(plugins: Vec<Arc<dyn HostPlugin>>) -> Self {
        Self { builtins: Builtins::default(), plugins }
    }

    /// Whether plugins with these settings use the connection of the data plane.
    pub(crate) fn uses_nats(settings: &Plugins) -> bool {
        Builtins::use_nats(settings)
    }

    /// How each plugin has been doing, by id, in order of the ids.
    pub(crate) fn states(&self) -> Vec<(&'static str, Health)> {
        self.plugins.iter().map(|plugin| (plugin.id(), plugin.health())).collect()
    }

    /// The plugin that serves `import` exactly as the component spells it.
    pub(crate) fn provider_of(&self, import: &ImportName) -> Option<&Arc<dyn HostPlugin>> {
        self.plugins.iter().find(|plugin| plugin.serves(import))
    }

    /// The plugin that calls `export` of guests exactly as the component spells it.
    pub(crate) fn caller_of(&self, export: &ImportName) -> Option<&Arc<dyn HostPlugin>> {
        self.plugins.iter().find(|plugin| plugin.calls(export))
    }

    /// The id of the built-in plugin that would call `export` if it were enabled.
    pub(crate) fn caller_suggested(export: &ImportName) -> Option<&'static str> {
        let plugins = Builtins::catalogue().plugins();
        plugins.iter().find(|plugin| plugin.calls(export)).map(|plugin| plugin.id())
    }

    /// All of them, in order of their ids.
    pub(crate) fn plugins(&self) -> &[Arc<dyn HostPlugin>] {
        &self.plugins
    }

    /// Tells every plugin that the workload is gone.
    pub(crate) fn unbind(&self, workload: &WorkloadId) {
        for plugin in &self.plugins {
            plugin.unbind(workload);
        }
    }

    /// What the host says of itself: one item per package and version, sorted.
    pub(crate) fn world(&self) -> WitWorld {
        let worlds: Vec<WitWorld> = self.plugins.iter().map(|plugin| plugin.world()).collect();
        WitWorld {
            imports: merged(worlds.iter().flat_map(|world| &world.imports)),
            exports: merged(worlds.iter().flat_map(|world| &world.exports)),
        }
    }

    /// What would make `import` served, if a built-in plugin knows its package.
    pub(crate) fn suggestion(&self, import: &ImportName) -> Option<String> {
        if self.provider_of(import).is_some() {
            return None;
        }
        if let Some(offered) = offer(&self.plugins, import) {
            return Some(mismatch(import, &offered));
        }
        let catalogue = Builtins::catalogue().plugins();
        let plugin = catalogue.iter().find(|plugin| offer(std::slice::from_ref(plugin), import).is_some())?;
        let enable = format!("enable [plugins.{}]", plugin.id());
        match offer(std::slice::from_ref(plugin), import) {
            Some(offered) if !plugin.serves(import) => Some(format!("{}: {enable}", mismatch(import, &offered))),
            Some(_) | None => Some(enable),
        }
    }
}

impl SetChange {
    /// Whether anything is left to do at commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.swaps.is_empty()
    }

    /// Finds out whether what is new could do its work, beside what is live.
    pub(crate) async fn ready(&mut self) -> Result<(), (&'static str, NotReady)> {
        for plugin in &self.added {
            plugin.probe().await.map_err(|error| (plugin.id(), error))?;
        }
        for (id, swap) in &mut self.swaps {
            swap.ready().await.map_err(|error| (*id, error))?;
        }
        Ok(())
    }

    /// Other settings take effect: stores of pointers, nothing else. Host calls in flight end on the old ones.
    pub(crate) fn commit(self) -> Vec<Box<dyn Retiring>> {
        self.swaps.into_iter().filter_map(|(_id, swap)| swap.commit()).collect()
    }
}

impl fmt::Debug for SetChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |plugins: &[Arc<dyn HostPlugin>]| plugins.iter().map(|plugin| plugin.id()).collect::<Vec<_>>();
        f.debug_struct("SetChange")
            .field("added", &ids(&self.added))
            .field("removed", &ids(&self.removed))
            .field("changed", &self.changed)
            .finish_non_exhaustive()
    }
}

/// What `plugins` provide of the import's package: of the interface itself if they have it in some version.
fn offer(plugins: &[Arc<dyn HostPlugin>], import: &ImportName) -> Option<WitInterface> {
    let offered: Vec<WitInterface> = plugins
        .iter()
        .flat_map(|plugin| plugin.world().imports)
        .filter(|offered| import.is_of_package(offered))
        .collect();
    offered.iter().find(|offered| offered.interfaces.contains(&import.interface)).or(offered.first()).cloned()
}

fn mismatch(import: &ImportName, offered: &WitInterface) -> String {
    match &offered.version {
        Some(version) if offered.interfaces.contains(&import.interface) => {
            format!("version mismatch: {version} is available")
        }
        Some(_) | None => format!("only {offered} is available"),
    }
}

/// One item per package and version, with the interfaces of all; without settings and labels.
fn merged<'a>(interfaces: impl Iterator<Item = &'a WitInterface>) -> Vec<WitInterface> {
    let mut packages = BTreeMap::new();
    for WitInterface { namespace, package, interfaces, version, config: _, name: _ } in interfaces {
        let item = packages.entry((namespace, package, version)).or_insert_with(|| WitInterface {
            namespace: namespace.clone(),
            package: package.clone(),
            version: version.clone(),
            ..WitInterface::default()
        });
        item.interfaces.extend(interfaces.iter().cloned());
    }
    packages.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigPlugin, KeyvaluePlugin, LoggingPlugin};

    impl SetChange {
        fn relink(&self) -> bool {
            !self.added.is_empty() || !self.removed.is_empty()
        }
    }

    fn everything() -> Plugins {
        Plugins {
            wasi_config: Some(ConfigPlugin::default()),
            wasi_logging: Some(LoggingPlugin::default()),
            wasi_keyvalue: Some(KeyvaluePlugin::default()),
            wasmcloud_messaging: None,
        }
    }

    fn list(interfaces: &[WitInterface]) -> String {
        interfaces.iter().map(WitInterface::to_string).collect::<Vec<_>>().join(" ")
    }

    fn import(text: &str) -> ImportName {
        text.parse().unwrap()
    }

    #[test]
    fn every_interface_has_its_plugin_and_logging_serves_any_version() {
        let (set, change) = PluginSet::build(&everything(), &Means::default(), None);
        assert!(change.relink());
        for (name, id) in [
            ("wasi:config/store@0.2.0-rc.1", "wasi-config"),
            ("wasi:keyvalue/atomics@0.2.0-draft", "wasi-keyvalue"),
            ("wasi:keyvalue/batch@0.2.0-draft", "wasi-keyvalue"),
            ("wasi:keyvalue/store@0.2.0-draft", "wasi-keyvalue"),
            ("wasi:logging/logging@0.1.0-draft", "wasi-logging"),
            ("wasi:logging/logging@7.0.0", "wasi-logging"),
            ("wasi:logging/logging", "wasi-logging"),
        ] {
            assert_eq!(set.provider_of(&import(name)).map(|plugin| plugin.id()), Some(id), "{name}");
        }
        for name in ["wasi:config/store", "wasi:keyvalue/watcher@0.2.0-draft", "wasi:logging/other@0.1.0-draft"] {
            assert!(set.provider_of(&import(name)).is_none(), "{name}");
        }
    }

    #[test]
    fn a_host_lists_its_interfaces_sorted_and_with_versions() {
        let (set, _change) = PluginSet::build(&everything(), &Means::default(), None);
        let world = set.world();
        assert_eq!(
            list(&world.imports),
            "wasi:config/store@0.2.0-rc.1 wasi:keyvalue/atomics,batch,store@0.2.0-draft wasi:logging/logging@0.1.0-draft"
        );
        assert!(world.exports.is_empty());

        let parse = |text: &str| text.parse::<WitInterface>().unwrap();
        let doubled = [parse("b:b/y@1.0.0"), parse("a:a/x"), parse("b:b/x@1.0.0"), parse("b:b/x@2.0.0")];
        assert_eq!(list(&merged(doubled.iter())), "a:a/x b:b/x,y@1.0.0 b:b/x@2.0.0");
    }

    #[test]
    fn equal_settings_change_nothing_and_keep_every_plugin() {
        let (first, _change) = PluginSet::build(&everything(), &Means::default(), None);
        let (second, change) = PluginSet::build(&everything(), &Means::default(), Some(&first));
        assert!(change.is_empty());
        assert_eq!(second.plugins().len(), 3);
        assert!(first.plugins().iter().zip(second.plugins()).all(|(a, b)| Arc::ptr_eq(a, b)));
    }

    #[test]
    fn other_settings_keep_the_plugin_and_wait_for_commit() {
        let (first, _change) = PluginSet::build(&everything(), &Means::default(), None);
        let mut settings = everything();
        settings.wasi_keyvalue = Some(KeyvaluePlugin { allow_buckets: Vec::new(), ..KeyvaluePlugin::default() });
        let (second, change) = PluginSet::build(&settings, &Means::default(), Some(&first));
        assert_eq!((change.relink(), change.changed.as_slice()), (false, ["wasi-keyvalue"].as_slice()));
        assert!(first.plugins().iter().zip(second.plugins()).all(|(a, b)| Arc::ptr_eq(a, b)));

        let (_third, change) = PluginSet::build(&settings, &Means::default(), Some(&second));
        assert!(change.is_empty(), "the second set has the new settings");
    }

    #[test]
    fn a_plugin_that_comes_or_goes_means_linking_again() {
        let (first, _change) = PluginSet::build(&everything(), &Means::default(), None);
        let settings = Plugins { wasi_keyvalue: None, ..everything() };
        let (second, change) = PluginSet::build(&settings, &Means::default(), Some(&first));
        assert_eq!(format!("{change:?}"), r#"SetChange { added: [], removed: ["wasi-keyvalue"], changed: [], .. }"#);
        assert!(change.relink());
        assert!(second.provider_of(&import("wasi:keyvalue/store@0.2.0-draft")).is_none());

        let (_third, change) = PluginSet::build(&everything(), &Means::default(), Some(&second));
        assert_eq!(format!("{change:?}"), r#"SetChange { added: ["wasi-keyvalue"], removed: [], changed: [], .. }"#);
    }

    #[test]
    fn a_missing_import_comes_with_its_remedy() {
        let (set, _change) = PluginSet::build(&Plugins { wasi_config: None, ..everything() }, &Means::default(), None);
        for (name, remedy) in [
            ("wasi:keyvalue/store@0.2.0-draft", None),
            ("wasi:keyvalue/store@0.3.0", Some("version mismatch: 0.2.0-draft is available")),
            (
                "wasi:keyvalue/watcher@0.2.0-draft",
                Some("only wasi:keyvalue/atomics,batch,store@0.2.0-draft is available"),
            ),
            ("wasi:config/store@0.2.0-rc.1", Some("enable [plugins.wasi-config]")),
            ("wasi:config/store", Some("version mismatch: 0.2.0-rc.1 is available: enable [plugins.wasi-config]")),
            ("some:where/else@1.0.0", None),
        ] {
            assert_eq!(set.suggestion(&import(name)).as_deref(), remedy, "{name}");
        }
    }
}
