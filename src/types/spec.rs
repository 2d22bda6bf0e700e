//! What a workload is asked to be: the one checked form that the wire, the file and the API become.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::types::{ByteSize, ComponentName, Millicores};
use crate::wit::WitInterface;

/// Who placed a workload here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadOrigin {
    /// The operator, over NATS: nothing of the machine's files is open to it.
    Placed,
    /// The configuration file.
    Static,
}

/// A workload: components, perhaps a service, and what they need from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// Who placed it here.
    pub origin: WorkloadOrigin,
    /// Kubernetes namespace, or `default`.
    pub namespace: String,
    /// Name inside the namespace.
    pub name: String,
    /// Opaque to the host, but for the queue group of messaging.
    pub annotations: BTreeMap<String, String>,
    /// In the order of the manifest.
    pub components: Vec<ComponentSpec>,
    /// The one long-running component.
    pub service: Option<ServiceSpec>,
    /// Interfaces served by the host, with the settings of each binding.
    pub host_interfaces: Vec<WitInterface>,
    /// Volumes that components may mount.
    pub volumes: Vec<VolumeSpec>,
}

/// One component of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentSpec {
    /// Unique in the workload.
    pub name: ComponentName,
    /// Where its bytes come from.
    pub image: ArtifactSource,
    /// When the registry is asked.
    pub pull_policy: PullPolicy,
    /// Credentials of the request, only for this image's registry.
    pub pull_secret: Option<PullSecret>,
    /// Warm instances; `None`: a fresh one for each call.
    pub pool_size: Option<NonZeroU32>,
    /// Calls after which a warm instance is replaced; `None`: never.
    pub max_invocations: Option<NonZeroU32>,
    /// Calls at once in one warm instance; `None`: one.
    pub max_concurrency: Option<NonZeroU32>,
    /// Limits, environment and policies.
    pub local_resources: LocalResources,
}

/// The one long-running component of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Where its bytes come from.
    pub image: ArtifactSource,
    /// When the registry is asked.
    pub pull_policy: PullPolicy,
    /// Credentials of the request, only for this image's registry.
    pub pull_secret: Option<PullSecret>,
    /// How often it is started again after a failure; `u64::MAX` is practically unlimited.
    pub max_restarts: u64,
    /// Limits, environment and policies.
    pub local_resources: LocalResources,
}

/// Limits, environment and policies of one component or service. Maps may hold secrets: `Debug` prints their keys only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct LocalResources {
    /// Linear memory of one instance.
    pub memory_limit: Option<ByteSize>,
    /// Processor time of all the component's instances together.
    pub cpu_limit: Option<Millicores>,
    /// Opaque settings, visible through `wasi:config`.
    pub config: BTreeMap<String, String>,
    /// Visible through `wasi:cli/environment`.
    pub environment: BTreeMap<String, String>,
    /// Volumes it sees.
    pub volume_mounts: Vec<VolumeMount>,
    /// Hosts it may connect to; empty denies all.
    pub allowed_hosts: Vec<String>,
    /// Names it may resolve; empty denies all.
    pub allowed_ip_name_lookups: Vec<String>,
    /// Ports of the machine's loopback it may reach; empty denies all.
    pub allowed_host_loopback_ports: Vec<String>,
}

impl fmt::Debug for LocalResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalResources")
            .field("memory_limit", &self.memory_limit)
            .field("cpu_limit", &self.cpu_limit)
            .field("config", &self.config.keys())
            .field("environment", &self.environment.keys())
            .field("volume_mounts", &self.volume_mounts)
            .field("allowed_hosts", &self.allowed_hosts)
            .field("allowed_ip_name_lookups", &self.allowed_ip_name_lookups)
            .field("allowed_host_loopback_ports", &self.allowed_host_loopback_ports)
            .finish()
    }
}

/// A volume of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// What mounts refer to.
    pub name: String,
    /// What it is.
    pub kind: VolumeKind,
}

/// Where the files of a volume are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeKind {
    /// A directory of the workload's own, removed with it.
    EmptyDir,
    /// A directory of the machine.
    HostPath(HostPathVolume),
}

/// A directory of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPathVolume {
    /// Absolute path on the machine.
    pub local_path: PathBuf,
}

/// A volume as one component sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// Name of the volume.
    pub name: String,
    /// Absolute path in the guest.
    pub mount_path: String,
    /// Whether the guest can only read.
    pub read_only: bool,
}

/// Where the bytes of a component come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ArtifactSource {
    /// A file of the machine; only for workloads of the configuration file. Absolute.
    File(PathBuf),
    /// An OCI reference, as written.
    Oci(String),
}

impl fmt::Display for ArtifactSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Oci(reference) => f.write_str(reference),
        }
    }
}

/// When the registry is asked for an image that is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PullPolicy {
    /// By digest never; by tag at most once per `[registry] tag_ttl`, and the cached copy is used if that fails.
    #[default]
    Unspecified,
    /// At every start.
    Always,
    /// Only if nothing is cached.
    IfNotPresent,
    /// Not at all: what is not cached is an error.
    Never,
}

/// Credentials for one registry. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PullSecret {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PullSecret(***)")
    }
}
