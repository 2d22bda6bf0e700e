//! `[[workloads]]`: what the host runs by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::host::is_dns_subdomain;
use crate::config::path::{index, join};
use crate::config::resolve::Resolver;
use crate::config::scalar::{FilePort, FileSize};
use crate::config::workload_rules::{FileResources, check_mounts, check_route, resolve_image};
use crate::types::{ComponentName, ComponentSpec, PullPolicy, ServiceSpec, WorkloadId, WorkloadOrigin, WorkloadSpec};
use crate::wit::WitInterface;

/// A workload of the configuration file. Reload class: live, matched by (namespace, name).
#[derive(Debug, Clone, PartialEq)]
pub struct StaticWorkload {
    /// `static/<namespace>/<name>`
    pub id: WorkloadId,
    /// What it is asked to be.
    pub spec: Arc<WorkloadSpec>,
    /// SHA-256 of each `file:` image, of the components in their order, then of the service: a changed file is a changed
    /// workload.
    pub file_digests: Vec<String>,
}

impl StaticWorkload {
    /// What it is called where keys are listed.
    pub(crate) fn key(&self) -> String {
        format!("workloads.{}/{}", self.spec.namespace, self.spec.name)
    }
}

/// `[[workloads]]`: a workload the host runs by itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileWorkload {
    /// Name inside the namespace.
    #[schemars(extend("x-washlet-required" = true))]
    pub(super) name: String,
    /// Namespace.
    pub(super) namespace: String,
    /// Opaque to the host.
    pub(super) annotations: BTreeMap<String, String>,
    /// Interfaces served by the host.
    pub(super) host_interfaces: Vec<FileInterface>,
    /// Components.
    pub(super) components: Vec<FileComponent>,
    /// The one long-running component.
    pub(super) service: Option<FileService>,
    /// Volumes that components may mount.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) volumes: Vec<FileVolume>,
}

/// An interface served by the host.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileInterface {
    /// `namespace:package/interface,interface@version`; interfaces and version may be left out.
    #[schemars(extend("x-washlet-required" = true))]
    pub(super) interface: String,
    /// Label of a named import.
    pub(super) name: Option<String>,
    /// Settings of this binding.
    #[schemars(extend("x-washlet-secret" = "by-name"))]
    pub(super) config: BTreeMap<String, String>,
}

/// A component of a workload.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileComponent {
    /// Unique in the workload.
    #[schemars(extend("x-washlet-required" = true))]
    pub(super) name: String,
    /// OCI reference, or `file:` and a path relative to the configuration file.
    #[schemars(extend("x-washlet-required" = true))]
    pub(super) image: String,
    /// When the registry is asked.
    pub(super) pull_policy: FilePullPolicy,
    /// Warm instances. 0: a fresh one for each call.
    pub(super) pool_size: u32,
    /// Calls after which a warm instance is replaced. 0: never.
    pub(super) max_invocations: u32,
    /// Calls at once in one warm instance. 0: one.
    pub(super) max_concurrency: u32,
    /// Linear memory of one instance; limits.memory if unset.
    pub(super) memory_limit: Option<FileSize>,
    /// Processor time of all instances together, in millicores; limits.cpu if unset.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) cpu_limit: Option<u32>,
    /// Settings that the component reads through `wasi:config`.
    #[schemars(extend("x-washlet-secret" = "by-name"))]
    pub(super) config: BTreeMap<String, String>,
    /// Environment variables of the component.
    #[schemars(extend("x-washlet-secret" = "by-name"))]
    pub(super) environment: BTreeMap<String, String>,
    /// Volumes it sees.
    pub(super) volume_mounts: Vec<FileVolumeMount>,
    /// Hosts it may connect to. Empty: none.
    pub(super) allowed_hosts: Vec<String>,
    /// Names it may resolve. Empty: none.
    pub(super) allowed_ip_name_lookups: Vec<String>,
    /// Ports of the machine's loopback it may reach. Empty: none.
    pub(super) allowed_host_loopback_ports: Vec<FilePort>,
}

/// The one long-running component of a workload.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileService {
    /// OCI reference, or `file:` and a path relative to the configuration file.
    #[schemars(extend("x-washlet-required" = true))]
    pub(super) image: String,
    /// When the registry is asked.
    pub(super) pull_policy: FilePullPolicy,
    /// How often it is started again after a failure; 60 s of health make up for all before.
    pub(super) max_restarts: u64,
    /// Linear memory.
    pub(super) memory_limit: Option<FileSize>,
    /// Processor time, in millicores.
    #[schemars(extend("x-washlet-todo" = true))]
    pub(super) cpu_limit: Option<u32>,
    /// Settings that the service reads through `wasi:config`.
    #[schemars(extend("x-washlet-secret" = "by-name"))]
    pub(super) config: BTreeMap<String, String>,
    /// Environment variables of the service.
    #[schemars(extend("x-washlet-secret" = "by-name"))]
    pub(super) environment: BTreeMap<String, String>,
    /// Volumes it sees.
    pub(super) volume_mounts: Vec<FileVolumeMount>,
    /// Hosts it may connect to. Empty: none.
    pub(super) allowed_hosts: Vec<String>,
    /// Names it may resolve. Empty: none.
    pub(super) allowed_ip_name_lookups: Vec<String>,
    /// Ports of the machine's loopback it may reach. Empty: none.
    pub(super) allowed_host_loopback_ports: Vec<FilePort>,
}

/// A volume of a workload: a directory of its own, or one of the machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileVolume {
    /// What mounts refer to.
    #[schemars(extend("x-washlet-required" = true))]
    pub(super) name: String,
    /// Absolute path of a directory of the machine. Unset: an empty directory, removed with the workload.
    pub(super) host_path: Option<PathBuf>,
}

/// A volume as one component sees it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileVolumeMount {
    /// Name of the volume.
    #[schemars(extend("x-washlet-required" = true))]
    pub(super) name: String,
    /// Absolute path in the guest.
    #[schemars(extend("x-washlet-required" = true))]
    pub(super) mount_path: String,
    /// Whether the guest can only read.
    pub(super) read_only: bool,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FilePullPolicy {
    #[default]
    Unspecified,
    Always,
    IfNotPresent,
    Never,
}

impl Default for FileWorkload {
    fn default() -> Self {
        Self {
            name: String::new(),
            namespace: "default".to_owned(),
            annotations: BTreeMap::new(),
            host_interfaces: Vec::new(),
            components: Vec::new(),
            service: None,
            volumes: Vec::new(),
        }
    }
}

/// All workloads of the file, each (namespace, name) once.
pub(super) fn resolve(workloads: Vec<FileWorkload>, cx: &mut Resolver<'_>) -> Vec<StaticWorkload> {
    let mut seen = BTreeMap::new();
    let mut resolved = Vec::with_capacity(workloads.len());
    for (i, workload) in workloads.into_iter().enumerate() {
        let path = index("workloads", i);
        let id = WorkloadId::of_static(&workload.namespace, &workload.name);
        let name = join(&path, "name");
        let first: &mut String = seen.entry(id.clone()).or_insert_with(|| name.clone());
        if *first != name {
            let message = format!("workload {}/{} is listed twice", workload.namespace, workload.name);
            cx.error_both(&name, first, &message);
        }
        resolved.push(workload.resolve(&path, id, cx));
    }
    resolved
}

impl FileWorkload {
    fn resolve(self, path: &str, id: WorkloadId, cx: &mut Resolver<'_>) -> StaticWorkload {
        let Self { name, namespace, annotations, host_interfaces, components, service, volumes } = self;
        for (key, value) in [("name", &name), ("namespace", &namespace)] {
            if !is_dns_subdomain(value) {
                cx.error(&join(path, key), "expected lower-case letters, digits, `-` and `.`, at most 253 characters");
            }
        }
        let at = join(path, "host_interfaces");
        let host_interfaces = host_interfaces.into_iter().enumerate();
        let mut has_route = false;
        let host_interfaces = host_interfaces.filter_map(|(i, it)| {
            let at = index(&at, i);
            let interface = it.resolve(&at, cx)?;
            // As at the start of a workload: the first one counts.
            if interface.is_incoming_http_handler() && !std::mem::replace(&mut has_route, true) {
                check_route(&interface, &at, cx);
            }
            Some(interface)
        });
        let host_interfaces = host_interfaces.collect();
        let volumes = BTreeSet::from_iter(volumes.into_iter().map(|volume| volume.name));
        let mut names = BTreeMap::new();
        let mut file_digests = Vec::new();
        let mut resolved = Vec::with_capacity(components.len());
        for (i, component) in components.into_iter().enumerate() {
            let at = index(&join(path, "components"), i);
            let at_name = join(&at, "name");
            let first: &mut String = names.entry(component.name.clone()).or_insert_with(|| at_name.clone());
            if *first != at_name {
                let message = format!("two components of this workload are called {}", component.name);
                cx.error_both(&at_name, first, &message);
            }
            check_mounts(&component.volume_mounts, &at, &volumes, cx);
            resolved.extend(component.resolve(&at, &mut file_digests, cx));
        }
        let service = service.and_then(|service| {
            let at = join(path, "service");
            check_mounts(&service.volume_mounts, &at, &volumes, cx);
            service.resolve(&at, &mut file_digests, cx)
        });
        let spec = WorkloadSpec {
            origin: WorkloadOrigin::Static,
            namespace,
            name,
            annotations,
            components: resolved,
            service,
            host_interfaces,
            volumes: Vec::new(),
        };
        StaticWorkload { id, spec: Arc::new(spec), file_digests }
    }
}

impl FileInterface {
    fn resolve(self, path: &str, cx: &mut Resolver<'_>) -> Option<WitInterface> {
        let Self { interface, name, config } = self;
        match interface.parse::<WitInterface>() {
            Ok(parsed) => Some(WitInterface { config, name, ..parsed }),
            Err(error) => {
                cx.error(&join(path, "interface"), error.to_string());
                None
            }
        }
    }
}

impl FileComponent {
    fn resolve(self, path: &str, digests: &mut Vec<String>, cx: &mut Resolver<'_>) -> Option<ComponentSpec> {
        let Self {
            name,
            image,
            pull_policy,
            pool_size,
            max_invocations,
            max_concurrency,
            memory_limit,
            cpu_limit,
            config,
            environment,
            volume_mounts,
            allowed_hosts,
            allowed_ip_name_lookups,
            allowed_host_loopback_ports,
        } = self;
        if name.is_empty() {
            cx.error(&join(path, "name"), "expected a name");
        }
        let resources = FileResources {
            memory_limit,
            cpu_limit,
            config,
            environment,
            volume_mounts,
            allowed_hosts,
            allowed_ip_name_lookups,
            allowed_host_loopback_ports,
        };
        let local_resources = resources.resolve(path, cx);
        let image = resolve_image(&join(path, "image"), &image, digests, cx)?;
        Some(ComponentSpec {
            name: ComponentName::from(name),
            image,
            pull_policy: pull_policy.resolve(),
            pull_secret: None,
            pool_size: NonZeroU32::new(pool_size),
            max_invocations: NonZeroU32::new(max_invocations),
            max_concurrency: NonZeroU32::new(max_concurrency),
            local_resources,
        })
    }
}

impl FileService {
    fn resolve(self, path: &str, digests: &mut Vec<String>, cx: &mut Resolver<'_>) -> Option<ServiceSpec> {
        let Self {
            image,
            pull_policy,
            max_restarts,
            memory_limit,
            cpu_limit,
            config,
            environment,
            volume_mounts,
            allowed_hosts,
            allowed_ip_name_lookups,
            allowed_host_loopback_ports,
        } = self;
        let resources = FileResources {
            memory_limit,
            cpu_limit,
            config,
            environment,
            volume_mounts,
            allowed_hosts,
            allowed_ip_name_lookups,
            allowed_host_loopback_ports,
        };
        let local_resources = resources.resolve(path, cx);
        let image = resolve_image(&join(path, "image"), &image, digests, cx)?;
        let pull_policy = pull_policy.resolve();
        Some(ServiceSpec { image, pull_policy, pull_secret: None, max_restarts, local_resources })
    }
}

impl FilePullPolicy {
    fn resolve(self) -> PullPolicy {
        match self {
            Self::Unspecified => PullPolicy::Unspecified,
            Self::Always => PullPolicy::Always,
            Self::IfNotPresent => PullPolicy::IfNotPresent,
            Self::Never => PullPolicy::Never,
        }
    }
}
