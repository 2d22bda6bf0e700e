//! Where a configuration comes from: layers, each value knowing its own.

use std::path::PathBuf;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use crate::config::base::Base;
use crate::config::report::Origin;
use crate::config::table::{Kind, Node, Shape};

/// Everything a configuration is made of: `defaults < file < environment < flags`.
#[derive(Clone, Default)]
pub struct Sources {
    /// What the host is if nobody says anything.
    pub base: Base,
    /// The file; none: a host from variables and flags alone.
    pub file: Option<FileInput>,
    /// The variables that concern washlet, as [`env::capture`](crate::config::env::capture) found them at start.
    pub env: Vec<(String, String)>,
    /// The flags that were given.
    pub flags: Vec<FlagValue>,
    /// What relative paths in variables and flags are relative to.
    pub working_dir: PathBuf,
    /// Whether a `file:` image that cannot be read is only warned about: at a start, where there is no older version
    /// to keep, one broken workload does not keep the others from running.
    pub tolerate_missing_images: bool,
}

/// The bytes of the file.
#[derive(Clone)]
pub struct FileInput {
    /// As it was given: messages show it, and relative paths in the file are relative to its directory.
    pub path: PathBuf,
    /// What was read, once.
    pub bytes: Vec<u8>,
}

/// A flag that sets a key.
#[derive(Clone, PartialEq, Eq)]
pub struct FlagValue {
    /// As it is written, for example `--http-addr`.
    pub flag: String,
    /// The key it sets, for example `http.listen`.
    pub key: String,
    /// Its value as text, read by the type of the key.
    pub value: String,
}

impl std::fmt::Debug for Sources {
    /// Values of variables and flags, and the bytes of the file, may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("base", &self.base)
            .field("file", &self.file)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("flags", &self.flags)
            .field("working_dir", &self.working_dir)
            .field("tolerate_missing_images", &self.tolerate_missing_images)
            .finish()
    }
}

impl std::fmt::Debug for FileInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileInput").field("path", &self.path).field("bytes", &self.bytes.len()).finish()
    }
}

impl std::fmt::Debug for FlagValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlagValue").field("flag", &self.flag).field("key", &self.key).finish()
    }
}

/// A value that one variable or flag sets.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) origin: Origin,
    pub(crate) path: Vec<String>,
    pub(crate) value: Value,
}

/// One layer for figment: it merges, and remembers which layer each value is from. It never sees a file or a variable.
struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// The merged tree.
pub(crate) struct Merged {
    figment: Figment,
    pub(crate) dict: Dict,
}

impl Merged {
    /// Lays `settings`, lowest first, over the file, all of them over the base, and that over the defaults of every
    /// table that is there.
    pub(crate) fn new(
        root: &Node,
        base: Base,
        mut file: Dict,
        settings: Vec<Setting>,
    ) -> Result<Self, Box<figment::Error>> {
        for setting in &settings {
            supersede(root, &mut file, &setting.path);
        }
        // Whom nobody overrides is merged already: with a thousand workloads a merge more would be felt.
        let is_alone = settings.is_empty() && base == Base::Standalone;
        let defaults = is_alone.then(|| defaults_of(root, Some(&file)));
        let mut figment = Figment::new().merge(Layer { name: "file".to_owned(), dict: file });
        for Setting { origin, path, value } in settings {
            let name = match origin {
                Origin::Variable(name) => format!("variable {name}"),
                Origin::Flag(name) => format!("flag {name}"),
                Origin::File => "file".to_owned(),
                Origin::Default => "default".to_owned(),
            };
            figment = figment.merge(Layer { name, dict: nest(&path, value) });
        }
        let figment = figment.join(Layer { name: "default".to_owned(), dict: base.dict(root) });
        let defaults = match defaults {
            Some(defaults) => defaults,
            None => defaults_of(root, Some(&figment.extract::<Dict>().map_err(Box::new)?)),
        };
        let figment = figment.join(Layer { name: "default".to_owned(), dict: defaults });
        let mut dict = figment.extract().map_err(Box::new)?;
        base.complete(root, &mut dict);
        Ok(Self { figment, dict })
    }

    /// Which layer `value` is from.
    pub(crate) fn origin(&self, value: &Value) -> Origin {
        let name = self.figment.get_metadata(value.tag()).map_or("default", |metadata| &*metadata.name);
        match name.split_once(' ') {
            Some(("variable", name)) => Origin::Variable(name.to_owned()),
            Some((_flag, name)) => Origin::Flag(name.to_owned()),
            None if name == "file" => Origin::File,
            None => Origin::Default,
        }
    }
}

/// A map of strings is set as a whole, and a secret by either of its two keys: what the file says of them goes.
fn supersede(root: &Node, file: &mut Dict, path: &[String]) {
    let Some((key, tables)) = path.split_last() else { return };
    let (mut node, mut dict) = (root, file);
    for table in tables {
        let below = node.fields().and_then(|fields| fields.get(table));
        let Some(Value::Dict(_, inner)) = dict.get_mut(table) else { return };
        let Some(below) = below else { return };
        (node, dict) = (below, inner);
    }
    let Some(fields) = node.fields() else { return };
    if matches!(fields.get(key).map(|node| &node.shape), Some(Shape::Leaf(Kind::Map))) {
        dict.remove(key);
    }
    let twin = key.strip_suffix("_file").map_or_else(|| format!("{key}_file"), str::to_owned);
    if fields.contains_key(&twin) {
        dict.remove(&twin);
    }
}

fn nest(path: &[String], value: Value) -> Dict {
    match path {
        [] => Dict::new(),
        [key] => Dict::from([(key.clone(), value)]),
        [table, rest @ ..] => Dict::from([(table.clone(), Value::from(nest(rest, value)))]),
    }
}

/// The defaults of all tables but those that are optional and that nobody mentioned.
fn defaults_of(node: &Node, said: Option<&Dict>) -> Dict {
    let mut dict = Dict::new();
    for (key, node) in node.fields().into_iter().flatten() {
        match &node.shape {
            Shape::Leaf(_) => {
                if let Some(value) = node.default.as_ref().and_then(|default| Value::serialize(default).ok()) {
                    dict.insert(key.clone(), value);
                }
            }
            Shape::Table(_) => {
                let said = match said.and_then(|said| said.get(key)) {
                    Some(Value::Dict(_, said)) => Some(said),
                    Some(_not_a_table) => continue,
                    None => None,
                };
                if said.is_some() || !node.is_optional {
                    dict.insert(key.clone(), Value::from(defaults_of(node, said)));
                }
            }
            Shape::Array(_) | Shape::Entries(_) => {}
        }
    }
    dict
}
