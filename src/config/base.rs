//! What a host is before a file, variables and flags say anything: nothing, or a cluster host.

use std::path::Path;

use figment::value::{Dict, Value};

use crate::config::document;
use crate::config::report::Report;
use crate::config::table::{Node, Shape};

/// The lowest layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Base {
    /// `washlet`: what is not said is off.
    #[default]
    Standalone,
    /// `washlet host`: in the cluster, with the plugins that the reference host has.
    ClusterHost,
}

/// In the words of the file.
const CLUSTER_HOST: &str = r#"
[nats.scheduler]
[plugins.wasi-config]
[plugins.wasi-logging]
[plugins.wasi-keyvalue]
backend = "nats"
[plugins.wasi-blobstore]
backend = "nats"
[plugins.wasmcloud-messaging]
backend = "nats"
[plugins.wasmcloud-secrets]
"#;

/// The folder of the artifact cache that a cluster host keeps its state in.
const STATE_FOLDER: &str = "washlet-state";

impl Base {
    /// Its keys. A plugin of which a part is not implemented yet is off: values in memory instead of in NATS would be
    /// worse than none.
    pub(crate) fn dict(self, root: &Node) -> Dict {
        match self {
            Self::Standalone => Dict::new(),
            Self::ClusterHost => {
                let mut report = Report::default();
                CLUSTER_HOST.clone_into(&mut report.text);
                usable(root, document::parse(&mut report).unwrap_or_default())
            }
        }
    }

    /// Adds what follows from other keys: the cache outlives a container, so state in it does.
    pub(crate) fn complete(self, root: &Node, dict: &mut Dict) {
        let host = root.fields().and_then(|fields| fields.get("host")?.fields());
        let is_usable = host.and_then(|host| host.get("state_dir")).is_some_and(|node| !node.is_todo);
        let cache = match dict.get("artifacts") {
            Some(Value::Dict(_, artifacts)) => artifacts.get("cache_dir").cloned(),
            _ => None,
        };
        if let (Self::ClusterHost, true, Some(Value::String(tag, cache))) = (self, is_usable, cache)
            && let Some(Value::Dict(_, host)) = dict.get_mut("host")
        {
            let state = Path::new(&cache).join(STATE_FOLDER).display().to_string();
            host.entry("state_dir".to_owned()).or_insert(Value::String(tag, state));
        }
    }
}

/// `dict` without the tables that are not implemented, in whole or in a key that it sets.
fn usable(node: &Node, dict: Dict) -> Dict {
    let fields = node.fields();
    let below = |(key, value): (String, Value)| {
        let node = fields?.get(&key)?;
        match (&node.shape, value) {
            (Shape::Table(_), Value::Dict(tag, dict)) => {
                let is_usable = !(node.is_optional && (node.is_todo || sets_todo(node, &dict)));
                is_usable.then(|| (key, Value::Dict(tag, usable(node, dict))))
            }
            (_, value) => Some((key, value)),
        }
    };
    dict.into_iter().filter_map(below).collect()
}

fn sets_todo(node: &Node, dict: &Dict) -> bool {
    let is_todo = |key: &String| node.fields().and_then(|fields| fields.get(key)).is_none_or(|node| node.is_todo);
    dict.keys().any(is_todo)
}
