//! The environment, read once: the only place that does.

use crate::config::reference;

/// The variables that concern the configuration: `WASHLET_*`, `RUST_LOG` and those of the reference host.
#[must_use]
pub fn capture() -> Vec<(String, String)> {
    let concerns = |name: &str| name.starts_with("WASHLET_") || name == "RUST_LOG" || reference::is_variable(name);
    // A value that is not UTF-8 becomes one that no key takes, so that it is reported instead of ignored.
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, text(value))));
    let mut captured: Vec<_> = named.filter(|(name, _)| concerns(name)).collect();
    captured.sort();
    captured
}

/// A variable that the tools of NATS know: `NATS_URL`, `NATS_CREDS`, ...; an empty one counts as absent.
#[must_use]
pub fn of_nats(name: &str) -> Option<String> {
    let is_one = name.starts_with("NATS_");
    std::env::var_os(name).filter(|_| is_one)?.into_string().ok().filter(|value| !value.is_empty())
}
