//! What the reference host (`wash host`) is told by flags and variables, and which key each of them means.
//!
//! One table, [`OPTIONS`]: the command line, the environment, the documentation and the tests are made from it.

mod form;
mod options;

pub use options::OPTIONS;

pub(crate) use form::Form;

/// A flag, its variables, and what they mean.
#[derive(Debug)]
pub struct ReferenceOption {
    /// As it is written: `--http-addr`, `-C`. `None`: there are only variables.
    pub flag: Option<&'static str>,
    /// A single letter that means the same.
    pub short: Option<char>,
    /// Other long names, without dashes.
    pub aliases: &'static [&'static str],
    /// A later one wins.
    pub variables: &'static [&'static str],
    /// What follows the flag.
    pub takes: Takes,
    /// What it does.
    pub meaning: Meaning,
    /// One line.
    pub help: &'static str,
    /// Whether it is one of the few that are shown for every command.
    pub is_common: bool,
    /// Whether a variable that cannot be read means the default, with a warning.
    pub(crate) is_lenient: bool,
}

/// What follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A value, of this name in the help; of several the last counts.
    Value(&'static str),
    /// Values, with commas between or by repeating the flag.
    Values(&'static str),
    /// Nothing, or `=true` or `=false`.
    Switch,
}

/// What an option does.
#[derive(Debug, Clone, Copy)]
pub enum Meaning {
    /// It sets a key.
    Key {
        /// Its path.
        key: &'static str,
        /// How its text becomes the text of the key.
        form: Form,
        /// Whether nothing goes wrong if the key is not implemented yet: then a warning is enough.
        may_wait: bool,
    },
    /// It is accepted, and there is nothing to do.
    Nothing,
    /// It is accepted with a warning that says this.
    Ignored(&'static str),
    /// It is refused with this reason: to go on without it would be wrong.
    Missing(&'static str),
}

impl ReferenceOption {
    /// The key it sets.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        match self.meaning {
            Meaning::Key { key, .. } => Some(key),
            Meaning::Nothing | Meaning::Ignored(_) | Meaning::Missing(_) => None,
        }
    }

    /// The flag's long name, without dashes.
    #[must_use]
    pub fn long(&self) -> Option<&'static str> {
        self.flag.and_then(|flag| flag.strip_prefix("--"))
    }

    /// The flag's single letter.
    #[must_use]
    pub fn letter(&self) -> Option<char> {
        let alone = self.flag.filter(|flag| !flag.starts_with("--")).and_then(|flag| flag.chars().nth(1));
        self.short.or(alone)
    }
}

/// The option of a flag as it is written.
pub(crate) fn of_flag(written: &str) -> Option<&'static ReferenceOption> {
    OPTIONS.iter().find(|option| option.flag == Some(written))
}

/// Whether the reference host reads this variable.
pub(crate) fn is_variable(name: &str) -> bool {
    OPTIONS.iter().any(|option| option.variables.contains(&name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::table;

    #[test]
    fn no_name_is_used_twice_and_every_key_exists() {
        let mut names = BTreeSet::new();
        let mut keys = BTreeSet::new();
        table::root().walk("", &mut |path, _| {
            keys.insert(path.to_owned());
        });
        for option in OPTIONS {
            let words = option.long().into_iter().chain(option.aliases.iter().copied());
            let all = words.chain(option.variables.iter().copied()).map(str::to_owned);
            for name in all.chain(option.letter().map(|letter| format!("-{letter}"))) {
                assert!(names.insert(name.clone()), "{name} is there twice");
            }
            assert!(option.key().is_none_or(|key| keys.contains(key)), "{:?} is no key", option.key());
            assert!(!option.help.is_empty() && !option.help.ends_with('.'), "{:?}", option.flag);
        }
        assert!(OPTIONS.len() > 60, "only {} options", OPTIONS.len());
    }
}
