//! Names of WIT interfaces: parsed, printed and matched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use semver::Version;

/// A set of interfaces of one WIT package, as a workload asks for it or a host offers it.
///
/// Its text form is `namespace:package/interface,interface@version`; interfaces and version may be left out.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct WitInterface {
    /// For example `wasi`.
    pub namespace: String,
    /// For example `keyvalue`.
    pub package: String,
    /// Interface names inside the package; empty means the package as a whole.
    pub interfaces: BTreeSet<String>,
    /// `None` matches any version.
    pub version: Option<Version>,
    /// Settings of this binding. May hold secrets: never printed.
    pub config: BTreeMap<String, String>,
    /// The label of a named import.
    pub name: Option<String>,
}

impl WitInterface {
    /// Whether both name the same package, and the same version if both name one.
    #[must_use]
    pub fn same_package(&self, other: &Self) -> bool {
        self.namespace == other.namespace
            && self.package == other.package
            && match (&self.version, &other.version) {
                (Some(a), Some(b)) => a == b,
                (None, _) | (_, None) => true,
            }
    }

    /// Whether this is `wasi:http` with a handler that receives requests: `incoming-handler` (WASI 0.2) or
    /// `handler` (WASI 0.3).
    #[must_use]
    pub fn is_incoming_http_handler(&self) -> bool {
        self.namespace == "wasi"
            && self.package == "http"
            && (self.interfaces.contains("incoming-handler") || self.interfaces.contains("handler"))
    }
}

impl fmt::Debug for WitInterface {
    /// The name with its label; of the settings only the keys, because values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        if let Some(name) = &self.name {
            write!(f, " as {name}")?;
        }
        if !self.config.is_empty() {
            write!(f, " with {:?}", self.config.keys())?;
        }
        Ok(())
    }
}

impl fmt::Display for WitInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.package)?;
        let mut separator = '/';
        for interface in &self.interfaces {
            write!(f, "{separator}{interface}")?;
            separator = ',';
        }
        if let Some(version) = &self.version {
            write!(f, "@{version}")?;
        }
        Ok(())
    }
}

/// Why a text is not the name of a WIT interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitParseError {
    /// No `namespace:package`.
    #[error("`{0}` is not of the form namespace:package/interface@version")]
    Shape(String),
    /// The part behind `@` is not a version.
    #[error("`{version}` in `{text}` is not a semantic version")]
    Version {
        /// The whole text.
        text: String,
        /// The part behind `@`.
        version: String,
    },
}

impl FromStr for WitInterface {
    type Err = WitParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || WitParseError::Shape(text.to_owned());
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let version = version
            .map(|version| {
                Version::parse(version).map_err(|_not_semver| WitParseError::Version {
                    text: text.to_owned(),
                    version: version.to_owned(),
                })
            })
            .transpose()?;
        let (package, interfaces) = match name.split_once('/') {
            Some((package, interfaces)) => (package, interfaces.split(',').map(str::trim).collect()),
            None => (name, Vec::new()),
        };
        let (namespace, package) = package.split_once(':').ok_or_else(shape)?;
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_id(namespace) || !is_id(package) || !interfaces.iter().all(|id| is_id(id)) {
            return Err(shape());
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            package: package.to_owned(),
            interfaces: interfaces.into_iter().map(str::to_owned).collect(),
            version,
            config: BTreeMap::new(),
            name: None,
        })
    }
}

/// One interface as a component's import spells it: `namespace:package/interface@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImportName {
    /// For example `wasi`.
    pub namespace: String,
    /// For example `keyvalue`.
    pub package: String,
    /// For example `store`.
    pub interface: String,
    /// `None` when the component names no version.
    pub version: Option<Version>,
}

impl ImportName {
    /// Whether `offered` holds exactly this interface in exactly this version.
    #[must_use]
    pub fn is_in(&self, offered: &WitInterface) -> bool {
        self.is_of_package(offered) && offered.interfaces.contains(&self.interface) && self.version == offered.version
    }

    /// Whether a workload's `entry` asks for this interface: in its version, if both name one. An interface `types` is
    /// what the others of its package are made of, and needs no mention.
    #[must_use]
    pub fn is_asked_for_by(&self, entry: &WitInterface) -> bool {
        self.is_of_package(entry)
            && (self.interface == "types" || entry.interfaces.contains(&self.interface))
            && match (&self.version, &entry.version) {
                (Some(own), Some(other)) => own == other,
                (None, _) | (_, None) => true,
            }
    }

    /// Whether `offered` is of the same package, in whatever version.
    #[must_use]
    pub fn is_of_package(&self, offered: &WitInterface) -> bool {
        self.namespace == offered.namespace && self.package == offered.package
    }
}

impl fmt::Display for ImportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.namespace, self.package, self.interface)?;
        match &self.version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ImportName {
    type Err = WitParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let WitInterface { namespace, package, mut interfaces, version, config: _, name: _ } = text.parse()?;
        match (interfaces.pop_first(), interfaces.is_empty()) {
            (Some(interface), true) => Ok(Self { namespace, package, interface, version }),
            (Some(_), false) | (None, _) => Err(WitParseError::Shape(text.to_owned())),
        }
    }
}

/// What a plugin, a component or a host imports and exports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WitWorld {
    /// For a plugin: what it provides to guests.
    pub imports: Vec<WitInterface>,
    /// For a plugin: what it calls on guests.
    pub exports: Vec<WitInterface>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_parsing_and_printing() {
        for text in ["wasi:http/incoming-handler@0.2.2", "wasi:keyvalue/atomics,store@0.2.0-draft", "wasi:http"] {
            assert_eq!(text.parse::<WitInterface>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_unreadable_version_is_an_error_and_not_any_version() {
        assert!(matches!("wasi:http/types@two".parse::<WitInterface>(), Err(WitParseError::Version { .. })));
        for text in ["", "wasi", ":http", "wasi:", "wasi:http/", "wa si:http"] {
            assert!(matches!(text.parse::<WitInterface>(), Err(WitParseError::Shape(_))), "{text}");
        }
    }

    #[test]
    fn an_import_names_exactly_one_interface() {
        let import: ImportName = "wasi:keyvalue/store@0.2.0-draft".parse().unwrap();
        assert_eq!(import.to_string(), "wasi:keyvalue/store@0.2.0-draft");
        assert!(import.is_in(&"wasi:keyvalue/atomics,store@0.2.0-draft".parse().unwrap()));
        assert!(!import.is_in(&"wasi:keyvalue/store".parse().unwrap()));
        for text in ["wasi:keyvalue", "wasi:keyvalue/atomics,store"] {
            assert!(matches!(text.parse::<ImportName>(), Err(WitParseError::Shape(_))), "{text}");
        }
    }

    #[test]
    fn an_entry_asks_for_an_interface_in_its_version_or_in_any() {
        let import: ImportName = "wasi:keyvalue/store@0.2.0-draft".parse().unwrap();
        for (entry, asked_for) in [
            ("wasi:keyvalue/store@0.2.0-draft", true),
            ("wasi:keyvalue/store,atomics", true),
            ("wasi:keyvalue/atomics", false),
            ("wasi:keyvalue/store@0.2.0", false),
            ("wasi:config/store", false),
        ] {
            assert_eq!(import.is_asked_for_by(&entry.parse().unwrap()), asked_for, "{entry}");
        }
    }

    #[test]
    fn versions_must_agree_only_when_both_are_named() {
        let parse = |text: &str| text.parse::<WitInterface>().unwrap();
        assert!(parse("wasi:http@0.2.0").same_package(&parse("wasi:http")));
        assert!(!parse("wasi:http@0.2.0").same_package(&parse("wasi:http@0.2.1")));
        assert!(!parse("wasi:http").same_package(&parse("wasi:config")));
    }
}
