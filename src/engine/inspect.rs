//! What a component imports and exports.

use std::fmt;

use semver::Version;
use wasmtime::component::Component;

use crate::wit::WitInterface;

/// The name of an import or export, as the component spells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ImportName {
    /// For example `wasi`.
    pub(crate) namespace: String,
    /// For example `keyvalue`.
    pub(crate) package: String,
    /// For example `store`.
    pub(crate) interface: String,
    /// `None` if the component names none.
    pub(crate) version: Option<Version>,
    /// The name to link under: the interface's own, or the label of a named import.
    pub(crate) link_name: String,
    /// The label of a named import.
    pub(crate) label: Option<String>,
}

impl ImportName {
    /// Reads `namespace:package/interface@version`; `None` if it is not of that form.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let parsed: WitInterface = name.parse().ok()?;
        let mut interfaces = parsed.interfaces.into_iter();
        let interface = interfaces.next()?;
        if interfaces.next().is_some() {
            return None;
        }
        Some(Self {
            namespace: parsed.namespace,
            package: parsed.package,
            interface,
            version: parsed.version,
            link_name: name.to_owned(),
            label: None,
        })
    }

    /// Whether `entry` names this interface.
    pub(crate) fn is_named_by(&self, entry: &WitInterface) -> bool {
        self.namespace == entry.namespace
            && self.package == entry.package
            && entry.interfaces.contains(&self.interface)
            && match (&self.version, &entry.version) {
                (Some(own), Some(other)) => own == other,
                (None, _) | (_, None) => true,
            }
    }

    /// Whether the engine itself serves it: WASI without plugins.
    pub(crate) fn is_wasi_base(&self) -> bool {
        const PACKAGES: [&str; 7] = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
        self.namespace == "wasi" && PACKAGES.contains(&self.package.as_str())
    }
}

impl fmt::Display for ImportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.namespace, self.package, self.interface)?;
        if let Some(version) = &self.version {
            write!(f, "@{version}")?;
        }
        Ok(())
    }
}

/// Which form of `wasi:http` handler a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    /// `wasi:http/incoming-handler@0.2.x`
    P2,
    /// `wasi:http/handler@0.3.x`
    P3,
}

/// What a component imports and exports.
#[derive(Debug, Clone)]
pub(crate) struct Inspected {
    /// Interfaces, in the order of the component.
    pub(crate) imports: Vec<ImportName>,
    /// Interfaces, in the order of the component.
    pub(crate) exports: Vec<ImportName>,
    /// Imports that are no interface: plain functions, types, modules.
    pub(crate) other_imports: Vec<String>,
}

impl Inspected {
    pub(super) fn of(engine: &wasmtime::Engine, component: &Component) -> Self {
        let ty = component.component_type();
        let mut imports = Vec::new();
        let mut other_imports = Vec::new();
        for (name, import) in ty.imports(engine) {
            // A named import carries the interface it implements beside its own name, the label.
            let parsed = match import.implements {
                Some(implements) => ImportName::parse(implements).map(|import| ImportName {
                    link_name: name.to_owned(),
                    label: Some(name.to_owned()),
                    ..import
                }),
                None => ImportName::parse(name),
            };
            match parsed {
                Some(parsed) => imports.push(parsed),
                None => other_imports.push(name.to_owned()),
            }
        }
        let exports = ty.exports(engine).filter_map(|(name, _export)| ImportName::parse(name)).collect();
        Self { imports, exports, other_imports }
    }

    /// The handler it exports; the newer one, if it exports both.
    pub(crate) fn http(&self) -> Option<HttpVersion> {
        let exports = |interface: &str, minor: u64| {
            self.exports.iter().any(|export| {
                export.namespace == "wasi"
                    && export.package == "http"
                    && export.interface == interface
                    && export.version.as_ref().is_some_and(|version| version.major == 0 && version.minor == minor)
            })
        };
        if exports("handler", 3) {
            Some(HttpVersion::P3)
        } else if exports("incoming-handler", 2) {
            Some(HttpVersion::P2)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_named_by_an_entry_of_its_interface_and_version() {
        let import = ImportName::parse("wasi:keyvalue/store@0.2.0-draft").unwrap();
        for (entry, named) in [
            ("wasi:keyvalue/store@0.2.0-draft", true),
            ("wasi:keyvalue/store,atomics", true),
            ("wasi:keyvalue/atomics", false),
            ("wasi:keyvalue/store@0.2.0", false),
            ("wasi:config/store", false),
        ] {
            assert_eq!(import.is_named_by(&entry.parse().unwrap()), named, "{entry}");
        }
    }

    #[test]
    fn only_single_interfaces_are_import_names() {
        assert_eq!(ImportName::parse("wasi:http/types@0.2.0").unwrap().to_string(), "wasi:http/types@0.2.0");
        for name in ["run", "wasi:http", "wasi:http/a,b", "wasi:http/types@x"] {
            assert_eq!(ImportName::parse(name), None, "{name}");
        }
    }
}
