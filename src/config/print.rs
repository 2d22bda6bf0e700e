//! The merged configuration for people: each key with its value and where that came from, secrets hidden.

use std::fmt::Write as _;

use figment::value::{Dict, Value};
use serde::Serialize;
use serde_json::Value as Json;

use crate::config::hash::without_user_infos;
use crate::config::path::{index, join};
use crate::config::report::{Origin, Report};
use crate::config::source::Merged;
use crate::config::table::{Node, Secrecy, Shape};

/// A key of the merged configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownValue {
    /// Its path.
    pub key: String,
    /// Its value, as it was written; `<secret>` for a secret.
    pub value: Json,
    /// `default`, `washlet.toml:12`, the name of a variable or of a flag.
    pub origin: String,
}

impl ShownValue {
    /// `key = value  # origin`, the value as TOML writes it.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} = {}  # {}", self.key, toml_text(&self.value), self.origin)
    }
}

/// All keys that are set or have a default.
pub(crate) fn values(root: &Node, merged: &Merged, report: &Report) -> Vec<ShownValue> {
    // Once for all of them: counting from the top of the file for each takes longer than all the rest.
    let line_ends = report.text.match_indices('\n').map(|(at, _newline)| at).collect();
    let mut walk = Walk { report, line_ends, shown: Vec::new() };
    walk.table(root, "", &merged.dict);
    walk.shown
}

struct Walk<'a> {
    report: &'a Report,
    /// Where the lines of the file end, in bytes.
    line_ends: Vec<usize>,
    shown: Vec<ShownValue>,
}

impl Walk<'_> {
    fn table(&mut self, node: &Node, path: &str, dict: &Dict) {
        for (key, value) in dict {
            if let Some(node) = node.fields().and_then(|fields| fields.get(key)) {
                self.node(node, &join(path, key), value);
            }
        }
    }

    fn node(&mut self, node: &Node, path: &str, value: &Value) {
        match (&node.shape, value) {
            (Shape::Table(_), Value::Dict(_, dict)) => self.table(node, path, dict),
            (Shape::Entries(entry), Value::Dict(_, dict)) => {
                dict.iter().for_each(|(key, value)| self.node(entry, &join(path, key), value));
            }
            (Shape::Array(element), Value::Array(_, values)) => {
                values.iter().enumerate().for_each(|(i, value)| self.node(element, &index(path, i), value));
            }
            (Shape::Leaf(_) | Shape::Table(_) | Shape::Entries(_) | Shape::Array(_), value) => {
                let value = match node.secrecy {
                    Secrecy::Secret | Secrecy::ByName => "<secret>".into(),
                    Secrecy::UserInfo => without_user_infos(plain(value)),
                    Secrecy::Open => plain(value),
                };
                self.shown.push(ShownValue { key: path.to_owned(), value, origin: self.origin(path) });
            }
        }
    }

    fn origin(&self, path: &str) -> String {
        match self.report.origins.get(path).unwrap_or(&Origin::Default) {
            Origin::Default => "default".to_owned(),
            Origin::File => match self.report.spans.get(path) {
                Some(span) => {
                    let before = self.line_ends.partition_point(|end| *end < span.key.start);
                    format!("{}:{}", self.report.file, before.saturating_add(1))
                }
                None => self.report.file.clone(),
            },
            Origin::Variable(name) | Origin::Flag(name) => name.clone(),
        }
    }
}

fn plain(value: &Value) -> Json {
    match value {
        Value::String(_, text) => text.clone().into(),
        Value::Char(_, c) => c.to_string().into(),
        Value::Bool(_, flag) => (*flag).into(),
        Value::Num(_, number) => match number.to_i128().and_then(|number| i64::try_from(number).ok()) {
            Some(number) => number.into(),
            None => number.to_u128().and_then(|number| u64::try_from(number).ok()).into(),
        },
        Value::Empty(..) => Json::Null,
        Value::Dict(_, dict) => Json::Object(dict.iter().map(|(key, value)| (key.clone(), plain(value))).collect()),
        Value::Array(_, values) => values.iter().map(plain).collect(),
    }
}

fn toml_text(value: &Json) -> String {
    match value {
        Json::Object(object) => {
            let mut text = String::from("{");
            for (i, (key, value)) in object.iter().enumerate() {
                // Writing to a `String` cannot fail.
                let separator = if i == 0 { " " } else { ", " };
                let _infallible = write!(text, "{separator}{} = {}", join("", key), toml_text(value));
            }
            text + if object.is_empty() { "}" } else { " }" }
        }
        Json::Array(values) => format!("[{}]", values.iter().map(toml_text).collect::<Vec<_>>().join(", ")),
        Json::String(_) | Json::Bool(_) | Json::Number(_) | Json::Null => value.to_string(),
    }
}
