//! Which import of a component is served by whom: pure.

use crate::engine::inspect::{Import, Inspected, is_wasi_base};
use crate::types::ComponentName;
use crate::wit::ImportName;

/// What the host offers to one component.
pub(crate) trait Offers {
    /// The number of the plugin that serves `import` for this workload.
    fn plugin_for(&self, import: &Import) -> Option<usize>;

    /// What to enable or declare so that `import` is served.
    fn remedy(&self, import: &Import) -> String;
}

/// One import that a plugin serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginImport {
    pub(crate) import: ImportName,
    pub(crate) plugin: usize,
}

/// Imports that nobody serves, all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(crate) struct MissingImports(Vec<String>);

/// The imports that plugins serve; WASI's own are left out.
pub(crate) fn plan(
    component: &ComponentName,
    inspected: &Inspected,
    offers: &dyn Offers,
) -> Result<Vec<PluginImport>, MissingImports> {
    let mut planned = Vec::new();
    let mut missing = Vec::new();
    for import in &inspected.imports {
        if is_wasi_base(&import.name) && import.label.is_none() {
            continue;
        }
        match offers.plugin_for(import) {
            Some(plugin) => planned.push(PluginImport { import: import.name.clone(), plugin }),
            None => missing.push(format!(
                "component '{component}' imports '{}' which is not available: {}",
                import.name,
                offers.remedy(import)
            )),
        }
    }
    for other in &inspected.other_imports {
        missing.push(format!(
            "component '{component}' imports '{other}' which is not available: it is not an interface, and the host \
             serves interfaces only"
        ));
    }
    if missing.is_empty() { Ok(planned) } else { Err(MissingImports(missing)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Keyvalue;

    impl Offers for Keyvalue {
        fn plugin_for(&self, import: &Import) -> Option<usize> {
            (import.name.package == "keyvalue" && import.label.is_none()).then_some(7)
        }

        fn remedy(&self, import: &Import) -> String {
            format!("enable {}", import.name.package)
        }
    }

    fn inspected(imports: &[&str]) -> Inspected {
        let parsed = imports.iter().map(|name| Import { name: name.parse().unwrap(), label: None }).collect();
        Inspected { imports: parsed, exports: Vec::new(), other_imports: Vec::new() }
    }

    #[test]
    fn wasi_needs_no_plugin_and_the_rest_is_served_by_one() {
        let component = ComponentName::from("api");
        let planned = plan(&component, &inspected(&["wasi:io/poll@0.2.6", "wasi:keyvalue/store"]), &Keyvalue).unwrap();
        assert_eq!(planned.len(), 1);
        assert_eq!((planned[0].plugin, planned[0].import.interface.as_str()), (7, "store"));
    }

    #[test]
    fn every_missing_import_is_named_with_its_remedy() {
        let component = ComponentName::from("api");
        let missing = plan(&component, &inspected(&["a:b/c@1.0.0", "a:d/e"]), &Keyvalue).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "component 'api' imports 'a:b/c@1.0.0' which is not available: enable b; \
             component 'api' imports 'a:d/e' which is not available: enable d"
        );
    }
}
