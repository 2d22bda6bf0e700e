//! What is said of a connection to NATS, whatever it is for: servers, who we are, encryption.

use std::path::PathBuf;

use crate::config::Secret;
use crate::config::nats::{FileDataConnection, FileNatsTls, NatsAuth, NatsConnection, NatsTls};
use crate::config::path::join;
use crate::config::resolve::{FileKind, Resolver};
use crate::config::server_url::{is_subject_prefix, resolve_urls};

impl FileDataConnection {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> NatsConnection {
        self.resolve_at("nats.data", cx)
    }

    /// What is said of a connection, whatever it is for.
    pub(super) fn resolve_at(self, path: &str, cx: &mut Resolver<'_>) -> NatsConnection {
        let Self {
            urls,
            creds_file,
            nkey_seed_file,
            token,
            token_file,
            user,
            password,
            password_file,
            inbox_prefix,
            tls,
        } = self;
        let at = |key: &str| join(path, key);
        if inbox_prefix.as_deref().is_some_and(|prefix| !is_subject_prefix(prefix)) {
            cx.error(&at("inbox_prefix"), "expected a subject such as \"_INBOX.host\": no `*`, `>` or white space");
        }
        let credentials = Credentials {
            creds_file,
            nkey_seed_file,
            token: token.is_some() || token_file.is_some(),
            user,
            password: password.is_some() || password_file.is_some(),
        };
        if credentials.user.as_deref() == Some("") {
            cx.error(&at("user"), "expected a user name, found an empty text");
        }
        let is_one_kind = credentials.are_of_one_kind(path, cx);
        let (token, password) = if is_one_kind {
            let token = cx.secret(&at("token"), token, token_file);
            (token, cx.secret(&at("password"), password, password_file))
        } else {
            (None, None)
        };
        NatsConnection {
            urls: resolve_urls(&at("urls"), urls, cx),
            auth: if is_one_kind { credentials.resolve(path, token, password, cx) } else { NatsAuth::None },
            tls: tls.resolve(&at("tls"), cx),
            inbox_prefix,
        }
    }
}

/// What was said about authentication, before it is known whether it fits together.
struct Credentials {
    creds_file: Option<PathBuf>,
    nkey_seed_file: Option<PathBuf>,
    token: bool,
    user: Option<String>,
    password: bool,
}

impl Credentials {
    /// Whether at most one way to authenticate was given. The files of several are not read: which one is meant?
    fn are_of_one_kind(&self, path: &str, cx: &mut Resolver<'_>) -> bool {
        let ways = [
            ("creds_file", self.creds_file.is_some()),
            ("nkey_seed_file", self.nkey_seed_file.is_some()),
            ("token", self.token),
            (if self.user.is_some() { "user" } else { "password" }, self.user.is_some() || self.password),
        ];
        let at = |key: &str| join(path, key);
        let mut given = ways.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| cx.present(&at(key)));
        let (Some(first), Some(second)) = (given.next(), given.next()) else { return true };
        cx.error_both(&first, &second, "only one way to authenticate can be given");
        false
    }

    fn resolve(self, path: &str, token: Option<Secret>, password: Option<Secret>, cx: &mut Resolver<'_>) -> NatsAuth {
        let at = |key: &str| join(path, key);
        let creds_file = self.creds_file.map(|file| cx.file_of(&at("creds_file"), file, FileKind::NatsCredentials));
        let nkey_seed_file =
            self.nkey_seed_file.map(|file| cx.file_of(&at("nkey_seed_file"), file, FileKind::NkeySeed));
        match (creds_file, nkey_seed_file, token, self.user, password) {
            (Some(file), ..) => NatsAuth::CredsFile(file),
            (_, Some(file), ..) => NatsAuth::NkeySeedFile(file),
            (_, _, Some(token), ..) => NatsAuth::Token(token),
            (_, _, _, Some(user), Some(password)) => NatsAuth::UserPassword { user, password },
            (_, _, _, Some(_), None) if !self.password && !cx.is_tainted(&at("password")) => {
                cx.error(&at("user"), "`user` needs `password` or `password_file` beside it");
                NatsAuth::None
            }
            (_, _, _, None, Some(_)) if !cx.is_tainted(&at("user")) => {
                cx.error(&cx.present(&at("password")), "`password` needs `user` beside it");
                NatsAuth::None
            }
            (None, None, None, _, _) => NatsAuth::None,
        }
    }
}

impl FileNatsTls {
    fn resolve(self, path: &str, cx: &mut Resolver<'_>) -> NatsTls {
        let Self { ca, cert, key, first } = self;
        let ca = ca.map(|file| cx.file_of(&join(path, "ca"), file, FileKind::Certificate));
        let cert = cert.map(|file| cx.file_of(&join(path, "cert"), file, FileKind::Certificate));
        let key = key.map(|file| cx.file_of(&join(path, "key"), file, FileKind::PrivateKey));
        let client = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(_cert), None) => {
                cx.error(&join(path, "cert"), "`cert` needs `key` beside it");
                None
            }
            (None, Some(_key)) => {
                cx.error(&join(path, "key"), "`key` needs `cert` beside it");
                None
            }
            (None, None) => None,
        };
        NatsTls { ca, client, first }
    }
}
