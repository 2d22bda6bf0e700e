//! The nouns of the public API: plain values, no I/O, no async, no clock.

mod allow;
pub(crate) mod digest;
mod heartbeat;
pub(crate) mod host_name;
mod id;
mod quantity;
pub(crate) mod reference;
mod request;
mod spec;

pub use allow::{AllowError, AllowedHost, AllowedIpName, AllowedLoopbackPort, BadEntries, HostPattern, Transport};
pub use heartbeat::HostHeartbeat;
pub use id::{ComponentName, Generation, HostId, HostIdError, WorkloadId};
pub use quantity::{ByteSize, Millicores, QuantityError};
pub use request::{WorkloadState, WorkloadStatus};
pub use spec::{
    ArtifactSource, ComponentSpec, HostPathVolume, LocalResources, PullPolicy, PullSecret, ServiceSpec, VolumeKind,
    VolumeMount, VolumeSpec, WorkloadOrigin, WorkloadSpec,
};
