//! `wasi:logging/logging`: each message of a guest becomes one event of the host.
//!
//! Events have the target `guest`. A guest's text is a field, never the message, and it is quoted where a line is
//! plain text: a guest cannot forge lines.

use std::sync::Arc;
use std::time::SystemTime;

use wasmtime::StoreContextMut;

use self::bindings::wasi::logging::logging::Level;
use crate::config::LoggingPlugin;
use crate::engine::ctx::{ItemCtx, SharedCtx};
use crate::plugin::builtin::Builtin;
use crate::plugin::{BindError, BindRequest, Binding, GuestLinker, Health, HostPlugin, Means, Swap, Unchanged};
use crate::types::WorkloadId;
use crate::wit::{ImportName, WitInterface, WitWorld};

mod bindings {
    wasmtime::component::bindgen!({ path: "wit/logging", world: "imports" });
}

/// Longer messages are cut.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Longer contexts are cut: they are names, and each of them is on every line.
const CONTEXT_BYTES_MAX: usize = 1 << 10;

/// The plugin `wasi-logging`.
#[derive(Debug)]
pub(super) struct WasiLogging {
    since: SystemTime,
}

impl Builtin for WasiLogging {
    type Settings = LoggingPlugin;

    fn new(settings: &LoggingPlugin, _means: &Means) -> Self {
        let LoggingPlugin {} = settings;
        Self { since: SystemTime::now() }
    }

    fn change(self: &Arc<Self>, settings: &LoggingPlugin, _means: &Means) -> Box<dyn Swap> {
        let LoggingPlugin {} = settings;
        Box::new(Unchanged)
    }
}

impl HostPlugin for WasiLogging {
    fn id(&self) -> &'static str {
        "wasi-logging"
    }

    fn world(&self) -> WitWorld {
        let logging = WitInterface {
            namespace: "wasi".to_owned(),
            package: "logging".to_owned(),
            interfaces: ["logging".to_owned()].into(),
            version: semver::Version::parse("0.1.0-draft").ok(),
            ..WitInterface::default()
        };
        WitWorld { imports: vec![logging], exports: Vec::new() }
    }

    /// Any version: the interface has not changed since it was proposed.
    fn serves(&self, import: &ImportName) -> bool {
        self.world()
            .imports
            .iter()
            .any(|offered| import.is_of_package(offered) && offered.interfaces.contains(&import.interface))
    }

    /// Under the name that the component uses, hence not by the generated function, which knows one version.
    fn link(&self, linker: &mut GuestLinker, import: &ImportName) -> wasmtime::Result<()> {
        linker.instance(&import.to_string())?.func_wrap(
            "log",
            |store: StoreContextMut<'_, SharedCtx>, (level, context, message): (Level, String, String)| {
                emit(&store.data().item, level, &context, &message);
                Ok(())
            },
        )
    }

    fn bind(&self, _request: &BindRequest<'_>) -> Result<Binding, BindError> {
        Ok(Arc::new(()))
    }

    fn health(&self) -> Health {
        Health::ready(self.since)
    }

    fn unbind(&self, _workload: &WorkloadId) {}
}

/// A level that is filtered out costs nothing and does not count against the guest's rate.
macro_rules! emit_at {
    ($level:ident, $item:ident, $context:ident, $text:ident $(, $field:ident = $value:expr)*) => {
        if tracing::enabled!(target: "guest", tracing::Level::$level) && $item.guest_log.admit() {
            tracing::event!(
                target: "guest",
                tracing::Level::$level,
                workload.id = $item.workload_id.as_str(),
                workload.name = &*$item.workload_name,
                workload.namespace = &*$item.workload_namespace,
                component = $item.component.as_str(),
                context = $context,
                $($field = $value,)*
                text = $text,
                "guest log"
            );
        }
    };
}

fn emit(item: &ItemCtx, level: Level, context: &str, message: &str) {
    let context = cut(context, CONTEXT_BYTES_MAX);
    let text = cut(message, MESSAGE_BYTES_MAX);
    match level {
        Level::Trace => emit_at!(TRACE, item, context, text),
        Level::Debug => emit_at!(DEBUG, item, context, text),
        Level::Info => emit_at!(INFO, item, context, text),
        Level::Warn => emit_at!(WARN, item, context, text),
        Level::Error => emit_at!(ERROR, item, context, text),
        Level::Critical => emit_at!(ERROR, item, context, text, critical = true),
    }
}

/// The beginning of `text`, at most `bytes_max` long and never ending inside a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}
