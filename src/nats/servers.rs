//! Which server is tried next, and how long after the last attempt.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{ReconnectToServer, ServerAddr};

use crate::config::Secret;
use crate::nats::NatsError;
use crate::task::Backoff;

/// The first pause after a failed attempt at a server, and the longest one: the operator must hear of a host within 2 s
/// of the return of its server.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Before a lost connection is replaced: a server that accepts and hangs up must not be hammered.
const PAUSE_AFTER_LOSS: Duration = Duration::from_millis(50);

/// The servers of one connection, and how it went with them.
#[derive(Debug)]
pub(super) struct Servers {
    configured: Vec<Server>,
    attempts: Mutex<Attempts>,
}

#[derive(Debug)]
struct Server {
    address: ServerAddr,
    user: Option<UserInfo>,
}

/// What stood before the `@` of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserInfo {
    /// `token@host`
    Token(Secret),
    /// `user:password@host`
    UserPassword {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
}

#[derive(Debug, Default)]
struct Attempts {
    /// By `host:port`, since the last time that a connection was made.
    failed: HashMap<String, (u32, Backoff)>,
    /// The server that is being tried, or in use.
    current: Option<String>,
    was_connected: bool,
}

impl Servers {
    /// User information is taken out of the URLs, because the client would ignore and print it.
    pub(super) fn parse(urls: &[Secret]) -> Result<Self, NatsError> {
        let parse = |(i, url): (usize, &Secret)| {
            let unreadable = |source| NatsError::ParseUrl { position: i.saturating_add(1), source };
            let address: ServerAddr = url.expose().trim().parse().map_err(unreadable)?;
            let user = UserInfo::of(&address);
            let mut url = address.into_inner();
            let cleared = url.set_username("").and_then(|()| url.set_password(None));
            if url.host_str().is_none_or(str::is_empty) || cleared.is_err() {
                return Err(unreadable(std::io::Error::other("it has no host")));
            }
            Ok(Server { address: ServerAddr::from_url(url).map_err(unreadable)?, user })
        };
        let configured: Vec<_> = urls.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        if configured.is_empty() {
            return Err(NatsError::NoUrl);
        }
        Ok(Self { configured, attempts: Mutex::default() })
    }

    /// The addresses, without user information.
    pub(super) fn addresses(&self) -> Vec<ServerAddr> {
        self.configured.iter().map(|server| server.address.clone()).collect()
    }

    /// The least tried of `pool`, in order, and the pause before it.
    pub(super) fn next(&self, pool: &[async_nats::Server]) -> Option<ReconnectToServer> {
        let mut attempts = self.attempts();
        let tries = |name: &String| attempts.failed.get(name).map_or(0, |(tries, _)| *tries);
        let (name, server) =
            pool.iter().map(|server| (name_of(&server.addr), server)).min_by_key(|(name, _)| tries(name))?;
        let first_pause = if attempts.was_connected { PAUSE_AFTER_LOSS } else { Duration::ZERO };
        let delay = match attempts.failed.get_mut(&name) {
            None => {
                attempts.failed.insert(name.clone(), (1, Backoff::new(PAUSE_FIRST, PAUSE_MAX)));
                first_pause
            }
            Some((tries, backoff)) => {
                *tries = tries.saturating_add(1);
                backoff.pause()
            }
        };
        attempts.current = Some(name);
        Some(ReconnectToServer { addr: server.addr.clone(), delay: Some(delay) })
    }

    /// A connection was made: the next loss starts with short pauses again.
    pub(super) fn connected(&self) {
        let mut attempts = self.attempts();
        attempts.failed.clear();
        attempts.was_connected = true;
    }

    /// `host:port` of the server that is being tried or in use.
    pub(super) fn current(&self) -> Option<String> {
        self.attempts().current.clone()
    }

    /// The current server, if it was tried since the last connection: it failed then.
    pub(super) fn failing(&self) -> Option<String> {
        let attempts = self.attempts();
        attempts.current.clone().filter(|current| attempts.failed.contains_key(current))
    }

    /// User information for the current server; for one that the cluster told us of, that of the first with any.
    pub(super) fn user(&self) -> Option<UserInfo> {
        let current = self.current();
        let is_current = |server: &&Server| Some(name_of(&server.address)) == current;
        let configured = self.configured.iter().find(is_current);
        configured.map_or_else(|| self.configured.iter().find_map(|s| s.user.clone()), |server| server.user.clone())
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserInfo {
    fn of(address: &ServerAddr) -> Option<Self> {
        let user = percent_decoded(address.username()?);
        Some(match address.password() {
            None => Self::Token(Secret::new(user)),
            Some(password) => Self::UserPassword { user, password: Secret::new(percent_decoded(password)) },
        })
    }
}

/// How a server is called in logs: never with user information.
pub(super) fn name_of(address: &ServerAddr) -> String {
    format!("{}:{}", address.host(), address.port())
}

/// `%40` -> `@`; what is not an escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()))
            .flatten();
        decoded.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(urls: &[&str]) -> Servers {
        Servers::parse(&urls.iter().map(|url| Secret::new(*url)).collect::<Vec<_>>()).unwrap()
    }

    fn user(name: &str, password: &str) -> UserInfo {
        UserInfo::UserPassword { user: name.to_owned(), password: Secret::new(password) }
    }

    #[test]
    fn user_information_leaves_the_address_and_is_decoded() {
        let servers = servers(&["nats://me:p%40ss%2@a:4223", "tls://tok@b", "c:1"]);
        let printed = format!("{:?} {servers:?}", servers.addresses());
        assert!(!printed.contains("p@ss") && !printed.contains("p%40") && !printed.contains("tok"), "{printed}");
        let users: Vec<_> = servers.configured.iter().map(|s| s.user.clone()).collect();
        assert_eq!(users, [Some(user("me", "p@ss%2")), Some(UserInfo::Token(Secret::new("tok"))), None]);
        let names: Vec<_> = servers.addresses().iter().map(name_of).collect();
        assert_eq!(names, ["a:4223", "b:4222", "c:1"]);
    }

    #[test]
    fn an_unreadable_url_is_named_by_its_position_only() {
        let error = Servers::parse(&[Secret::new("a"), Secret::new("http://me:secret@b")]).unwrap_err();
        let text = crate::error::Chain(&error).to_string();
        assert!(text.starts_with("url 2 of the list") && !text.contains("secret"), "{text}");
        assert!(matches!(Servers::parse(&[]), Err(NatsError::NoUrl)));
        assert!(Servers::parse(&[Secret::new("nats://")]).is_err());
    }
}
