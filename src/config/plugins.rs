//! `[plugins.*]`: which interfaces the host serves, and with what behind them.

/// `None` is a plugin that is off: no table, or `enabled = false`. Reload class: live.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plugins {
    /// `[plugins.wasi-config]`
    pub wasi_config: Option<ConfigPlugin>,
    /// `[plugins.wasi-logging]`
    pub wasi_logging: Option<LoggingPlugin>,
    /// `[plugins.wasi-keyvalue]`
    pub wasi_keyvalue: Option<KeyvaluePlugin>,
}

/// `[plugins.wasi-config]`: memory is the one backend so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigPlugin {}

/// `[plugins.wasi-logging]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoggingPlugin {}

/// `[plugins.wasi-keyvalue]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyvaluePlugin {
    /// Where values are kept.
    pub backend: KeyvalueBackend,
    /// Buckets that may be opened: `*` alone, or names with `*` at the end.
    pub allow_buckets: Vec<String>,
}

impl Default for KeyvaluePlugin {
    fn default() -> Self {
        Self { backend: KeyvalueBackend::Memory, allow_buckets: vec!["*".to_owned()] }
    }
}

/// Where values are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyvalueBackend {
    /// In the host's memory, one store per workload.
    Memory,
}
