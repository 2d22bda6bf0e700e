//! What is known of the text of the live configuration.

use std::path::PathBuf;
use std::time::SystemTime;

use tracing::warn;

use crate::config::Pinned;
use crate::reload::source::Hashes;

/// It may be another text than the one that was applied, if that means the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// The file, as it was given; `None` without one.
    pub(crate) source: Option<PathBuf>,
    /// Of the file, and of all layers together.
    pub(crate) hashes: Hashes,
    /// When the generation went live.
    pub(crate) since: Option<SystemTime>,
    /// Keys that the file sets in vain.
    pub(crate) pinned: Vec<Pinned>,
}

impl Said {
    /// It was edited at a key that a variable or flag decides: whoever did that expects something.
    pub(super) fn warn_of_pinned(&self, old: &Self) {
        for pinned in self.pinned.iter().filter(|pinned| !old.pinned.contains(pinned)) {
            let Pinned { key, by, .. } = pinned;
            warn!(key, by, "a key was set in vain: the variable or flag decides");
        }
    }
}
