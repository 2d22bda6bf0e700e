//! The operator's side of the messages, for tools: requests out, answers and heartbeats in.

use serde_json::{Map, Value};

use super::reply::Reply;
use super::request::{Malformed, WirePullPolicy, decode};
use crate::types::{
    ArtifactSource, ComponentSpec, HostPathVolume, LocalResources, PullPolicy, PullSecret, ServiceSpec, VolumeKind,
    VolumeMount, VolumeSpec, WorkloadSpec, WorkloadState,
};
use crate::wit::WitInterface;

/// What a heartbeat says of its host, as far as people want to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenHost {
    pub(crate) id: String,
    /// For people.
    pub(crate) name: String,
    /// Its address.
    pub(crate) hostname: String,
    /// The label `hostgroup`.
    pub(crate) group: String,
    pub(crate) environment: String,
    pub(crate) version: String,
    /// 0 without HTTP.
    pub(crate) http_port: u16,
    pub(crate) workloads: u64,
    pub(crate) components: u64,
}

/// In the order of the protocol's numbers.
const STATES: [(&str, WorkloadState); 7] = [
    ("WORKLOAD_STATE_UNSPECIFIED", WorkloadState::Unspecified),
    ("WORKLOAD_STATE_STARTING", WorkloadState::Starting),
    ("WORKLOAD_STATE_RUNNING", WorkloadState::Running),
    ("WORKLOAD_STATE_COMPLETED", WorkloadState::Completed),
    ("WORKLOAD_STATE_STOPPING", WorkloadState::Stopping),
    ("WORKLOAD_STATE_ERROR", WorkloadState::Error),
    ("WORKLOAD_STATE_NOT_FOUND", WorkloadState::NotFound),
];

impl SeenHost {
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        decode(payload, |fields| {
            Ok(Self {
                id: fields.string("id")?,
                name: fields.string("friendlyName")?,
                hostname: fields.string("hostname")?,
                group: fields.map("labels")?.remove("hostgroup").unwrap_or_default(),
                environment: fields.string("environment")?,
                version: fields.string("version")?,
                http_port: fields.integer("httpPort")?,
                workloads: fields.integer("workloadCount")?,
                components: fields.integer("componentCount")?,
            })
        })
    }
}

impl Reply {
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let names = STATES.map(|(name, _)| name);
        let read = |fields: super::value::Fields<'_>| {
            let state = fields.enumeration("workloadState", &names)?;
            let state = STATES.get(state).map_or(WorkloadState::Unspecified, |(_, state)| *state);
            Ok((fields.string("workloadId")?, state, fields.string("message")?))
        };
        let (workload_id, state, message) = decode(payload, |fields| fields.message("workloadStatus", read))?
            .unwrap_or((String::new(), WorkloadState::Unspecified, String::new()));
        Ok(Self { workload_id, state, message })
    }
}

/// A workload as a start carries it.
pub(crate) fn encode_workload(spec: &WorkloadSpec) -> Value {
    let WorkloadSpec { origin: _, namespace, name, annotations, components, service, host_interfaces, volumes } = spec;
    message([
        ("namespace", namespace.as_str().into()),
        ("name", name.as_str().into()),
        ("annotations", texts(annotations)),
        ("service", service.as_ref().map_or(Value::Null, service_of)),
        (
            "witWorld",
            message([
                ("components", components.iter().map(component_of).collect()),
                ("hostInterfaces", host_interfaces.iter().map(interface_of).collect()),
            ]),
        ),
        ("volumes", volumes.iter().map(volume_of).collect()),
    ])
}

fn component_of(component: &ComponentSpec) -> Value {
    let ComponentSpec {
        name,
        image,
        pull_policy,
        pull_secret,
        pool_size,
        max_invocations,
        max_concurrency,
        local_resources,
    } = component;
    let number = |number: Option<std::num::NonZeroU32>| number.map_or(0, std::num::NonZeroU32::get).into();
    message([
        ("name", name.as_str().into()),
        ("image", image_of(image)),
        ("imagePullPolicy", policy_of(*pull_policy)),
        ("imagePullSecret", secret_of(pull_secret.as_ref())),
        ("poolSize", number(*pool_size)),
        ("maxInvocations", number(*max_invocations)),
        ("maxConcurrency", number(*max_concurrency)),
        ("localResources", resources_of(local_resources)),
    ])
}

fn service_of(service: &ServiceSpec) -> Value {
    let ServiceSpec { image, pull_policy, pull_secret, max_restarts, local_resources } = service;
    let max_restarts = if *max_restarts == 0 { String::new() } else { max_restarts.to_string() };
    message([
        ("image", image_of(image)),
        ("imagePullPolicy", policy_of(*pull_policy)),
        ("imagePullSecret", secret_of(pull_secret.as_ref())),
        ("maxRestarts", max_restarts.into()),
        ("localResources", resources_of(local_resources)),
    ])
}

fn resources_of(resources: &LocalResources) -> Value {
    let LocalResources {
        memory_limit,
        cpu_limit,
        config,
        environment,
        volume_mounts,
        allowed_hosts,
        allowed_ip_name_lookups,
        allowed_host_loopback_ports,
    } = resources;
    let mounts = volume_mounts.iter().map(|VolumeMount { name, mount_path, read_only }| {
        message([
            ("name", name.as_str().into()),
            ("mountPath", mount_path.as_str().into()),
            ("readOnly", (*read_only).into()),
        ])
    });
    message([
        // The wire knows whole mebibytes only.
        ("memoryLimitMb", memory_limit.map_or(0, |limit| limit.get().div_ceil(1 << 20)).into()),
        ("cpuLimit", cpu_limit.map_or(0, |limit| limit.0).into()),
        ("config", texts(config)),
        ("environment", texts(environment)),
        ("volumeMounts", mounts.collect()),
        ("allowedHosts", allowed_hosts.as_slice().into()),
        ("allowedIpNameLookups", allowed_ip_name_lookups.as_slice().into()),
        ("allowedHostLoopbackPorts", allowed_host_loopback_ports.as_slice().into()),
    ])
}

fn interface_of(interface: &WitInterface) -> Value {
    let WitInterface { namespace, package, interfaces, version, config, name } = interface;
    message([
        ("namespace", namespace.as_str().into()),
        ("package", package.as_str().into()),
        ("version", version.as_ref().map(ToString::to_string).into()),
        ("interfaces", interfaces.iter().map(String::as_str).collect()),
        ("config", texts(config)),
        ("name", name.as_deref().into()),
    ])
}

fn volume_of(volume: &VolumeSpec) -> Value {
    let VolumeSpec { name, kind } = volume;
    let host_path = match kind {
        // Neither of the two is an empty directory.
        VolumeKind::EmptyDir => Value::Null,
        VolumeKind::HostPath(HostPathVolume { local_path }) => {
            message([("localPath", local_path.display().to_string().into())])
        }
    };
    message([("name", name.as_str().into()), ("hostPath", host_path)])
}

fn image_of(image: &ArtifactSource) -> Value {
    image.to_string().into()
}

fn policy_of(policy: PullPolicy) -> Value {
    let [_the_default, always, if_not_present, never] = WirePullPolicy::NAMES;
    match policy {
        PullPolicy::Unspecified => Value::Null,
        PullPolicy::Always => always.into(),
        PullPolicy::IfNotPresent => if_not_present.into(),
        PullPolicy::Never => never.into(),
    }
}

fn secret_of(secret: Option<&PullSecret>) -> Value {
    secret.map_or(Value::Null, |PullSecret { username, password }| {
        message([("username", username.as_str().into()), ("password", password.as_str().into())])
    })
}

fn texts(map: &std::collections::BTreeMap<String, String>) -> Value {
    Value::Object(map.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect())
}

/// An object without the fields that have their default.
fn message<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_u64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(object) => !object.is_empty(),
    };
    let set = fields.into_iter().filter(|(_, value)| is_set(value));
    Value::Object(set.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::super::request::StartRequest;
    use super::*;

    fn example(name: &str) -> Vec<u8> {
        std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire").join(name)).unwrap()
    }

    fn spec(payload: &[u8]) -> WorkloadSpec {
        StartRequest::decode(payload).unwrap().workload.unwrap().try_into().unwrap()
    }

    #[test]
    fn a_workload_is_read_back_as_it_was() {
        for name in ["request_workload_start_full.json", "request_workload_start_minimal.json"] {
            let spec_before = spec(&example(name));
            let start = message([("workload", encode_workload(&spec_before))]);
            assert_eq!(spec(start.to_string().as_bytes()), spec_before, "{name}");
        }
    }

    #[test]
    fn answers_are_read_as_they_were_written() {
        for (_, state) in STATES {
            let reply = Reply { workload_id: "w".to_owned(), state, message: "so".to_owned() };
            assert_eq!(Reply::decode(&reply.encode(1 << 20)).unwrap(), reply);
        }
        assert!(Reply::decode(b"{}").is_ok_and(|reply| reply.state == WorkloadState::Unspecified));
        assert!(Reply::decode(b"garbage").is_err());
    }

    #[test]
    fn a_heartbeat_is_read() {
        let seen = SeenHost::decode(&example("heartbeat_washlet.json")).unwrap();
        assert!(!seen.id.is_empty() && !seen.name.is_empty() && !seen.group.is_empty(), "{seen:?}");
        assert!(SeenHost::decode(&example("heartbeat_reference_host.json")).is_ok());
    }
}
