//! The key table: every key with its type, default, reload class and secrecy, read off the structs of the file.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::config::path::join;
use crate::config::schema;

/// When a changed key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// At once, without interrupting work in flight.
    Live,
    /// At the next start, pull or connection.
    Next,
    /// When the process restarts.
    Restart,
}

/// How much of a value may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// All of it.
    Open,
    /// All but the user information of its URLs.
    UserInfo,
    /// Nothing: among the values of a map that the user names are secrets. What is not called like one counts in hashes.
    ByName,
    /// Nothing.
    Secret,
}

/// A key or a table.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) shape: Shape,
    pub(crate) class: Option<Class>,
    /// Whether anything but the default is refused in this release.
    pub(crate) is_todo: bool,
    pub(crate) is_required: bool,
    /// Whether a table may be absent, which then means something else than its defaults.
    pub(crate) is_optional: bool,
    pub(crate) secrecy: Secrecy,
    pub(crate) default: Option<Json>,
}

#[derive(Debug)]
pub(crate) enum Shape {
    /// A table with known keys.
    Table(BTreeMap<String, Node>),
    /// An array of tables.
    Array(Box<Node>),
    /// A table whose keys the user chooses, of tables.
    Entries(Box<Node>),
    /// A key with a value.
    Leaf(Kind),
}

/// What the value of a key must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Text,
    Duration,
    Size,
    Address,
    Url,
    OneOf(Vec<String>),
    Integer { min: i128, max: i128 },
    Bool,
    List(Box<Kind>),
    Map,
}

/// What a node takes over from the table it is in.
#[derive(Clone, Copy)]
struct Inherited {
    class: Option<Class>,
    is_todo: bool,
}

/// The root of the key table.
pub(crate) fn root() -> &'static Node {
    static ROOT: LazyLock<Node> =
        LazyLock::new(|| Node::read(&schema::of_file(), Inherited { class: None, is_todo: false }));
    &ROOT
}

/// The reload class of `path`, or of the table it is in: what stands below a name the user chose has its table's.
pub(crate) fn class_of(path: &str) -> Class {
    let mut node = root();
    let mut class = Class::Live;
    for key in path.split('.') {
        let Some(below) = node.fields().and_then(|fields| fields.get(key)) else { break };
        class = below.class.unwrap_or(class);
        node = below;
    }
    class
}

impl Node {
    fn read(schema: &Json, inherited: Inherited) -> Self {
        let flag = |name: &str| schema.get(name).and_then(Json::as_bool).unwrap_or(false);
        let class = schema.get("x-washlet-reload").and_then(Json::as_str).and_then(Class::parse).or(inherited.class);
        let is_todo = flag("x-washlet-todo") || inherited.is_todo;
        let is_optional = is_nullable(schema);
        let secrecy = match schema.get("x-washlet-secret") {
            Some(Json::Bool(true)) => Secrecy::Secret,
            Some(Json::String(form)) if form == "by-name" => Secrecy::ByName,
            Some(Json::String(_user_info)) => Secrecy::UserInfo,
            _ => Secrecy::Open,
        };
        let is_required = flag("x-washlet-required");
        Self {
            shape: Shape::read(schema, Inherited { class, is_todo }),
            class,
            is_todo,
            is_required,
            is_optional,
            secrecy,
            default: schema.get("default").filter(|default| !default.is_null() && !is_required).cloned(),
        }
    }

    /// The keys of a table; `None` if this is none, or if the user chooses the keys.
    pub(crate) fn fields(&self) -> Option<&BTreeMap<String, Node>> {
        match &self.shape {
            Shape::Table(fields) => Some(fields),
            Shape::Array(_) | Shape::Entries(_) | Shape::Leaf(_) => None,
        }
    }

    /// Calls `visit` with path and node of everything below, tables before their keys; the keys of arrays and of
    /// tables with free keys carry `[]` and `<name>` in their path.
    pub(crate) fn walk<'a>(&'a self, path: &str, visit: &mut dyn FnMut(&str, &'a Node)) {
        match &self.shape {
            Shape::Table(fields) => {
                for (key, node) in fields {
                    let path = join(path, key);
                    visit(&path, node);
                    node.walk(&path, visit);
                }
            }
            Shape::Array(element) => element.walk(&format!("{path}[]"), visit),
            Shape::Entries(entry) => entry.walk(&format!("{path}.<name>"), visit),
            Shape::Leaf(_) => {}
        }
    }
}

impl Class {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "live" => Some(Self::Live),
            "next" => Some(Self::Next),
            "restart" => Some(Self::Restart),
            _ => None,
        }
    }

    /// The word for it in texts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Next => "next",
            Self::Restart => "restart",
        }
    }
}

impl Shape {
    fn read(schema: &Json, inherited: Inherited) -> Self {
        if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
            let node = |(key, schema): (&String, &Json)| (key.clone(), Node::read(schema, inherited));
            return Self::Table(properties.iter().map(node).collect());
        }
        let has_properties = |schema: &&Json| schema.get("properties").is_some();
        if let Some(element) = schema.get("items").filter(has_properties) {
            return Self::Array(Box::new(Node::read(element, inherited)));
        }
        if let Some(entry) = schema.get("additionalProperties").filter(has_properties) {
            return Self::Entries(Box::new(Node::read(entry, inherited)));
        }
        Self::Leaf(Kind::read(schema))
    }
}

impl Kind {
    fn read(schema: &Json) -> Self {
        let words = schema.get("enum").and_then(Json::as_array);
        if let Some(words) = words {
            return Self::OneOf(words.iter().filter_map(Json::as_str).map(str::to_owned).collect());
        }
        let format = schema.get("format").and_then(Json::as_str).unwrap_or_default();
        match type_of(schema) {
            "boolean" => Self::Bool,
            "integer" => Self::Integer {
                min: schema.get("minimum").and_then(Json::as_i64).unwrap_or_default().into(),
                max: if format == "uint64" { i64::MAX.into() } else { u32::MAX.into() },
            },
            "array" => Self::List(Box::new(schema.get("items").map_or(Self::Text, Self::read))),
            "object" => Self::Map,
            _ => match format {
                "duration" => Self::Duration,
                "size" => Self::Size,
                "address" => Self::Address,
                "url" => Self::Url,
                _ => Self::Text,
            },
        }
    }
}

fn type_of(schema: &Json) -> &str {
    match schema.get("type") {
        Some(Json::String(name)) => name,
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).find(|name| *name != "null").unwrap_or(""),
        _ => "",
    }
}

fn is_nullable(schema: &Json) -> bool {
    let names = schema.get("type").and_then(Json::as_array);
    names.is_some_and(|names| names.iter().any(|name| name.as_str() == Some("null")))
}
