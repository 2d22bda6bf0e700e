//! What a host says of itself, regularly and when asked.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::types::HostId;
use crate::wit::WitInterface;

/// A snapshot of the host. Label values, ids and ports are stable between heartbeats unless the configuration changed.
#[derive(Debug, Clone, PartialEq)]
pub struct HostHeartbeat {
    /// The host's id.
    pub id: HostId,
    /// The address under which others reach the host; an IPv4 address on Kubernetes.
    pub hostname: String,
    /// The port HTTP is served on; 0 without HTTP.
    pub http_port: u16,
    /// The host's name for people.
    pub friendly_name: String,
    /// The crate version.
    pub version: String,
    /// `hostgroup` and whatever `[host] labels` adds.
    pub labels: BTreeMap<String, String>,
    /// When the process started.
    pub started_at: SystemTime,
    /// Processor architecture.
    pub os_arch: String,
    /// Operating system.
    pub os_name: String,
    /// Operating system family.
    pub os_kernel: String,
    /// Use of all processors, 0 to 100 percent.
    pub system_cpu_usage: f32,
    /// Bytes of the machine's memory.
    pub system_memory_total: u64,
    /// Bytes of the machine's memory that are free.
    pub system_memory_free: u64,
    /// Components of workloads that run or completed.
    pub component_count: u64,
    /// Workloads that start, run, completed or stop.
    pub workload_count: u64,
    /// What the host's plugins provide to guests; sorted.
    pub imports: Vec<WitInterface>,
    /// What the host's plugins call on guests; sorted.
    pub exports: Vec<WitInterface>,
    /// The environment the host belongs to.
    pub environment: String,
}
