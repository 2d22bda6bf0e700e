//! A host: who it is, what it runs, and what it says of itself.

pub(crate) mod heartbeat;
pub mod http;
pub(crate) mod name;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::config;
use crate::host::heartbeat::SystemFigures;
use crate::types::HostId;
use crate::workload::Workloads;

/// One host. Its workloads, settings and port change; who it is does not.
#[derive(Debug)]
pub(crate) struct Host {
    id: HostId,
    started_at: SystemTime,
    /// The friendly name if the configuration gives none.
    generated_name: String,
    /// The machine's own name.
    os_hostname: String,
    settings: ArcSwap<config::Host>,
    http_port: AtomicU16,
    figures: SystemFigures,
    workloads: Workloads,
}

impl Host {
    /// A host with `workloads` and default settings.
    pub(crate) fn new(id: HostId, generated_name: String, workloads: Workloads) -> Self {
        Self {
            id,
            generated_name,
            started_at: SystemTime::now(),
            os_hostname: sysinfo::System::host_name().unwrap_or_else(|_unnamed| "unknown".to_owned()),
            settings: ArcSwap::default(),
            http_port: AtomicU16::new(0),
            figures: SystemFigures::default(),
            workloads,
        }
    }

    pub(crate) fn id(&self) -> &HostId {
        &self.id
    }

    pub(crate) fn workloads(&self) -> &Workloads {
        &self.workloads
    }

    /// Who the host says it is, from the next heartbeat on.
    pub(crate) fn apply(&self, settings: config::Host) {
        self.settings.store(Arc::new(settings));
    }

    /// The port HTTP is served on; 0 without HTTP.
    pub(crate) fn set_http_port(&self, port: u16) {
        self.http_port.store(port, Ordering::Relaxed);
    }
}
