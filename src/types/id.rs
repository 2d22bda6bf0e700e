//! Identities: of the host, of workloads and components, and of applied configurations.

use std::fmt;
use std::sync::Arc;

macro_rules! shared_text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

shared_text_id! {
    /// The id under which a workload was started: the operator's, or `static/<namespace>/<name>`.
    WorkloadId
}
shared_text_id! {
    /// The name of a component inside its workload.
    ComponentName
}

impl WorkloadId {
    /// The id of a workload that the configuration file lists.
    #[must_use]
    pub fn of_static(namespace: &str, name: &str) -> Self {
        Self::from(format!("static/{namespace}/{name}"))
    }
}

/// The id of a host: one NATS token, `[A-Za-z0-9_-]+`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostId(Arc<str>);

/// A text that cannot be a host id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be a host id: only letters, digits, `_` and `-` are allowed")]
pub struct HostIdError(String);

impl HostId {
    /// A fresh random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Arc::from(uuid::Uuid::new_v4().to_string()))
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for HostId {
    type Error = HostIdError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err(HostIdError(text.to_owned()));
        }
        Ok(Self(Arc::from(text)))
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The number of an applied configuration; the first one is 1, and 0 is the empty host before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(u64);

impl Generation {
    /// The number of the configuration that would follow this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The plain number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
