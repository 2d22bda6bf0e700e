//! What the operator asks, as it is written in JSON (package `wasmcloud.runtime.v2`): lenient in.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::value::{FieldError, Fields};

/// A start: what to start under which id. Both are required, which is not the decoder's business.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StartRequest {
    pub(crate) workload_id: String,
    pub(crate) workload: Option<WireWorkload>,
}

/// The only field of a status or stop request; empty if absent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IdRequest {
    pub(crate) workload_id: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WireWorkload {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) service: Option<WireService>,
    pub(super) components: Vec<WireComponent>,
    pub(super) host_interfaces: Vec<WireInterface>,
    pub(super) volumes: Vec<WireVolume>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct WireComponent {
    pub(super) name: String,
    pub(super) image: WireImage,
    pub(super) pool_size: i32,
    pub(super) max_invocations: i32,
    pub(super) max_concurrency: i32,
    pub(super) local_resources: WireResources,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct WireService {
    pub(super) image: WireImage,
    pub(super) max_restarts: u64,
    pub(super) local_resources: WireResources,
}

/// The three fields that component and service have in common.
#[derive(PartialEq, Eq)]
pub(super) struct WireImage {
    pub(super) reference: String,
    pub(super) pull_policy: WirePullPolicy,
    pub(super) username: String,
    pub(super) password: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WirePullPolicy {
    Unspecified,
    Always,
    IfNotPresent,
    Never,
}

/// May hold secrets, like the other messages with maps: `Debug` prints no values.
#[derive(Default, PartialEq, Eq)]
pub(super) struct WireResources {
    pub(super) memory_limit_mb: i32,
    pub(super) cpu_limit: i32,
    pub(super) config: BTreeMap<String, String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) volume_mounts: Vec<WireMount>,
    pub(super) allowed_hosts: Vec<String>,
    pub(super) allowed_ip_name_lookups: Vec<String>,
    pub(super) allowed_host_loopback_ports: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct WireMount {
    pub(super) name: String,
    pub(super) mount_path: String,
    pub(super) read_only: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct WireVolume {
    pub(super) name: String,
    /// The machine's path; `None`: a directory of the workload's own.
    pub(super) host_path: Option<String>,
}

#[derive(PartialEq, Eq)]
pub(super) struct WireInterface {
    pub(super) namespace: String,
    pub(super) package: String,
    pub(super) version: String,
    pub(super) interfaces: Vec<String>,
    pub(super) config: BTreeMap<String, String>,
    pub(super) name: String,
}

/// Why a request cannot be read, and whose it is if that much can be.
#[derive(Debug)]
pub(crate) struct Malformed {
    /// The id to echo; empty if there is none.
    pub(crate) workload_id: String,
    /// What is wrong with the rest.
    pub(crate) error: MalformedError,
}

/// What is wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MalformedError {
    /// Not one JSON value. The whole text is the parser's: it is what the reply says.
    #[error("{0}")]
    Json(serde_json::Error),
    /// JSON, but not an object.
    #[error("expected an object, got {0}")]
    Root(&'static str),
    /// A field is not what it must be.
    #[error(transparent)]
    Field(#[from] FieldError),
}

impl StartRequest {
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        decode(payload, |fields| {
            Ok(Self {
                workload_id: fields.string("workloadId")?,
                workload: fields.message("workload", WireWorkload::read)?,
            })
        })
    }
}

impl IdRequest {
    /// An empty payload is `{}`.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let payload = if payload.trim_ascii().is_empty() { b"{}" } else { payload };
        decode(payload, |fields| Ok(Self { workload_id: fields.string("workloadId")? }))
    }
}

pub(super) fn decode<T>(
    payload: &[u8],
    read: impl FnOnce(Fields<'_>) -> Result<T, FieldError>,
) -> Result<T, Malformed> {
    let anonymous = |error| Malformed { workload_id: String::new(), error };
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Err(anonymous(not_an_object(payload)));
    }
    let object: Map<String, Value> = serde_json::from_slice(payload).map_err(|e| anonymous(MalformedError::Json(e)))?;
    let fields = Fields::of_document(&object);
    read(fields).map_err(|error| Malformed {
        // If it is the id itself that is wrong, there is none to echo.
        workload_id: fields.string("workloadId").unwrap_or_else(|_not_text| String::new()),
        error: error.into(),
    })
}

/// Looks without building a document: a megabyte of `[{},{},...` would keep the control thread busy.
fn not_an_object(payload: &[u8]) -> MalformedError {
    match serde_json::from_slice::<IgnoredAny>(payload) {
        Err(e) => MalformedError::Json(e),
        Ok(IgnoredAny) => MalformedError::Root(match payload.trim_ascii_start().first() {
            Some(b'[') => "a list",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }),
    }
}

impl WireWorkload {
    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        let world = fields.message("witWorld", |world| {
            Ok((
                world.messages("components", WireComponent::read)?,
                world.messages("hostInterfaces", WireInterface::read)?,
            ))
        })?;
        let (components, host_interfaces) = world.unwrap_or((Vec::new(), Vec::new()));
        Ok(Self {
            namespace: fields.string("namespace")?,
            name: fields.string("name")?,
            annotations: fields.map("annotations")?,
            service: fields.message("service", WireService::read)?,
            components,
            host_interfaces,
            volumes: fields.messages("volumes", WireVolume::read)?,
        })
    }
}

impl WireComponent {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            name: fields.string("name")?,
            image: WireImage::read(fields)?,
            pool_size: fields.integer("poolSize")?,
            max_invocations: fields.integer("maxInvocations")?,
            max_concurrency: fields.integer("maxConcurrency")?,
            local_resources: fields.message("localResources", WireResources::read)?.unwrap_or_else(Default::default),
        })
    }
}

impl WireService {
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            image: WireImage::read(fields)?,
            max_restarts: fields.integer("maxRestarts")?,
            local_resources: fields.message("localResources", WireResources::read)?.unwrap_or_else(Default::default),
        })
    }
}

impl WireImage {
    /// `fields` are those of the component or service it belongs to.
    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        let secret = fields.message("imagePullSecret", |f| Ok((f.string("username")?, f.string("password")?)))?;
        let (username, password) = secret.unwrap_or((String::new(), String::new()));
        Ok(Self { reference: fields.string("image")?, pull_policy: WirePullPolicy::read(fields)?, username, password })
    }
}

impl WirePullPolicy {
    pub(super) const NAMES: [&str; 4] = [
        "IMAGE_PULL_POLICY_UNSPECIFIED",
        "IMAGE_PULL_POLICY_ALWAYS",
        "IMAGE_PULL_POLICY_IF_NOT_PRESENT",
        "IMAGE_PULL_POLICY_NEVER",
    ];

    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        Ok(match fields.enumeration("imagePullPolicy", &Self::NAMES)? {
            1 => Self::Always,
            2 => Self::IfNotPresent,
            3 => Self::Never,
            _ => Self::Unspecified,
        })
    }
}

impl WireResources {
    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            memory_limit_mb: fields.integer("memoryLimitMb")?,
            cpu_limit: fields.integer("cpuLimit")?,
            config: fields.map("config")?,
            environment: fields.map("environment")?,
            volume_mounts: fields.messages("volumeMounts", WireMount::read)?,
            allowed_hosts: fields.strings("allowedHosts")?,
            allowed_ip_name_lookups: fields.strings("allowedIpNameLookups")?,
            allowed_host_loopback_ports: fields.strings("allowedHostLoopbackPorts")?,
        })
    }
}

impl WireMount {
    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            name: fields.string("name")?,
            mount_path: fields.string("mountPath")?,
            read_only: fields.boolean("readOnly")?,
        })
    }
}

impl WireVolume {
    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        let host_path = fields.message("hostPath", |f| f.string("localPath"))?;
        let is_empty_dir = fields.message("emptyDir", |_nothing_in_it| Ok(()))?.is_some();
        if host_path.is_some() && is_empty_dir {
            return Err(fields.error("hostPath", "set together with emptyDir: a volume is one of the two"));
        }
        Ok(Self { name: fields.string("name")?, host_path })
    }
}

impl WireInterface {
    fn read(fields: Fields<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            namespace: fields.string("namespace")?,
            package: fields.string("package")?,
            version: fields.string("version")?,
            interfaces: fields.strings("interfaces")?,
            config: fields.map("config")?,
            name: fields.string("name")?,
        })
    }
}

/// Messages with secrets in them print their names only.
mod redacted {
    use std::fmt;

    use super::{WireImage, WireInterface, WireResources};

    impl fmt::Debug for WireImage {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("WireImage").field("reference", &self.reference).finish_non_exhaustive()
        }
    }

    impl fmt::Debug for WireResources {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("WireResources")
                .field("config", &self.config.keys())
                .field("environment", &self.environment.keys())
                .finish_non_exhaustive()
        }
    }

    impl fmt::Debug for WireInterface {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}:{}", self.namespace, self.package)
        }
    }
}
