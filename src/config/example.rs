//! The annotated example file.

/// Every key with its unit, default and reload class; as it stands it means the defaults.
pub const TEXT: &str = include_str!("../../washlet.toml.example");
