//! `wasi:config/store`: the settings of a component, as it reads them.
//!
//! The view of a component, later wins: `config` of the workload's entries, `config` of its local resources, its
//! environment. It is made when the component is bound and never shared.

mod glue;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::ConfigPlugin;
use crate::plugin::builtin::Builtin;
use crate::plugin::{BindError, BindRequest, Binding, GuestLinker, Health, HostPlugin, Means, Swap, Unchanged};
use crate::types::WorkloadId;
use crate::wit::{ImportName, WitInterface, WitWorld};

const ID: &str = "wasi-config";

/// The plugin `wasi-config`.
#[derive(Debug)]
pub(super) struct WasiConfig {
    since: SystemTime,
}

/// What one component reads. Values may be secrets: `Debug` prints the keys only.
#[derive(Default)]
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn of(request: &BindRequest<'_>) -> Self {
        let local = request.local_resources;
        let layers = request.plain_entries(ID).map(|entry| &entry.config).chain([&local.config, &local.environment]);
        Self(layers.flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settings").field(&self.0.keys()).finish()
    }
}

impl Builtin for WasiConfig {
    type Settings = ConfigPlugin;

    fn new(settings: &ConfigPlugin, _means: &Means) -> Self {
        let ConfigPlugin {} = settings;
        Self { since: SystemTime::now() }
    }

    fn change(self: &Arc<Self>, settings: &ConfigPlugin, _means: &Means) -> Box<dyn Swap> {
        let ConfigPlugin {} = settings;
        Box::new(Unchanged)
    }
}

impl HostPlugin for WasiConfig {
    fn id(&self) -> &'static str {
        ID
    }

    fn world(&self) -> WitWorld {
        let store = WitInterface {
            namespace: "wasi".to_owned(),
            package: "config".to_owned(),
            interfaces: ["store".to_owned()].into(),
            version: semver::Version::parse("0.2.0-rc.1").ok(),
            ..WitInterface::default()
        };
        WitWorld { imports: vec![store], exports: Vec::new() }
    }

    fn link(&self, linker: &mut GuestLinker, _import: &ImportName) -> wasmtime::Result<()> {
        glue::link(linker)
    }

    fn bind(&self, request: &BindRequest<'_>) -> Result<Binding, BindError> {
        Ok(Arc::new(Settings::of(request)))
    }

    fn health(&self) -> Health {
        Health::ready(self.since)
    }

    fn unbind(&self, _workload: &WorkloadId) {}
}
