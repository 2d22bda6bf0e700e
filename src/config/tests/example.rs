//! The example says every key, nothing else, and what is true of it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use crate::config::example::TEXT;
use crate::config::table::{self, Node, Shape};
use crate::config::{Config, FileInput, Sources, load};

/// `# key = value` or `# [table]` without its mark.
fn commented(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("# ")?;
    let is_word = |key: &str| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let is_key = rest.split_once(" = ").is_some_and(|(key, _)| is_word(key));
    let is_table = rest.starts_with('[') && rest.ends_with(']') && !rest.contains(' ');
    (is_key || is_table).then_some(rest)
}

fn walk(node: &Node, path: &str, value: &toml::Value, seen: &mut BTreeSet<String>) {
    match (&node.shape, value) {
        (Shape::Table(fields), toml::Value::Table(table)) => {
            for (key, value) in table {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let node = fields.get(key).unwrap_or_else(|| panic!("{at} is no key"));
                seen.insert(at.clone());
                walk(node, &at, value, seen);
            }
        }
        (Shape::Array(element), toml::Value::Array(values)) => {
            values.iter().for_each(|value| walk(element, &format!("{path}[]"), value, seen));
        }
        (Shape::Entries(entry), toml::Value::Table(table)) => {
            table.values().for_each(|value| walk(entry, &format!("{path}.<name>"), value, seen));
        }
        (Shape::Leaf(kind), value) => {
            let value = figment::value::Value::serialize(value).unwrap();
            assert!(kind.check_all(&value).is_empty(), "{path}: {}", kind.expected());
            if let Some(default) = &node.default {
                let default = figment::value::Value::serialize(default).unwrap();
                assert_eq!(kind.canonical(&value), kind.canonical(&default), "{path} is not the default");
            }
        }
        (_, _) => panic!("{path} has the wrong type"),
    }
}

#[test]
fn as_it_stands_it_means_the_defaults() {
    let file = FileInput { path: PathBuf::from("washlet.toml.example"), bytes: TEXT.as_bytes().to_vec() };
    let sources = Sources { file: Some(file), ..Sources::default() };
    let loaded = load(&sources, &|_| Err(io::ErrorKind::NotFound.into())).map_err(|it| it.text()).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, []);
}

#[test]
fn it_names_every_key_and_each_value_is_the_default_or_has_the_right_type() {
    let text: Vec<_> = TEXT.lines().map(|line| commented(line).unwrap_or(line)).collect();
    let tree: toml::Value = toml::from_str(&text.join("\n")).unwrap();
    let mut seen = BTreeSet::new();
    walk(table::root(), "", &tree, &mut seen);
    let mut all = BTreeSet::new();
    table::root().walk("", &mut |path, _| {
        all.insert(path.to_owned());
    });
    assert_eq!(all.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new(), "keys that the example lacks");
    assert!(all.len() > 150, "only {} keys", all.len());
}

#[test]
fn it_gives_each_key_its_reload_class() {
    let (mut path, mut note) = (String::new(), String::new());
    let mut count = 0;
    for line in TEXT.lines() {
        let said = commented(line).unwrap_or(line);
        if said.starts_with('[') {
            path = said.trim_matches(['[', ']']).replace('"', "");
        } else if let Some((key, rest)) = said.split_once(" = ").filter(|_| !said.starts_with('#')) {
            let node = find(&path, key);
            let class = node.class.unwrap().as_str();
            let mark = if node.is_todo { format!("[{class}, not implemented yet]") } else { format!("[{class}]") };
            assert!(rest.contains(&mark) || note.contains(&mark), "{path}.{key} should say {mark}");
            count += 1;
            note.clear();
        } else {
            note.push_str(line);
        }
    }
    assert!(count > 120, "only {count} keys");
}

fn find(table: &str, key: &str) -> &'static Node {
    let mut node = table::root();
    for part in table.split('.').chain([key]) {
        node = match &node.shape {
            Shape::Table(fields) => &fields[part],
            Shape::Array(element) => &element.fields().unwrap()[part],
            Shape::Entries(entry) => entry,
            Shape::Leaf(_) => panic!("{table}.{key}"),
        };
    }
    node
}
