//! Whose login is used at a registry: the request's, the table's, docker's, nobody's, in that order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::config::{Registry, Secret};
use crate::task;
use crate::types::PullSecret;
use crate::types::digest::hex;
use crate::types::reference::canonical_registry;

/// Where docker keeps the login of its own registry.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name under which registries take an identity token as a password; others would need a token exchange
/// that the registry client cannot do.
const IDENTITY_TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";
/// Helpers are programs that may ask a cloud service; one that takes longer hangs.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
/// Helpers at once; each occupies a blocking thread for as long as it likes.
const HELPERS_MAX: usize = 4;

/// Where a login came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginSource {
    /// The workload's `imagePullSecret`.
    PullSecret,
    /// `[registry.hosts]`.
    Table,
    /// `config.json` of docker, or a helper that it names.
    DockerConfig,
    /// There is none.
    Anonymous,
}

impl fmt::Display for LoginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PullSecret => "the login of the image pull secret",
            Self::Table => "the login of [registry.hosts]",
            Self::DockerConfig => "the login of the docker configuration",
            Self::Anonymous => "anonymous access",
        })
    }
}

/// A login for one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) source: LoginSource,
    pub(super) user: Option<(String, Secret)>,
}

impl Login {
    /// No login.
    pub(super) fn anonymous() -> Self {
        Self { source: LoginSource::Anonymous, user: None }
    }

    fn of(source: LoginSource, username: String, password: &str) -> Self {
        Self { source, user: Some((username, Secret::new(password))) }
    }

    /// Tells logins apart without saying anything about them to whoever lacks `key`.
    pub(super) fn fingerprint(&self, registry: &str, key: &[u8; 32]) -> Fingerprint {
        let Some((username, password)) = &self.user else {
            return Fingerprint::anonymous();
        };
        let mut inner = Sha256::new_with_prefix(key);
        for part in [registry, username, password.expose()] {
            inner.update(part.len().to_le_bytes());
            inner.update(part);
        }
        // Keyed inside and outside, so that the length of the inner message cannot be extended.
        let outer = Sha256::new_with_prefix(key).chain_update(inner.finalize()).finalize();
        Fingerprint(hex(&outer))
    }
}

/// Equal for equal logins at the same registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Fingerprint(String);

impl Fingerprint {
    /// Of no login at all: what it may have, everyone may.
    pub(super) fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }
}

/// Finds logins; the handle to the helpers that may be running.
#[derive(Debug, Clone)]
pub(super) struct Logins {
    helpers: Arc<Semaphore>,
}

impl Logins {
    pub(super) fn new() -> Self {
        Self { helpers: Arc::new(Semaphore::new(HELPERS_MAX)) }
    }

    /// The login for `registry`. May run a credential helper, for at most [`HELPER_TIMEOUT`].
    pub(super) async fn find(&self, registry: &str, secret: Option<&PullSecret>, settings: &Registry) -> Login {
        if let Some(PullSecret { username, password }) = secret
            && !(username.is_empty() && password.is_empty())
        {
            return Login::of(LoginSource::PullSecret, username.clone(), password);
        }
        let table = settings.hosts.iter().find(|(host, _)| canonical_registry(host) == registry);
        if let Some((username, password)) = table.and_then(|(_, host)| host.login.as_ref()) {
            return Login::of(LoginSource::Table, username.clone(), password.expose());
        }
        self.docker(registry).await.unwrap_or_else(Login::anonymous)
    }

    async fn docker(&self, registry: &str) -> Option<Login> {
        let server = docker_key(registry).to_owned();
        let helpers = Arc::clone(&self.helpers);
        let lookup = async {
            let permit = helpers.acquire_owned().await.ok()?;
            task::blocking("docker credentials", move || {
                let credential = docker_credential::get_credential(&server);
                drop(permit);
                credential
            })
            .await
        };
        match tokio::time::timeout(HELPER_TIMEOUT, lookup).await {
            Ok(found) => found.and_then(|found| docker_login(registry, found)),
            Err(_elapsed) => {
                warn!(registry, after = ?HELPER_TIMEOUT, "docker credential helper did not answer, going on without");
                None
            }
        }
    }
}

/// The key of `registry` in docker's configuration.
fn docker_key(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB_KEY } else { registry }
}

fn docker_login(registry: &str, found: Result<DockerCredential, CredentialRetrievalError>) -> Option<Login> {
    match found {
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Some(Login::of(LoginSource::DockerConfig, username, &password))
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            Some(Login::of(LoginSource::DockerConfig, IDENTITY_TOKEN_USER.to_owned(), &token))
        }
        Err(error) => {
            // Neither the error nor what the helper printed is logged: it may hold what it failed to hand out.
            let problem = match &error {
                CredentialRetrievalError::NoCredentialConfigured
                | CredentialRetrievalError::ConfigNotFound
                | CredentialRetrievalError::ConfigReadError => None,
                CredentialRetrievalError::HelperFailure { stdout, .. } if stdout.contains("credentials not found") => {
                    None
                }
                CredentialRetrievalError::HelperFailure { .. } => Some("a credential helper failed"),
                CredentialRetrievalError::HelperCommunicationError => Some("a credential helper could not be run"),
                CredentialRetrievalError::MalformedHelperResponse => Some("a credential helper's answer is malformed"),
                CredentialRetrievalError::CredentialDecodingError => Some("the `auth` entry cannot be decoded"),
                CredentialRetrievalError::CredentialMismatchError => {
                    Some("the `auth` entry differs from user name and password")
                }
            };
            match problem {
                Some(problem) => warn!(registry, problem, "docker configuration gives no login, going on without"),
                None => debug!(registry, "no login configured"),
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RegistryHost;

    const KEY: [u8; 32] = [7; 32];

    fn secret(username: &str, password: &str) -> PullSecret {
        PullSecret { username: username.to_owned(), password: password.to_owned() }
    }

    fn with_table(host: &str) -> Registry {
        let login = Some(("table".to_owned(), Secret::new("pw")));
        Registry { hosts: [(host.to_owned(), RegistryHost { insecure: false, login })].into(), ..Registry::default() }
    }

    #[tokio::test]
    async fn the_pull_secret_comes_before_the_table() {
        let settings = with_table("r.example");
        let logins = Logins::new();
        let login = logins.find("r.example", Some(&secret("u", "p")), &settings).await;
        assert_eq!(login, Login::of(LoginSource::PullSecret, "u".into(), "p"));
        let empty = logins.find("r.example", Some(&secret("", "")), &settings).await;
        assert_eq!(empty, Login::of(LoginSource::Table, "table".into(), "pw"));
        let alias = logins.find("docker.io", None, &with_table("index.docker.io")).await;
        assert_eq!(alias.source, LoginSource::Table);
    }

    fn from_docker_config(config: &serde_json::Value, registry: &str) -> Option<Login> {
        let found = docker_credential::get_credential_from_reader(config.to_string().as_bytes(), docker_key(registry));
        docker_login(registry, found)
    }

    #[test]
    fn the_docker_configuration_is_read_by_registry() {
        let config = serde_json::json!({
            "auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
                "localhost:5000": {"auth": "bG9jYWw6cDp3"},
                "broken.example": {"auth": "!"},
                "token.example": {"identitytoken": "t"},
            },
            "credHelpers": {"helped.example": "washlet-test-helper-that-does-not-exist"},
        });
        let user = |registry: &str| {
            from_docker_config(&config, registry)
                .and_then(|login| login.user)
                .map(|(user, password)| format!("{user} {}", password.expose()))
        };
        assert_eq!(user("docker.io").as_deref(), Some("hub pw"));
        assert_eq!(user("localhost:5000").as_deref(), Some("local p:w"));
        assert_eq!(user("token.example"), Some(format!("{IDENTITY_TOKEN_USER} t")));
        assert_eq!(user("broken.example"), None);
        assert_eq!(user("helped.example"), None);
        assert_eq!(user("other.example"), None);
    }

    #[test]
    fn fingerprints_tell_logins_apart_and_show_nothing_of_them() {
        let login = |user: &str, password: &str| Login::of(LoginSource::Table, user.to_owned(), password);
        let print = login("user", "password").fingerprint("r", &KEY);
        assert_eq!(print, login("user", "password").fingerprint("r", &KEY));
        for other in [
            login("user", "passwore").fingerprint("r", &KEY),
            login("userp", "assword").fingerprint("r", &KEY),
            login("user", "password").fingerprint("s", &KEY),
            login("user", "password").fingerprint("r", &[8; 32]),
            Login::anonymous().fingerprint("r", &KEY),
        ] {
            assert_ne!(print, other);
        }
        assert!(!format!("{:?} {print:?}", login("user", "password")).contains("password"));
    }
}
