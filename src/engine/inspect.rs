//! What a component imports and exports.

use wasmtime::component::Component;

use crate::wit::ImportName;

/// One import of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    /// The interface.
    pub(crate) name: ImportName,
    /// The label of a named import.
    pub(crate) label: Option<String>,
}

/// Whether the engine itself serves it: WASI without plugins.
pub(super) fn is_wasi_base(name: &ImportName) -> bool {
    const PACKAGES: [&str; 7] = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
    name.namespace == "wasi" && PACKAGES.contains(&name.package.as_str())
}

/// Which form of `wasi:http` handler a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    /// `wasi:http/incoming-handler@0.2.x`
    P2,
    /// `wasi:http/handler@0.3.x`
    P3,
}

/// Which form of `wasi:cli/run` a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunVersion {
    /// `wasi:cli/run@0.2.x`
    P2,
    /// `wasi:cli/run@0.3.x`
    P3,
}

/// What a component imports and exports.
#[derive(Debug, Clone)]
pub(crate) struct Inspected {
    /// Interfaces, in the order of the component.
    pub(crate) imports: Vec<Import>,
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
            let label = import.implements.map(|_interface| name.to_owned());
            match import.implements.unwrap_or(name).parse() {
                Ok(name) => imports.push(Import { name, label }),
                Err(_not_an_interface) => other_imports.push(name.to_owned()),
            }
        }
        let exports = ty.exports(engine).filter_map(|(name, _export)| name.parse().ok()).collect();
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
    /// The one `wasi:cli/run` it exports; `None` also if it exports several.
    pub(crate) fn run(&self) -> Option<RunVersion> {
        let is_run =
            |export: &&ImportName| export.namespace == "wasi" && export.package == "cli" && export.interface == "run";
        let mut runs = self.exports.iter().filter(is_run);
        let (run, None) = (runs.next()?, runs.next()) else { return None };
        match run.version.as_ref().map(|version| (version.major, version.minor)) {
            Some((0, 2)) => Some(RunVersion::P2),
            Some((0, 3)) => Some(RunVersion::P3),
            Some(_) | None => None,
        }
    }
}
