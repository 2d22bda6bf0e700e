//! Why a workload does not start.

use std::time::Duration;

use crate::artifact::ArtifactError;
use crate::engine::compile::CompileError;
use crate::engine::link::LinkError;
use crate::engine::plan::MissingImports;
use crate::error::Blame;
use crate::plugin::BindError;
use crate::plugin::guest::AttachError;
use crate::types::ComponentName;
use crate::workload::binding::BindingError;
use crate::workload::service::ServiceError;

/// Why a workload does not start; the text is what the operator and people read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{0} is not implemented yet")]
    NotImplemented(&'static str),
    #[error("HostPath volume '{0}' is not allowed on this host")]
    HostPath(String),
    #[error("component name '{0}' is used twice in the workload")]
    DuplicateComponent(ComponentName),
    #[error(transparent)]
    Http(#[from] BindingError),
    #[error("failed to pull image for component '{component}'")]
    Pull {
        component: ComponentName,
        #[source]
        cause: ArtifactError,
    },
    #[error("failed to compile component '{component}'")]
    Compile {
        component: ComponentName,
        #[source]
        cause: CompileError,
    },
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Missing(#[from] MissingImports),
    #[error("failed to link component '{component}'")]
    Link {
        component: ComponentName,
        #[source]
        cause: LinkError,
    },
    #[error("plugin '{plugin}' failed to bind component '{component}'")]
    Bind {
        plugin: &'static str,
        component: ComponentName,
        #[source]
        cause: BindError,
    },
    #[error("component '{component}' exports '{export}' which nothing calls: enable [plugins.{plugin}]")]
    NotCalled { component: ComponentName, export: String, plugin: &'static str },
    #[error("plugin '{plugin}' failed to attach component '{component}'")]
    Attach {
        plugin: &'static str,
        component: ComponentName,
        #[source]
        cause: AttachError,
    },
    /// It goes on in the background, for the next try.
    #[error("not pulled and compiled within {}, trying on", humantime::format_duration(*.0))]
    NotInTime(Duration),
    /// A bug.
    #[error("the start panicked, the log of the host says where")]
    Panicked,
    /// The runtime that should have built it is going away.
    #[error("the host is stopping")]
    HostStopping,
}

impl StartError {
    /// Who has to act.
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::Pull { cause, .. } => cause.blame(),
            Self::Service(cause) => cause.blame(),
            Self::NotInTime(_) | Self::Attach { cause: AttachError::Unreachable(_), .. } => Blame::Remote,
            Self::Panicked | Self::HostStopping => Blame::Host,
            Self::NotImplemented(_)
            | Self::HostPath(_)
            | Self::DuplicateComponent(_)
            | Self::Http(_)
            | Self::Compile { .. }
            | Self::Missing(_)
            | Self::Link { .. }
            | Self::Bind { .. }
            | Self::NotCalled { .. }
            | Self::Attach { .. } => Blame::Workload,
        }
    }
}
