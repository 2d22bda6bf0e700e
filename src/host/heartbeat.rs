//! What the host says of itself: counts, system figures, interfaces.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, System};

use crate::host::Host;
use crate::types::HostHeartbeat;
use crate::workload::WorkloadCounts;

/// The label by which the operator picks hosts.
const GROUP_LABEL: &str = "hostgroup";

/// Figures of the machine, read at most every 200 ms: the use of its processors is a difference between two reads.
#[derive(Debug, Default)]
pub(crate) struct SystemFigures(Mutex<Option<Read>>);

#[derive(Debug)]
struct Read {
    system: System,
    at: Instant,
}

/// One read of the machine.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    cpu_usage: f32,
    memory_total: u64,
    memory_free: u64,
}

impl SystemFigures {
    fn now(&self) -> Figures {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if read.is_none() {
            let Ok(mut system) = System::new() else { return Figures::default() };
            system.refresh_cpu_usage();
            system.refresh_memory();
            *read = Some(Read { system, at: Instant::now() });
        }
        let Some(Read { system, at }) = read.as_mut() else { return Figures::default() };
        if at.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL {
            system.refresh_cpu_usage();
            system.refresh_memory();
            *at = Instant::now();
        }
        let cpu_usage = system.global_cpu_usage();
        Figures {
            cpu_usage: if cpu_usage.is_finite() { cpu_usage.clamp(0.0, 100.0) } else { 0.0 },
            memory_total: system.total_memory(),
            memory_free: system.available_memory(),
        }
    }
}

impl Host {
    /// A snapshot. Waits for nothing that a start or a guest holds.
    pub(crate) fn heartbeat(&self) -> HostHeartbeat {
        let settings = self.settings.load();
        let WorkloadCounts { components, workloads } = self.workloads.counts();
        let world = self.workloads.plugins().world();
        let figures = self.figures.now();
        let mut labels: BTreeMap<String, String> = settings.labels.clone();
        labels.insert(GROUP_LABEL.to_owned(), settings.group.clone());
        HostHeartbeat {
            id: self.id.clone(),
            hostname: settings.advertise_address.clone().unwrap_or_else(|| self.os_hostname.clone()),
            http_port: self.http_port.load(std::sync::atomic::Ordering::Relaxed),
            friendly_name: settings.name.clone().unwrap_or_else(|| self.generated_name.clone()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels,
            started_at: self.started_at,
            os_arch: std::env::consts::ARCH.to_owned(),
            os_name: std::env::consts::OS.to_owned(),
            os_kernel: std::env::consts::FAMILY.to_owned(),
            system_cpu_usage: figures.cpu_usage,
            system_memory_total: figures.memory_total,
            system_memory_free: figures.memory_free,
            component_count: components,
            workload_count: workloads,
            imports: world.imports,
            exports: world.exports,
            environment: settings.environment.clone(),
        }
    }
}
