//! Answers the server's question who we are, reading credential files anew each time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_nats::{Auth, AuthError};
use nkeys::KeyPair;

use crate::config::files::read_regular;
use crate::config::{NatsAuth, NatsConnection, Secret};
use crate::nats::servers::{Servers, UserInfo};
use crate::task;

/// Credentials are a few hundred bytes, and a kilobyte or two where the JWT lists permissions.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// How one connection authenticates.
#[derive(Debug)]
pub(super) struct Authenticator {
    auth: NatsAuth,
    /// Where token or password came from, and may have been replaced.
    secret_file: Option<PathBuf>,
    servers: Arc<Servers>,
}

impl Authenticator {
    pub(super) fn new(settings: &NatsConnection, servers: Arc<Servers>) -> Self {
        Self { auth: settings.auth.clone(), secret_file: settings.secret_file.clone(), servers }
    }

    /// What the file of the secret holds by now, or what was given otherwise.
    async fn newest(&self, secret: &Secret) -> Result<Secret, AuthError> {
        let Some(path) = &self.secret_file else { return Ok(secret.clone()) };
        let secret = Secret::of_file(&read(path).await?);
        if secret.expose().is_empty() { Err(refuse(path, "is empty")) } else { Ok(secret) }
    }

    /// Who we say we are, for logs.
    pub(super) fn describe(&self) -> String {
        match &self.auth {
            NatsAuth::None => match self.servers.user() {
                None => "nobody".to_owned(),
                Some(UserInfo::Token(_)) => "the token of the url".to_owned(),
                Some(UserInfo::UserPassword { user, .. }) => user,
            },
            NatsAuth::CredsFile(path) => format!("credentials {}", path.display()),
            NatsAuth::NkeySeedFile(path) => format!("nkey {}", path.display()),
            NatsAuth::Token(_) => "a token".to_owned(),
            NatsAuth::UserPassword { user, .. } => user.clone(),
        }
    }

    /// What to send for `nonce`. An error ends this attempt to connect, not the attempts.
    pub(super) async fn answer(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let mut answer = Auth::new();
        match &self.auth {
            NatsAuth::None => match self.servers.user() {
                None => {}
                Some(UserInfo::Token(token)) => answer.token = Some(token.expose().to_owned()),
                Some(UserInfo::UserPassword { user, password }) => {
                    answer.username = Some(user);
                    answer.password = Some(password.expose().to_owned());
                }
            },
            NatsAuth::Token(token) => answer.token = Some(self.newest(token).await?.expose().to_owned()),
            NatsAuth::UserPassword { user, password } => {
                answer.username = Some(user.clone());
                answer.password = Some(self.newest(password).await?.expose().to_owned());
            }
            NatsAuth::CredsFile(path) => {
                let text = read(path).await?;
                let (jwt, seed) = creds(&text).ok_or_else(|| refuse(path, "holds no user JWT with its nkey seed"))?;
                answer.signature = Some(signed(seed, nonce, path)?.1);
                answer.jwt = Some(jwt.to_owned());
            }
            NatsAuth::NkeySeedFile(path) => {
                let text = read(path).await?;
                let seed = text.lines().map(str::trim).find(|line| line.starts_with('S'));
                let seed = seed.ok_or_else(|| refuse(path, "holds no nkey seed"))?;
                let (public_key, signature) = signed(seed, nonce, path)?;
                answer.nkey = Some(public_key);
                answer.signature = Some(signature);
            }
        }
        Ok(answer)
    }
}

async fn read(path: &Path) -> Result<String, AuthError> {
    let file = path.to_owned();
    let read = task::blocking("read NATS credentials", move || read_regular(&file, FILE_BYTES_MAX)).await;
    let bytes = read.ok_or_else(|| refuse(path, "cannot be read: reading panicked"))?;
    let bytes = bytes.map_err(|e| refuse(path, &format!("cannot be read: {e}")))?;
    String::from_utf8(bytes).map_err(|_may_hold_the_seed| refuse(path, "is not text"))
}

/// The public key, and the signature of `nonce`.
fn signed(seed: &str, nonce: &[u8], path: &Path) -> Result<(String, Vec<u8>), AuthError> {
    // What the library says of a seed might repeat it.
    let pair = KeyPair::from_seed(seed).map_err(|_may_hold_the_seed| refuse(path, "holds an invalid nkey seed"))?;
    let signature = pair.sign(nonce).map_err(|_may_hold_the_seed| refuse(path, "holds a seed that cannot sign"))?;
    Ok((pair.public_key(), signature))
}

/// The user's JWT and nkey seed, each on the line behind its `BEGIN`.
fn creds(text: &str) -> Option<(&str, &str)> {
    let behind = |mark: &str| {
        let mut lines =
            text.lines().map(str::trim).skip_while(|line| !(line.starts_with("---") && line.contains(mark)));
        lines.nth(1).filter(|line| !line.is_empty() && !line.starts_with("---"))
    };
    Some((behind("BEGIN NATS USER JWT")?, behind("BEGIN USER NKEY SEED")?))
}

fn refuse(path: &Path, why: &str) -> AuthError {
    AuthError::new(format!("{} {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticator(auth: NatsAuth, url: &str) -> Authenticator {
        authenticator_with(auth, None, url)
    }

    fn authenticator_with(auth: NatsAuth, secret_file: Option<PathBuf>, url: &str) -> Authenticator {
        let settings = NatsConnection { urls: vec![Secret::new(url)], auth, secret_file, ..NatsConnection::default() };
        Authenticator::new(&settings, Arc::new(Servers::parse(&settings.urls).unwrap()))
    }

    #[tokio::test]
    async fn a_rotated_token_or_password_file_is_used_at_the_next_connect() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = Some(file.path().to_owned());
        let token = authenticator_with(NatsAuth::Token(Secret::new("old")), path.clone(), "a");
        let user = NatsAuth::UserPassword { user: "me".to_owned(), password: Secret::new("old") };
        let user = authenticator_with(user, path, "a");
        for secret in ["first", "second"] {
            std::fs::write(file.path(), format!("{secret}\r\n")).unwrap();
            assert_eq!(token.answer(b"").await.unwrap().token.as_deref(), Some(secret));
            let answer = user.answer(b"").await.unwrap();
            assert_eq!((answer.username.as_deref(), answer.password.as_deref()), (Some("me"), Some(secret)));
        }
        std::fs::write(file.path(), "").unwrap();
        let Err(error) = token.answer(b"").await else { panic!("was accepted") };
        assert!(error.to_string().contains(" is empty"), "{error}");
    }

    #[tokio::test]
    async fn a_rotated_credentials_file_is_used_at_the_next_connect() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let auth = authenticator(NatsAuth::CredsFile(file.path().to_owned()), "a");
        for jwt in ["first.jwt.x", "second.jwt.y"] {
            let pair = KeyPair::new_user();
            let text = format!(
                "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                pair.seed().unwrap()
            );
            std::fs::write(file.path(), text).unwrap();
            let answer = auth.answer(b"nonce").await.unwrap();
            assert_eq!(answer.jwt.as_deref(), Some(jwt));
            pair.verify(b"nonce", &answer.signature.unwrap()).unwrap();
        }
    }

    #[tokio::test]
    async fn an_nkey_seed_answers_with_its_public_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let pair = KeyPair::new_user();
        std::fs::write(file.path(), format!("# mine\n{}\n", pair.seed().unwrap())).unwrap();
        let answer = authenticator(NatsAuth::NkeySeedFile(file.path().to_owned()), "a").answer(b"n").await.unwrap();
        assert_eq!(answer.nkey, Some(pair.public_key()));
        pair.verify(b"n", &answer.signature.unwrap()).unwrap();
    }

    #[tokio::test]
    async fn user_information_of_the_url_is_used_unless_something_else_is_given() {
        let answer = authenticator(NatsAuth::None, "nats://me:pw@a").answer(b"").await.unwrap();
        assert_eq!((answer.username.as_deref(), answer.password.as_deref()), (Some("me"), Some("pw")));
        let answer = authenticator(NatsAuth::Token(Secret::new("t")), "nats://me:pw@a").answer(b"").await.unwrap();
        assert_eq!((answer.username, answer.token.as_deref()), (None, Some("t")));
    }

    #[tokio::test]
    async fn a_bad_file_is_named_and_its_content_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "SUSECRETSECRET").unwrap();
        for auth in [NatsAuth::NkeySeedFile(file.path().to_owned()), NatsAuth::CredsFile(file.path().to_owned())] {
            let Err(error) = authenticator(auth, "a").answer(b"").await else { panic!("was accepted") };
            let error = error.to_string();
            assert!(error.contains(file.path().to_str().unwrap()) && !error.contains("SECRET"), "{error}");
        }
    }
}
