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
use crate::config::scalar::FileSize;
use crate::types::{
    ArtifactSource, ComponentName, ComponentSpec, LocalResources, Millicores, PullPolicy, VolumeMount, WorkloadId,
    WorkloadOrigin, WorkloadSpec,
};
use crate::wit::WitInterface;

/// A workload of the configuration file. Reload class: live, matched by (namespace, name).
#[derive(Debug, Clone, PartialEq)]
pub struct StaticWorkload {
    /// `static/<namespace>/<name>`
    pub id: WorkloadId,
    /// What it is asked to be.
    pub spec: Arc<WorkloadSpec>,
    /// SHA-256 of each `file:` image, in the order of the components: a changed file is a changed workload.
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
    #[schemars(extend("x-washlet-todo" = true))]
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
    pub(super) allowed_host_loopback_ports: Vec<String>,
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
    /// Failures after which it is given up.
    pub(super) max_restarts: u64,
    /// Linear memory.
    pub(super) memory_limit: Option<FileSize>,
    /// Processor time, in millicores.
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
    pub(super) allowed_host_loopback_ports: Vec<String>,
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
        if let Some(first) = seen.insert(id.clone(), join(&path, "name")) {
            let message = format!("workload {}/{} is listed twice", workload.namespace, workload.name);
            cx.error_both(&join(&path, "name"), &first, &message);
        }
        resolved.push(workload.resolve(&path, id, cx));
    }
    resolved
}

impl FileWorkload {
    fn resolve(self, path: &str, id: WorkloadId, cx: &mut Resolver<'_>) -> StaticWorkload {
        let Self { name, namespace, annotations, host_interfaces, components, service: _, volumes } = self;
        for (key, value) in [("name", &name), ("namespace", &namespace)] {
            if !is_dns_subdomain(value) {
                cx.error(&join(path, key), "expected lower-case letters, digits, `-` and `.`, at most 253 characters");
            }
        }
        let at = join(path, "host_interfaces");
        let host_interfaces = host_interfaces.into_iter().enumerate();
        let host_interfaces = host_interfaces.filter_map(|(i, it)| it.resolve(&index(&at, i), cx)).collect();
        let volumes = BTreeSet::from_iter(volumes.into_iter().map(|volume| volume.name));
        let mut names = BTreeMap::new();
        let mut file_digests = Vec::new();
        let mut resolved = Vec::with_capacity(components.len());
        for (i, component) in components.into_iter().enumerate() {
            let at = index(&join(path, "components"), i);
            if let Some(first) = names.insert(component.name.clone(), join(&at, "name")) {
                let message = format!("two components of this workload are called {}", component.name);
                cx.error_both(&join(&at, "name"), &first, &message);
            }
            for (i, mount) in component.volume_mounts.iter().enumerate() {
                if !volumes.contains(&mount.name) {
                    let at = join(&index(&join(&at, "volume_mounts"), i), "name");
                    cx.error(&at, format!("no volume of this workload is called {}", mount.name));
                }
            }
            resolved.extend(component.resolve(&at, &mut file_digests, cx));
        }
        let spec = WorkloadSpec {
            origin: WorkloadOrigin::Static,
            namespace,
            name,
            annotations,
            components: resolved,
            service: None,
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
        let volume_mounts = volume_mounts.into_iter().map(|mount| {
            let FileVolumeMount { name, mount_path, read_only } = mount;
            VolumeMount { name, mount_path, read_only }
        });
        let local_resources = LocalResources {
            memory_limit: memory_limit.map(|size| size.0),
            cpu_limit: cpu_limit.map(Millicores),
            config,
            environment,
            volume_mounts: volume_mounts.collect(),
            allowed_hosts,
            allowed_ip_name_lookups,
            allowed_host_loopback_ports,
        };
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

/// A `file:` image is read and digested; of an OCI reference only the outline is checked, the rest is the registry's.
fn resolve_image(path: &str, image: &str, digests: &mut Vec<String>, cx: &mut Resolver<'_>) -> Option<ArtifactSource> {
    let Some(file) = image.strip_prefix("file:") else {
        let has_bad_character = image.contains(|c: char| c.is_whitespace() || c.is_control());
        if image.is_empty() || image.contains("://") || has_bad_character {
            cx.error(path, "expected an image such as \"ghcr.io/owner/name:1.0\" or \"file:./name.wasm\"");
            return None;
        }
        return Some(ArtifactSource::Oci(image.to_owned()));
    };
    if file.is_empty() {
        cx.error(path, "expected a path behind `file:`");
        return None;
    }
    let file = cx.absolute_path(path, file.into());
    digests.push(cx.image_digest(path, &file)?);
    Some(ArtifactSource::File(file))
}
