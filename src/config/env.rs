//! The environment, read once: the only place that does.

use crate::config::variables::REFERENCE;

/// The variables that concern the configuration: `WASHLET_*`, `RUST_LOG` and those of the reference host.
#[must_use]
pub fn capture() -> Vec<(String, String)> {
    let concerns = |name: &str| {
        name.starts_with("WASHLET_") || name == "RUST_LOG" || REFERENCE.iter().any(|known| known.name == name)
    };
    // A value that is not UTF-8 becomes one that no key takes, so that it is reported instead of ignored.
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, text(value))));
    let mut captured: Vec<_> = named.filter(|(name, _)| concerns(name)).collect();
    captured.sort();
    captured
}
