//! What is asked of a registry, and what its answers mean.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciEnvelope, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use super::credentials::{Login, LoginSource};
use super::error::{Detail, PullError, Step};
use super::manifest::MANIFEST_TYPES;
use crate::config::Registry;
use crate::task;
use crate::types::digest::Digest;
use crate::types::reference::{ImageReference, Version};

/// How to reach one registry.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Plain HTTP.
    pub(super) is_insecure: bool,
    /// Silence that ends an attempt.
    pub(super) silence_max: Duration,
    pub(super) login: Login,
}

impl Access {
    /// As `settings` say for `registry`.
    pub(super) fn new(settings: &Registry, registry: &str, login: Login) -> Self {
        let is_host = |host: &str| crate::types::reference::canonical_registry(host) == registry;
        let is_insecure =
            settings.allow_insecure || settings.hosts.iter().any(|(host, table)| is_host(host) && table.insecure);
        // With further attempts to come, one silent connection must leave time for another.
        let silence_max = if settings.pull_retries == 0 { settings.pull_timeout } else { settings.pull_timeout / 2 };
        Self { is_insecure, silence_max, login }
    }
}

/// A connection to the repository of one image, with its login. Made per pull, because the client underneath keeps the
/// first login it sees for a registry.
pub(super) struct Repository {
    client: Client,
    auth: RegistryAuth,
    image: Reference,
    registry: String,
    login: LoginSource,
}

/// The bytes of a layer.
pub(super) struct LayerStream {
    /// The offset of the first byte; not always the one asked for.
    pub(super) begins_at: u64,
    pub(super) chunks: BoxStream<'static, Result<Bytes, PullError>>,
}

impl Repository {
    /// Sets up the client; sends nothing yet.
    pub(super) async fn open(reference: &ImageReference, access: Access) -> Result<Self, PullError> {
        let registry = reference.registry().to_owned();
        let config = ClientConfig {
            protocol: if access.is_insecure { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(access.silence_max),
            read_timeout: Some(access.silence_max),
            user_agent: concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        // Reads the system's certificates; `Client::new` would hide that there are none.
        let client = task::blocking("registry client", move || Client::try_from(config))
            .await
            .ok_or(PullError::Gone)?
            .map_err(|error| PullError::SetUpClient { registry: registry.clone(), source: Detail::of(&error) })?;
        let auth = match access.login.user {
            Some((username, password)) => RegistryAuth::Basic(username, password.expose().to_owned()),
            None => RegistryAuth::Anonymous,
        };
        let (host, repository) = (registry.clone(), reference.repository().to_owned());
        let image = match reference.version() {
            Version::Tag(tag) => Reference::with_tag(host, repository, tag.clone()),
            Version::Digest(digest) => Reference::with_digest(host, repository, digest.to_string()),
        };
        Ok(Self { client, auth, image, registry, login: access.login.source })
    }

    /// The name of the registry.
    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    /// Gets a token if the registry wants one. Later requests would do so by themselves, but swallow its failure.
    pub(super) async fn log_in(&self) -> Result<(), PullError> {
        let token = self
            .client
            .auth(&self.image, &self.auth, RegistryOperation::Pull)
            .await
            .map_err(|error| self.explain(Step::Login, error))?;
        match token {
            // The client panics over a token that cannot be a header.
            Some(token) if http::HeaderValue::from_str(&token).is_err() => {
                Err(PullError::Token { registry: self.registry.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The digest that the image's tag points to, without its manifest where the registry can do that.
    pub(super) async fn digest(&self) -> Result<String, PullError> {
        self.client
            .fetch_manifest_digest(&self.image, &self.auth)
            .await
            .map_err(|error| self.explain(Step::Digest, error))
    }

    /// The manifest of the image, or another one of its repository.
    pub(super) async fn manifest(&self, digest: Option<&Digest>) -> Result<Bytes, PullError> {
        let other = digest.map(|digest| self.image.clone_with_digest(digest.to_string()));
        let image = other.as_ref().unwrap_or(&self.image);
        self.client
            .pull_manifest_raw(image, &self.auth, &MANIFEST_TYPES)
            .await
            .map(|(body, _digest)| body)
            .map_err(|error| self.explain(Step::Manifest, error))
    }

    /// The bytes of a layer from `offset` on, or from the start if the registry cannot do that.
    pub(super) async fn layer(&self, digest: &Digest, offset: u64) -> Result<LayerStream, PullError> {
        self.client.store_auth_if_needed(self.image.resolve_registry(), &self.auth).await;
        // The digest alone: with a whole descriptor the client would follow any address that the manifest names.
        let digest = digest.to_string();
        let response = if offset == 0 {
            self.client.pull_blob_stream(&self.image, digest.as_str()).await.map(BlobResponse::Full)
        } else {
            self.client.pull_blob_stream_partial(&self.image, digest.as_str(), offset, None).await
        };
        let (begins_at, stream) = match response.map_err(|error| self.explain(Step::Layer, error))? {
            BlobResponse::Full(stream) => (0, stream.stream),
            BlobResponse::Partial(stream) => (offset, stream.stream),
        };
        let registry = self.registry.clone();
        let chunks = stream.map(move |chunk| chunk.map_err(|error| broken_body(&registry, &error))).boxed();
        Ok(LayerStream { begins_at, chunks })
    }

    fn explain(&self, step: Step, error: OciDistributionError) -> PullError {
        let registry = self.registry.clone();
        let refused =
            |status, source| PullError::Refused { registry: self.registry.clone(), login: self.login, status, source };
        match error {
            OciDistributionError::UnauthorizedError { url: _ } => refused(401, Detail::of_text("")),
            OciDistributionError::AuthenticationFailure(reason) => refused(401, Detail::of_text(&reason)),
            OciDistributionError::ServerError { code: status @ (401 | 403), url: _, message } => {
                refused(status, Detail::of_text(&message))
            }
            OciDistributionError::ServerError { code: 404, url: _, message } => {
                PullError::NotFound { step, registry, source: Detail::of_text(&message) }
            }
            OciDistributionError::ServerError { code: status, url: _, message } => {
                PullError::Answer { step, registry, status, source: Detail::of_text(&message) }
            }
            OciDistributionError::RegistryError { envelope, url: _ } => match status_of(&envelope) {
                status @ (401 | 403) => refused(status, detail_of(&envelope)),
                404 => PullError::NotFound { step, registry, source: detail_of(&envelope) },
                status => PullError::Answer { step, registry, status, source: detail_of(&envelope) },
            },
            OciDistributionError::DigestError(error) => PullError::Digest { registry, source: Detail::of(&error) },
            OciDistributionError::RequestError(error) => {
                let is_passing = !error.is_builder() && !error.is_redirect();
                let source = Detail::of(&error.without_url());
                PullError::Connection { step, registry, is_passing, source }
            }
            other => PullError::Connection { step, registry, is_passing: false, source: Detail::of(&other) },
        }
    }
}

/// The status that an error of the distribution specification comes with; the client does not keep the real one.
fn status_of(envelope: &OciEnvelope) -> u16 {
    match envelope.errors.first().map(|error| &error.code) {
        Some(OciErrorCode::Unauthorized) => 401,
        Some(OciErrorCode::Denied) => 403,
        Some(
            OciErrorCode::BlobUnknown
            | OciErrorCode::ManifestBlobUnknown
            | OciErrorCode::ManifestUnknown
            | OciErrorCode::NameUnknown
            | OciErrorCode::NotFound,
        ) => 404,
        Some(OciErrorCode::Toomanyrequests) => 429,
        Some(_) | None => 400,
    }
}

fn detail_of(envelope: &OciEnvelope) -> Detail {
    let texts: Vec<&str> = envelope.errors.iter().map(|error| error.message.as_str()).collect();
    Detail::of_text(&texts.join("; "))
}

/// The stream wraps what went wrong in an `io::Error`; its own text would show an address after redirects.
fn broken_body(registry: &str, error: &std::io::Error) -> PullError {
    let registry = registry.to_owned();
    match error.get_ref() {
        Some(inner) => match inner.downcast_ref::<DigestError>() {
            Some(wrong) => PullError::Digest { registry, source: Detail::of(wrong) },
            None => {
                PullError::Connection { step: Step::Layer, registry, is_passing: true, source: Detail::beneath(inner) }
            }
        },
        None => PullError::Connection { step: Step::Layer, registry, is_passing: true, source: Detail::of(error) },
    }
}
