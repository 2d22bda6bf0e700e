//! What a reload would do with another file, told without a running host: `washlet diff`.

use crate::config::{Class, Config, ConfigDiff, KeyvalueBackend, Loaded, Pinned, Plugins, diff};
use crate::daemon::source::{contradictions, switched_off};
use crate::reload::guard;

/// What a reload from one configuration to another does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forecast {
    /// What changes, and when: keys that wait for a restart among them.
    pub changed: Vec<(String, &'static str, Class)>,
    /// What would be gone afterwards.
    pub lost: Vec<String>,
    /// Why it would be refused; then nothing of the above happens.
    pub refused: Vec<String>,
    /// Keys that the new file sets in vain, because a variable or flag decides.
    pub pinned: Vec<Pinned>,
}

/// The plan of a reload, as far as the two files tell it: whether every part can be prepared is seen by preparing it.
#[must_use]
pub fn forecast(old: &Loaded, new: &Loaded) -> Forecast {
    let (effective, _waiting) = diff::effective(&old.config, &new.config);
    let of = |old: &Config, new: &Config| {
        let ConfigDiff { changed } = ConfigDiff::between(old, new);
        changed.into_iter().map(|change| (change.key, change.verb.as_str(), change.class))
    };
    let changed = of(&old.config, &effective).chain(of(&effective, &new.config)).collect();
    let lost = lost(&old.config.plugins, &effective.plugins);
    let mut refused = contradictions(&effective);
    refused.extend(guard(&old.config, &new.config, &switched_off(new)));
    Forecast { changed, lost, refused, pinned: new.pinned.clone() }
}

/// Nothing is carried from one backend to another.
fn lost(old: &Plugins, new: &Plugins) -> Vec<String> {
    let in_memory = |plugins: &Plugins| plugins.wasi_keyvalue.as_ref().map(|it| it.backend == KeyvalueBackend::Memory);
    let is_left = in_memory(old) == Some(true) && in_memory(new) != Some(true);
    let what = "plugins.wasi-keyvalue: what the backend `memory` holds is lost";
    is_left.then(|| what.to_owned()).into_iter().collect()
}
