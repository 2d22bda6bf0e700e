//! Where configurations come from: all that this room needs of whoever reads and checks them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::config::files::{ReadFailure, Snapshot, Urgency, Writers};
use crate::config::{Config, Pinned};
use crate::reload::outcome::Rejection;
use crate::reload::plan::Change;

/// Reads, checks and compares configurations; implemented by `daemon`, and by fakes in tests.
pub(crate) trait ConfigSource: Send + 'static {
    /// All inputs, settled and belonging together. May be dropped half way and called again.
    fn read(&mut self, urgency: Urgency) -> BoxFuture<'_, Result<Snapshot, ReadFailure>>;

    /// Where to tell which files are being written, for `read` to wait for.
    fn writers(&self) -> Writers {
        Writers::default()
    }

    /// Parses and validates what was read; opens no further file.
    fn load(&mut self, snapshot: Arc<Snapshot>) -> BoxFuture<'_, Result<Loaded, Rejection>>;

    /// `new` with the keys that wait for a restart at the values they have in `live`; it must be valid too.
    fn effective(&self, live: &Config, new: &Config) -> Result<Config, Rejection>;

    /// The keys whose values differ, secrets included.
    fn changes(&self, old: &Config, new: &Config) -> Vec<Change>;
}

/// A valid configuration and what is known about its text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loaded {
    /// What it says.
    pub(crate) config: Config,
    /// What is published of its text.
    pub(crate) hashes: Hashes,
    /// Plugins that it names with `enabled = false`.
    pub(crate) plugins_switched_off: Vec<String>,
    /// Where the values of keys come from: `washlet.toml:12`, `default`, the name of a variable or flag.
    pub(crate) origins: BTreeMap<String, String>,
    /// Keys that the file sets in vain, because a variable or flag decides.
    pub(crate) pinned: Vec<Pinned>,
}

/// Of the meaning of a text, secrets masked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hashes {
    /// Of the file alone; `None` without one.
    pub(crate) file: Option<String>,
    /// Of all layers together.
    pub(crate) config: Option<String>,
}
