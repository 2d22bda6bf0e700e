//! Who the host is, from one start to the next.

use serde::{Deserialize, Serialize};

use crate::types::HostId;

/// The host's id, and the name that people know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// A random one, made once.
    pub(crate) host_id: HostId,
    /// Made from the id; used if the configuration gives no name.
    pub(crate) generated_name: String,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    host_id: String,
    generated_name: String,
}

impl Identity {
    /// A new one; `name_of` makes the name.
    pub(crate) fn random(name_of: impl FnOnce(&HostId) -> String) -> Self {
        let host_id = HostId::random();
        Self { generated_name: name_of(&host_id), host_id }
    }

    /// What [`Identity::encode`] wrote; `None` if it did not.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let Stored { host_id, generated_name } = serde_json::from_slice(bytes).ok()?;
        let host_id = HostId::try_from(host_id.as_str()).ok()?;
        (!generated_name.is_empty()).then_some(Self { host_id, generated_name })
    }

    pub(super) fn encode(&self) -> String {
        let Self { host_id, generated_name } = self;
        format!("{}\n", serde_json::json!({ "host_id": host_id.as_str(), "generated_name": generated_name }))
    }
}
