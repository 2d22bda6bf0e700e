//! From a workload on the wire to the one checked form; every problem in it is reported at once.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use semver::Version;
use tracing::warn;

use super::request::{
    WireComponent, WireImage, WireInterface, WireMount, WirePullPolicy, WireResources, WireService, WireVolume,
    WireWorkload,
};
use crate::types::{
    ArtifactSource, ByteSize, ComponentName, ComponentSpec, HostPathVolume, LocalResources, Millicores, PullPolicy,
    PullSecret, ServiceSpec, VolumeKind, VolumeMount, VolumeSpec, WorkloadOrigin, WorkloadSpec,
};
use crate::wit::WitInterface;

/// A workload that can be read and yet can't be: one line or more per problem, as the contract words them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct InvalidWorkload(Vec<String>);

/// Whose image or resources a problem is about.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Component(&'a str),
    Service,
}

impl TryFrom<WireWorkload> for WorkloadSpec {
    type Error = InvalidWorkload;

    fn try_from(wire: WireWorkload) -> Result<Self, InvalidWorkload> {
        let WireWorkload { namespace, name, annotations, service, components, host_interfaces, volumes } = wire;
        let mut problems = Vec::new();
        let spec = Self {
            origin: WorkloadOrigin::Placed,
            namespace: if namespace.is_empty() { "default".to_owned() } else { namespace },
            name,
            annotations,
            components: components_of(components, &mut problems),
            service: service.map(|service| service_of(service, &mut problems)),
            host_interfaces: host_interfaces.into_iter().map(|wire| interface_of(wire, &mut problems)).collect(),
            volumes: volumes_of(volumes, &mut problems),
        };
        if problems.is_empty() { Ok(spec) } else { Err(InvalidWorkload(problems)) }
    }
}

fn components_of(wires: Vec<WireComponent>, problems: &mut Vec<String>) -> Vec<ComponentSpec> {
    let mut names = BTreeSet::new();
    let mut components = Vec::with_capacity(wires.len());
    for (index, wire) in wires.into_iter().enumerate() {
        let WireComponent { name, image, pool_size, max_invocations, max_concurrency, local_resources } = wire;
        let name = if name.is_empty() { format!("component-{index}") } else { name };
        if !names.insert(name.clone()) {
            problems.push(format!("component name '{name}' is used more than once"));
        }
        let owner = Owner::Component(&name);
        let (image, pull_policy, pull_secret) = image_of(image, owner, problems);
        components.push(ComponentSpec {
            image,
            pull_policy,
            pull_secret,
            pool_size: configured(pool_size),
            max_invocations: configured(max_invocations),
            max_concurrency: configured(max_concurrency),
            local_resources: resources_of(local_resources, owner, problems),
            name: ComponentName::from(name),
        });
    }
    components
}

fn service_of(wire: WireService, problems: &mut Vec<String>) -> ServiceSpec {
    let WireService { image, max_restarts, local_resources } = wire;
    let (image, pull_policy, pull_secret) = image_of(image, Owner::Service, problems);
    let local_resources = resources_of(local_resources, Owner::Service, problems);
    ServiceSpec { image, pull_policy, pull_secret, max_restarts, local_resources }
}

fn image_of(
    wire: WireImage,
    owner: Owner<'_>,
    problems: &mut Vec<String>,
) -> (ArtifactSource, PullPolicy, Option<PullSecret>) {
    let WireImage { reference, pull_policy, username, password } = wire;
    if reference.is_empty() {
        problems.push(format!("invalid image for {}: image is required", owner.words()));
    }
    // The operator may place what a registry serves; the machine's files are not its to read.
    if reference.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:")) {
        problems.push(format!("invalid image for {}: file images are not allowed", owner.words()));
    }
    let pull_policy = match pull_policy {
        WirePullPolicy::Unspecified => PullPolicy::Unspecified,
        WirePullPolicy::Always => PullPolicy::Always,
        WirePullPolicy::IfNotPresent => PullPolicy::IfNotPresent,
        WirePullPolicy::Never => PullPolicy::Never,
    };
    let is_given = !username.is_empty() || !password.is_empty();
    (ArtifactSource::Oci(reference), pull_policy, is_given.then_some(PullSecret { username, password }))
}

fn resources_of(wire: WireResources, owner: Owner<'_>, problems: &mut Vec<String>) -> LocalResources {
    let WireResources {
        memory_limit_mb,
        cpu_limit,
        config,
        environment,
        volume_mounts,
        allowed_hosts,
        allowed_ip_name_lookups,
        allowed_host_loopback_ports,
    } = wire;
    let resources = LocalResources {
        memory_limit: configured(memory_limit_mb).map(|mib| ByteSize::mib(u64::from(mib.get()))),
        cpu_limit: configured(cpu_limit).map(|millicores| Millicores(millicores.get())),
        config,
        environment,
        volume_mounts: volume_mounts.into_iter().map(|mount| mount_of(mount, owner, problems)).collect(),
        allowed_hosts,
        allowed_ip_name_lookups,
        allowed_host_loopback_ports,
    };
    for bad in resources.bad_entries() {
        problems.push(format!("invalid local_resources for {}: {bad}", owner.plain_words()));
    }
    resources
}

fn mount_of(wire: WireMount, owner: Owner<'_>, problems: &mut Vec<String>) -> VolumeMount {
    let WireMount { name, mount_path, read_only } = wire;
    if !mount_path.starts_with('/') {
        problems.push(format!("{} mounts volume '{name}' at a path that is not absolute", owner.words()));
    }
    VolumeMount { name, mount_path, read_only }
}

fn volumes_of(wires: Vec<WireVolume>, problems: &mut Vec<String>) -> Vec<VolumeSpec> {
    let mut names = BTreeSet::new();
    let mut volumes = Vec::with_capacity(wires.len());
    for WireVolume { name, host_path } in wires {
        if !names.insert(name.clone()) {
            problems.push(format!("volume name '{name}' is used more than once"));
        }
        let kind = match host_path {
            None => VolumeKind::EmptyDir,
            Some(path) => {
                if !Path::new(&path).is_absolute() {
                    problems.push(format!("HostPath volume '{path}' is not an absolute path"));
                }
                VolumeKind::HostPath(HostPathVolume { local_path: PathBuf::from(path) })
            }
        };
        volumes.push(VolumeSpec { name, kind });
    }
    volumes
}

fn interface_of(wire: WireInterface, problems: &mut Vec<String>) -> WitInterface {
    let WireInterface { namespace, package, version, interfaces, config, name } = wire;
    if !name.is_empty() && !is_label(&name) {
        problems.push(format!(
            "host interface {namespace}:{package} has the name '{name}': only a-z, 0-9 and '-' are allowed, up to 64, \
             and not '-' first"
        ));
    }
    let parsed = if version.is_empty() { None } else { Version::parse(&version).ok() };
    if !version.is_empty() && parsed.is_none() {
        warn!(interface = %format_args!("{namespace}:{package}"), version, "interface version is not SemVer, ignored");
    }
    WitInterface {
        namespace,
        package,
        interfaces: interfaces.into_iter().collect(),
        version: parsed,
        config,
        name: (!name.is_empty()).then_some(name),
    }
}

fn is_label(name: &str) -> bool {
    name.len() <= 64
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Zero and less mean "not configured".
fn configured(number: i32) -> Option<NonZeroU32> {
    u32::try_from(number).ok().and_then(NonZeroU32::new)
}

impl Owner<'_> {
    fn words(self) -> String {
        match self {
            Self::Component(name) => format!("component '{name}'"),
            Self::Service => "the workload service".to_owned(),
        }
    }

    /// As the contract pins it for local resources: without quotes.
    fn plain_words(self) -> String {
        match self {
            Self::Component(name) => format!("component {name}"),
            Self::Service => "service".to_owned(),
        }
    }
}
