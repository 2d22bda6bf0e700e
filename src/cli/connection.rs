//! How `washlet ctl` connects: flags, and the variables that the tools of NATS know.

use std::path::PathBuf;

use clap::Args;

use crate::config::files::read_regular;
use crate::config::{NatsAuth, NatsConnection, NatsTls, Secret, env};

/// Far more than a password.
const SECRET_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// NATS servers of the control plane, with commas between [env: NATS_URL] [default: nats://localhost:4222]
    #[arg(long, short = 's', value_name = "URLS", global = true)]
    nats_url: Option<String>,
    /// A `.creds` file [env: NATS_CREDS]
    #[arg(long, value_name = "FILE", global = true)]
    nats_creds: Option<PathBuf>,
    /// A file with an nkey seed [env: NATS_NKEY]
    #[arg(long, value_name = "FILE", global = true)]
    nats_nkey: Option<PathBuf>,
    /// A file with a token [env: NATS_TOKEN, the token itself]
    #[arg(long, value_name = "FILE", global = true)]
    nats_token_file: Option<PathBuf>,
    /// User name [env: NATS_USER]
    #[arg(long, value_name = "NAME", global = true)]
    nats_user: Option<String>,
    /// A file with the user's password [env: NATS_PASSWORD, the password itself]
    #[arg(long, value_name = "FILE", global = true)]
    nats_password_file: Option<PathBuf>,
    /// PEM bundle of trusted authorities [env: NATS_CA]
    #[arg(long, value_name = "FILE", global = true)]
    nats_ca: Option<PathBuf>,
    /// PEM client certificate [env: NATS_CERT]
    #[arg(long, value_name = "FILE", global = true)]
    nats_cert: Option<PathBuf>,
    /// PEM key of the client certificate [env: NATS_KEY]
    #[arg(long, value_name = "FILE", global = true)]
    nats_key: Option<PathBuf>,
    /// TLS handshake before the server speaks
    #[arg(long, global = true)]
    nats_tls_first: bool,
    /// Prefix of reply subjects [default: _INBOX]
    #[arg(long, value_name = "SUBJECT", global = true)]
    nats_inbox_prefix: Option<String>,
}

impl std::fmt::Debug for Connection {
    /// A URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("nats_user", &self.nats_user).finish_non_exhaustive()
    }
}

impl Connection {
    /// What was said, a flag over its variable; the error is one of usage.
    pub(super) fn resolve(self) -> Result<NatsConnection, String> {
        let Self {
            nats_url,
            nats_creds,
            nats_nkey,
            nats_token_file,
            nats_user,
            nats_password_file,
            nats_ca,
            nats_cert,
            nats_key,
            nats_tls_first,
            nats_inbox_prefix,
        } = self;
        // One way to authenticate by flags is the way, whatever the variables say.
        let has_auth_flag =
            nats_creds.is_some() || nats_nkey.is_some() || nats_token_file.is_some() || nats_user.is_some();
        let variable = |name: &str| env::of_nats(name);
        let auth_variable = |name: &str| if has_auth_flag { None } else { variable(name) };
        let token = secret(nats_token_file, auth_variable("NATS_TOKEN"))?;
        let password = secret(nats_password_file, variable("NATS_PASSWORD"))?;
        let creds = nats_creds.or_else(|| auth_variable("NATS_CREDS").map(PathBuf::from));
        let nkey = nats_nkey.or_else(|| auth_variable("NATS_NKEY").map(PathBuf::from));
        let user = nats_user.or_else(|| auth_variable("NATS_USER"));
        let ways = [creds.is_some(), nkey.is_some(), token.is_some(), user.is_some()];
        if ways.into_iter().filter(|is_given| *is_given).count() > 1 {
            return Err("only one way to authenticate can be given: credentials, nkey, token or user".to_owned());
        }
        let auth = match (creds, nkey, token, user) {
            (Some(file), ..) => NatsAuth::CredsFile(file),
            (_, Some(file), ..) => NatsAuth::NkeySeedFile(file),
            (_, _, Some(token), _) => NatsAuth::Token(token),
            (.., Some(user)) => match password {
                Some(password) => NatsAuth::UserPassword { user, password },
                None => return Err("a user needs a password: --nats-password-file or NATS_PASSWORD".to_owned()),
            },
            (None, None, None, None) => NatsAuth::None,
        };
        let path = |flag: Option<PathBuf>, name: &str| flag.or_else(|| variable(name).map(PathBuf::from));
        let client = match (path(nats_cert, "NATS_CERT"), path(nats_key, "NATS_KEY")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err("--nats-cert and --nats-key need each other".to_owned());
            }
        };
        let tls = NatsTls { ca: path(nats_ca, "NATS_CA"), client, first: nats_tls_first };
        let mut connection = NatsConnection { auth, tls, inbox_prefix: nats_inbox_prefix, ..NatsConnection::default() };
        if let Some(urls) = nats_url.or_else(|| variable("NATS_URL")) {
            connection.urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty()).map(Secret::new).collect();
        }
        Ok(connection)
    }
}

fn secret(file: Option<PathBuf>, otherwise: Option<String>) -> Result<Option<Secret>, String> {
    let Some(file) = file else { return Ok(otherwise.map(Secret::new)) };
    let bytes = read_regular(&file, SECRET_BYTES_MAX).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let text = String::from_utf8(bytes).map_err(|_a_secret| format!("{} is not UTF-8 text", file.display()))?;
    Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
}
