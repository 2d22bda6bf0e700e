//! The one list of built-in plugins, and how each is made from its settings or kept.

use std::fmt;
use std::sync::Arc;

use crate::config::Plugins;
use crate::nats::{DataClient, DataClientId};
use crate::plugin::wasi_config::WasiConfig;
use crate::plugin::wasi_keyvalue::WasiKeyvalue;
use crate::plugin::wasi_logging::WasiLogging;
use crate::plugin::wasmcloud_messaging::WasmcloudMessaging;
use crate::plugin::{HostPlugin, Means, SetChange, Swap};

/// A plugin of this crate.
pub(super) trait Builtin: HostPlugin + Sized {
    /// Its table, resolved.
    type Settings: Clone + PartialEq + fmt::Debug;

    /// Whether such settings make it use the connection of the data plane: then [`Means::data`] is there.
    fn uses_nats(_settings: &Self::Settings) -> bool {
        false
    }

    /// Makes it anew. Waits for nobody: what it connects to may come later.
    fn new(settings: &Self::Settings, means: &Means) -> Self;

    /// Prepares other settings, or another connection of the data plane, for a running one.
    fn change(self: &Arc<Self>, settings: &Self::Settings, means: &Means) -> Box<dyn Swap>;
}

/// The built-in plugins that are on.
#[derive(Debug, Default)]
pub(super) struct Builtins {
    wasi_config: Option<Enabled<WasiConfig>>,
    wasi_keyvalue: Option<Enabled<WasiKeyvalue>>,
    wasi_logging: Option<Enabled<WasiLogging>>,
    wasmcloud_messaging: Option<Enabled<WasmcloudMessaging>>,
}

/// A plugin that is on, and the settings it has once its set is live.
#[derive(Debug)]
struct Enabled<P: Builtin> {
    settings: P::Settings,
    /// The connection of the data plane that it uses, if it does.
    data: Option<DataClientId>,
    plugin: Arc<P>,
}

impl Builtins {
    /// Those that `settings` ask for: kept from `previous` where they are there already.
    pub(super) fn build(settings: &Plugins, means: &Means, previous: &Self, change: &mut SetChange) -> Self {
        let Plugins { wasi_config, wasi_logging, wasi_keyvalue, wasmcloud_messaging } = settings;
        let messaging = previous.wasmcloud_messaging.as_ref();
        Self {
            wasi_config: carry(wasi_config.as_ref(), means, previous.wasi_config.as_ref(), change),
            wasi_keyvalue: carry(wasi_keyvalue.as_ref(), means, previous.wasi_keyvalue.as_ref(), change),
            wasi_logging: carry(wasi_logging.as_ref(), means, previous.wasi_logging.as_ref(), change),
            wasmcloud_messaging: carry(wasmcloud_messaging.as_ref(), means, messaging, change),
        }
    }

    /// Whether one of them would use the connection of the data plane.
    pub(super) fn use_nats(settings: &Plugins) -> bool {
        let Plugins { wasi_config, wasi_logging, wasi_keyvalue, wasmcloud_messaging } = settings;
        wasi_config.as_ref().is_some_and(WasiConfig::uses_nats)
            || wasi_logging.as_ref().is_some_and(WasiLogging::uses_nats)
            || wasi_keyvalue.as_ref().is_some_and(WasiKeyvalue::uses_nats)
            || wasmcloud_messaging.as_ref().is_some_and(WasmcloudMessaging::uses_nats)
    }

    /// In order of their ids.
    pub(super) fn plugins(&self) -> Vec<Arc<dyn HostPlugin>> {
        let Self { wasi_config, wasi_keyvalue, wasi_logging, wasmcloud_messaging } = self;
        [
            as_plugin(wasi_config.as_ref()),
            as_plugin(wasi_keyvalue.as_ref()),
            as_plugin(wasi_logging.as_ref()),
            as_plugin(wasmcloud_messaging.as_ref()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Every one, on or off, with default settings: what could be enabled.
    pub(super) fn catalogue() -> Self {
        let settings = Plugins {
            wasi_config: Some(Default::default()),
            wasi_logging: Some(Default::default()),
            wasi_keyvalue: Some(Default::default()),
            wasmcloud_messaging: Some(Default::default()),
        };
        Self::build(&settings, &Means::default(), &Self::default(), &mut SetChange::default())
    }
}

fn as_plugin<P: Builtin>(enabled: Option<&Enabled<P>>) -> Option<Arc<dyn HostPlugin>> {
    enabled.map(|enabled| -> Arc<dyn HostPlugin> { Arc::<P>::clone(&enabled.plugin) })
}

/// Decides for one plugin what becomes of it, and notes that in `change`.
fn carry<P: Builtin>(
    settings: Option<&P::Settings>,
    means: &Means,
    previous: Option<&Enabled<P>>,
    change: &mut SetChange,
) -> Option<Enabled<P>> {
    let uses = settings.is_some_and(P::uses_nats);
    let data = means.data.as_ref().filter(|_| uses).map(DataClient::id);
    let plugin = match (settings, previous) {
        (None, None) => return None,
        (None, Some(previous)) => {
            change.removed.push(Arc::<P>::clone(&previous.plugin));
            return None;
        }
        (Some(settings), None) => {
            let plugin = Arc::new(P::new(settings, means));
            change.added.push(Arc::<P>::clone(&plugin));
            plugin
        }
        (Some(settings), Some(previous)) => {
            if *settings != previous.settings || data != previous.data {
                change.changed.push(previous.plugin.id());
                change.swaps.push((previous.plugin.id(), previous.plugin.change(settings, means)));
            }
            Arc::clone(&previous.plugin)
        }
    };
    settings.map(|settings| Enabled { settings: settings.clone(), data, plugin })
}
