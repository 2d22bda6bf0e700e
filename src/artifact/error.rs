//! Why an artifact could not be had.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::content::ContentError;
use super::credentials::LoginSource;
use super::manifest::{ManifestError, shortened};
use crate::error::{Blame, Chain};
use crate::types::ByteSize;
use crate::types::digest::Digest;
use crate::types::reference::ReferenceError;

/// Why [`super::Artifacts`] could not open or get what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    #[error("cannot use {} as artifacts.cache_dir", path.display())]
    OpenCache { path: PathBuf, source: io::Error },
    #[error("invalid image reference `{text}`")]
    ParseReference { text: String, source: ReferenceError },
    #[error("cannot read {}", path.display())]
    ReadFile { path: PathBuf, source: io::Error },
    #[error("{} is not a file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is larger than registry.max_artifact_size, {max}", path.display())]
    FileTooLarge { path: PathBuf, max: ByteSize },
    #[error("cannot use {} as a component", path.display())]
    FileContent { path: PathBuf, source: ContentError },
    #[error("component not found in cache and pull policy is 'Never'")]
    NotCached,
    #[error("the cached copy of {reference} is damaged and pull policy is 'Never'")]
    CacheDamaged { reference: String },
    #[error("failed to pull component from {reference}")]
    Pull { reference: String, source: Arc<PullError> },
    #[error("timeout pulling component from {reference} after {timeout:?}: deadline has elapsed")]
    PullTimeout { reference: String, timeout: Duration },
    #[error("reading an artifact ended unexpectedly")]
    Task,
}

impl ArtifactError {
    /// Who has to act.
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::OpenCache { .. } => Blame::Configuration,
            Self::ParseReference { .. }
            | Self::ReadFile { .. }
            | Self::NotAFile { .. }
            | Self::FileTooLarge { .. }
            | Self::FileContent { .. }
            | Self::NotCached => Blame::Workload,
            Self::CacheDamaged { .. } | Self::Task => Blame::Host,
            Self::PullTimeout { .. } => Blame::Remote,
            Self::Pull { source, .. } => source.blame(),
        }
    }
}

/// What was being done when a pull failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Asking for a token.
    Login,
    /// Asking what a tag points to.
    Digest,
    /// Asking for the manifest.
    Manifest,
    /// Asking for the layer, or reading it.
    Layer,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Login => "log in to",
            Self::Digest => "get the digest from",
            Self::Manifest => "get the manifest from",
            Self::Layer => "get the layer from",
        })
    }
}

/// Why a pull failed; shared by all who waited for it, so it names no spelling of the reference.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(
        "cannot set up a client for registry {registry}; without ca-certificates on this machine no registry can be used"
    )]
    SetUpClient { registry: String, source: Detail },
    #[error("cannot {step} registry {registry}")]
    Connection { step: Step, registry: String, is_passing: bool, source: Detail },
    #[error("registry {registry} refused {login} with {status}")]
    Refused { registry: String, login: LoginSource, status: u16, source: Detail },
    #[error("cannot {step} registry {registry}: not found (404)")]
    NotFound { step: Step, registry: String, source: Detail },
    #[error("cannot {step} registry {registry}: it answered {status}")]
    Answer { step: Step, registry: String, status: u16, source: Detail },
    #[error("registry {registry} sent a token that cannot be used")]
    Token { registry: String },
    #[error("what registry {registry} sent is not what its digest says")]
    Digest { registry: String, source: Detail },
    #[error("cannot use the manifest {digest}")]
    Manifest { digest: Digest, source: ManifestError },
    #[error("its layer has {size} bytes, more than registry.max_artifact_size, {max}")]
    TooLarge { size: u64, max: ByteSize },
    #[error("its layer has {what} bytes than the {size} that the manifest says")]
    Size { what: &'static str, size: u64 },
    #[error("cannot use its layer {digest}")]
    Content { digest: Digest, source: ContentError },
    #[error("cannot read back the downloaded layer")]
    ReadBack { source: io::Error },
    #[error("deadline has elapsed")]
    Deadline,
    #[error("the pull ended unexpectedly")]
    Gone,
}

/// Whether, and how soon, trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The answer would be the same.
    No,
    /// A hiccup.
    Soon,
    /// The registry asked for patience.
    Later,
}

impl PullError {
    /// Whether the failure may pass by itself.
    pub(super) fn again(&self) -> Again {
        match self {
            Self::Connection { is_passing: true, .. } => Again::Soon,
            Self::Answer { status: 429, .. } => Again::Later,
            Self::Answer { status: 408 | 500..=599, .. } => Again::Soon,
            Self::SetUpClient { .. }
            | Self::Connection { is_passing: false, .. }
            | Self::Refused { .. }
            | Self::NotFound { .. }
            | Self::Answer { .. }
            | Self::Token { .. }
            | Self::Digest { .. }
            | Self::Manifest { .. }
            | Self::TooLarge { .. }
            | Self::Size { .. }
            | Self::Content { .. }
            | Self::ReadBack { .. }
            | Self::Deadline
            | Self::Gone => Again::No,
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Connection { .. }
            | Self::Answer { .. }
            | Self::Token { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::Deadline => Blame::Remote,
            Self::Refused { .. }
            | Self::NotFound { .. }
            | Self::Manifest { .. }
            | Self::TooLarge { .. }
            | Self::Content { .. } => Blame::Workload,
            Self::SetUpClient { .. } | Self::ReadBack { .. } | Self::Gone => Blame::Host,
        }
    }
}

/// The text of a cause that is a stranger's: one line, short, without addresses, which may carry signed queries.
#[derive(Debug)]
pub(crate) struct Detail(String);

impl Detail {
    /// What a registry said.
    pub(super) fn of_text(text: &str) -> Self {
        let text = shortened(text.trim());
        Self(if text.is_empty() { "no further text".to_owned() } else { text })
    }

    /// The causes of `error`, without its own text.
    pub(super) fn beneath(error: &dyn std::error::Error) -> Self {
        Self(error.source().map_or_else(|| "the connection broke off".to_owned(), |cause| Chain(cause).to_string()))
    }

    /// `error` and its causes.
    pub(super) fn of(error: &dyn std::error::Error) -> Self {
        Self(Chain(error).to_string())
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Detail {}
