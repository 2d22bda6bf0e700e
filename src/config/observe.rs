//! `[log]`, `[admin]` and `[telemetry]`: what is said about what happens.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::resolve::Resolver;
use crate::config::scalar::{FileAddress, FileUrl};

/// Reload class: live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `EnvFilter` syntax.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// The listener for probes, metrics and status. Reload class: live.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admin {
    /// Address to listen on; no such listener if absent.
    pub listen: Option<SocketAddr>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `Text` on a terminal, `Json` otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// `[log]`: what is written about what happens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileLog {
    /// Level, or directives per target as `RUST_LOG` takes them.
    pub(super) level: String,
    /// How a line looks; auto: text on a terminal, else JSON.
    pub(super) format: FileLogFormat,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FileLogFormat {
    Auto,
    Text,
    Json,
}

/// `[admin]`: the listener for probes, metrics and status.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileAdmin {
    /// Address to listen on. Unset: no such listener.
    pub(super) listen: Option<FileAddress>,
}

/// `[telemetry]`: where traces and metrics are sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "restart"))]
pub(crate) struct FileTelemetry {
    /// OTLP collector, for example `http://localhost:4317`. Unset: nothing is sent.
    pub(super) otlp_endpoint: Option<FileUrl>,
}

impl Default for FileLog {
    fn default() -> Self {
        let Log { level, format } = Log::default();
        let format = match format {
            LogFormat::Auto => FileLogFormat::Auto,
            LogFormat::Text => FileLogFormat::Text,
            LogFormat::Json => FileLogFormat::Json,
        };
        Self { level, format }
    }
}

impl FileAdmin {
    pub(super) fn resolve(self) -> Admin {
        let Self { listen } = self;
        Admin { listen: listen.map(|FileAddress(address)| address) }
    }
}

impl FileLog {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Log {
        match self.checked() {
            Ok(log) => log,
            Err(message) => {
                cx.error("log.level", message);
                Log::default()
            }
        }
    }

    /// What it says, or what is wrong with the level.
    pub(super) fn checked(self) -> Result<Log, String> {
        let Self { level, format } = self;
        check_level(&level)?;
        let format = match format {
            FileLogFormat::Auto => LogFormat::Auto,
            FileLogFormat::Text => LogFormat::Text,
            FileLogFormat::Json => LogFormat::Json,
        };
        Ok(Log { level, format })
    }
}

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];

/// Crates that log and may stand alone as "all that it says"; any other target needs its level.
const CRATES: [&str; 14] = [
    "async_nats",
    "cranelift_codegen",
    "h2",
    "hyper",
    "hyper_util",
    "mio",
    "notify",
    "oci_client",
    "reqwest",
    "rustls",
    "tokio",
    "washlet",
    "wasmtime",
    "wasmtime_wasi",
];

/// What the filter itself would read as "everything of the target `verbose`" is refused as no level.
fn check_level(text: &str) -> Result<(), String> {
    let is_number = |word: &str| matches!(word.as_bytes(), [b'0'..=b'5']);
    let is_level = |word: &str| is_number(word) || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let levels = "expected one of trace, debug, info, warn, error, off";
    if text.trim().is_empty() {
        return Err(levels.to_owned());
    }
    for directive in text.split(',').map(str::trim).filter(|directive| !directive.contains(['[', '{', ']', '}'])) {
        match directive.rsplit_once('=') {
            Some((target, level)) if target.is_empty() || !is_level(level.trim()) => {
                return Err(format!("{levels} behind the `=`"));
            }
            Some(_target_and_level) => {}
            None if directive.is_empty() || is_level(directive) || directive.contains("::") => {}
            None if CRATES.contains(&directive) => {}
            None => return Err(format!("{levels}, or a target with its level: `washlet=debug`")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_level;

    #[test]
    fn a_misspelt_level_is_refused_and_a_target_is_not() {
        for text in [
            "info",
            "INFO",
            "washlet=debug",
            "warn,washlet::config=trace",
            "off",
            "hyper",
            "[span{x=1}]=info",
            "info,",
            "a=5",
        ] {
            assert_eq!(check_level(text), Ok(()), "{text}");
        }
        for text in [
            "",
            " ",
            "inof",
            "verbose",
            "all",
            "washlett",
            "info,verbose",
            "washlet=loud",
            "washlet=6",
            "=info",
            "wran,hyper=info",
        ] {
            assert!(check_level(text).is_err(), "{text}");
        }
    }
}
