//! Walks the merged tree against the key table: every unknown key, wrong type and bad format, each with its place.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use crate::config::hint::{long_for, nearest, nearest_within, short_for};
use crate::config::kind::{Below, KindError, name_of};
use crate::config::path::{index, join};
use crate::config::problem::Severity;
use crate::config::report::{Origin, Report};
use crate::config::source::Merged;
use crate::config::table::{Kind, Node, Secrecy, Shape};

/// Of a key that does no harm by that.
const NO_EFFECT_YET: &str = "not implemented yet: it has no effect";

/// Checks `merged`; problems and origins go to `report`. What comes back holds only what is of the right type.
pub(crate) fn check(root: &Node, merged: &Merged, report: &mut Report) -> Dict {
    let mut checker = Checker { root, merged, report, is_refused: false };
    checker.table(root, "", &merged.dict)
}

/// What an unknown key may be.
enum Meant<'k> {
    /// This key of the same table.
    Sibling(&'k str),
    /// A key of other tables, in words.
    Elsewhere(String),
    Unknown,
}

struct Checker<'a> {
    root: &'a Node,
    merged: &'a Merged,
    report: &'a mut Report,
    /// Whether a table around the current key has been refused as a whole.
    is_refused: bool,
}

impl Checker<'_> {
    fn node(&mut self, node: &Node, path: &str, value: &Value) -> Option<Value> {
        self.remember(node, path, value);
        let tag = value.tag();
        match (&node.shape, value) {
            (Shape::Table(_), Value::Dict(_, dict)) => {
                // The keys of a plugin that is not there yet are still read, so that a typo shows now.
                let is_refused = self.is_refused;
                if node.is_optional && node.is_todo {
                    let is_off = dict.get("enabled").and_then(Value::to_bool) == Some(false);
                    if !is_refused && !is_off && !self.lets_wait(path, dict) {
                        self.report.error_at_key(path, "not implemented yet", None);
                    }
                    self.is_refused = true;
                }
                let kept = self.table(node, path, dict);
                self.is_refused = is_refused;
                Some(Value::Dict(tag, kept))
            }
            (Shape::Entries(entry), Value::Dict(_, dict)) => {
                let is_refused = self.refuse_todo(node, path, value);
                let kept = dict
                    .iter()
                    .filter_map(|(key, value)| Some((key.clone(), self.node(entry, &join(path, key), value)?)));
                let kept = kept.collect();
                self.is_refused = is_refused;
                Some(Value::Dict(tag, kept))
            }
            (Shape::Array(element), Value::Array(_, values)) => {
                let is_refused = self.refuse_todo(node, path, value);
                let kept = values.iter().enumerate().map(|(i, value)| {
                    let path = index(path, i);
                    self.node(element, &path, value).unwrap_or_else(|| self.stand_in(element, &path, value))
                });
                let kept = kept.collect();
                self.is_refused = is_refused;
                Some(Value::Array(tag, kept))
            }
            (Shape::Leaf(kind), value) => self.leaf(node, kind, path, value),
            (Shape::Table(_) | Shape::Entries(_), _) => self.wrong(path, "expected a table", value),
            (Shape::Array(_), _) => {
                self.mask(path, value);
                let message = format!("expected an array of tables, found {}", name_of(value));
                let header: String = path.split(['[', ']']).step_by(2).collect();
                self.report.error_with_hint(path, &message, Some(format!("each of them begins with `[[{header}]]`")));
                None
            }
        }
    }

    fn table(&mut self, node: &Node, path: &str, dict: &Dict) -> Dict {
        let Some(fields) = node.fields() else { return Dict::new() };
        let mut kept = Dict::new();
        for (key, value) in dict {
            let at = join(path, key);
            match fields.get(key) {
                Some(node) => {
                    if let Some(value) = self.node(node, &at, value) {
                        kept.insert(key.clone(), value);
                    }
                }
                None => self.unknown(fields, dict, path, key),
            }
        }
        for (key, node) in fields {
            if node.is_required && !dict.contains_key(key) {
                let origin = self.report.origin(path);
                self.report.origins.insert(join(path, key), origin);
                self.report.error(&join(path, key), "missing");
            }
        }
        kept
    }

    fn leaf(&mut self, node: &Node, kind: &Kind, path: &str, value: &Value) -> Option<Value> {
        let errors = kind.check_all(value);
        if !errors.is_empty() {
            for KindError { below, message, hint } in errors {
                let path = match below {
                    None => path.to_owned(),
                    Some(Below::Index(i)) => index(path, i),
                    Some(Below::Key(key)) => join(path, &key),
                };
                // A hint is made from the value, which a secret must not be.
                let hint = hint.filter(|_| node.secrecy == Secrecy::Open);
                self.report.error_with_hint(&path, &message, hint);
            }
            return self.right_part(kind, path, value);
        }
        self.refuse_todo(node, path, value);
        Some(value.clone())
    }

    /// Of a list or a map with wrong elements the others, each in its place, so that rules see them in the same run.
    fn right_part(&mut self, kind: &Kind, path: &str, value: &Value) -> Option<Value> {
        match (kind, value) {
            (Kind::List(kind), Value::Array(tag, values)) => {
                let is_wrong = |i| self.report.is_tainted(&index(path, i));
                let part = |(i, value): (usize, &Value)| {
                    if is_wrong(i) { kind.stand_in(value) } else { Some(value.clone()) }
                };
                let part: Option<Vec<_>> = values.iter().enumerate().map(part).collect();
                part.map(|part| Value::Array(*tag, part))
            }
            (Kind::Map, Value::Dict(tag, dict)) => {
                let is_right = |key: &str| !self.report.is_tainted(&join(path, key));
                let part =
                    dict.iter().filter(|(key, _)| is_right(key)).map(|(key, value)| (key.clone(), value.clone()));
                Some(Value::Dict(*tag, part.collect()))
            }
            // A whole table, or a list, in place of a value may hold anything, a secret too.
            (_, value @ (Value::Dict(..) | Value::Array(..))) => {
                self.mask(path, value);
                None
            }
            (_, _) => None,
        }
    }

    /// What stands for a wrong element, so that the others keep their places; no rule speaks of it.
    fn stand_in(&mut self, element: &Node, path: &str, value: &Value) -> Value {
        for key in element.fields().into_iter().flat_map(BTreeMap::keys) {
            self.report.taint(join(path, key));
        }
        Value::Dict(value.tag(), Dict::new())
    }

    /// What is not implemented yet may only be said as what it is anyway. Says whether something around it had been
    /// refused before, and remembers that now everything below is.
    fn refuse_todo(&mut self, node: &Node, path: &str, value: &Value) -> bool {
        let is_refused = self.is_refused;
        if !node.is_todo || is_refused || self.merged.origin(value) == Origin::Default {
            return is_refused;
        }
        let is_default = match (&node.shape, &node.default, value) {
            (Shape::Leaf(kind), Some(default), value) => {
                Value::serialize(default).is_ok_and(|default| kind.canonical(&default) == kind.canonical(value))
            }
            (_, _, Value::Array(_, values)) => values.is_empty(),
            (_, _, Value::Dict(_, dict)) => dict.is_empty(),
            (_, _, _) => false,
        };
        if !is_default && self.report.may_wait(path) {
            self.report.warning(path, NO_EFFECT_YET);
        } else if !is_default {
            self.report.error_at_key(path, "not implemented yet", None);
        }
        self.is_refused = !matches!(node.shape, Shape::Leaf(_));
        is_refused
    }

    /// Warns of each key that is set in a table, if all of them may wait until they are implemented.
    fn lets_wait(&mut self, path: &str, dict: &Dict) -> bool {
        let said = dict.iter().filter(|(_, value)| self.merged.origin(value) != Origin::Default);
        let said: Vec<(String, Origin)> =
            said.map(|(key, value)| (join(path, key), self.merged.origin(value))).collect();
        let all_may = !said.is_empty() && said.iter().all(|(path, _)| self.report.may_wait(path));
        for (path, origin) in said.iter().filter(|_| all_may) {
            self.report.outside(Severity::Warning, origin, path, NO_EFFECT_YET, None);
        }
        all_may
    }

    fn unknown(&mut self, fields: &BTreeMap<String, Node>, dict: &Dict, path: &str, key: &str) {
        let at = join(path, key);
        if let Some(value) = dict.get(key) {
            self.report.origins.insert(at.clone(), self.merged.origin(value));
            // It may be the misspelt name of a secret.
            self.mask(&at, value);
        }
        let hint = match self.meant(fields, dict, key) {
            Meant::Sibling(near) => {
                // Rules that miss the key that was meant would only repeat it.
                if !dict.contains_key(near) {
                    self.report.taint(join(path, near));
                }
                Some(format!("did you mean `{near}`?"))
            }
            Meant::Elsewhere(hint) => Some(hint),
            Meant::Unknown => None,
        };
        self.report.error_at_key(&at, "unknown key", hint);
    }

    /// What an unknown key most likely is, those keys first that nobody has set yet.
    fn meant<'k>(&self, fields: &'k BTreeMap<String, Node>, dict: &Dict, key: &str) -> Meant<'k> {
        let is_said = |key: &str| dict.get(key).is_some_and(|value| self.merged.origin(value) != Origin::Default);
        let all = || fields.keys().map(String::as_str);
        let free = || all().filter(|sibling| !is_said(sibling));
        let slip = nearest_within(2, key, free()).or_else(|| nearest_within(2, key, all()));
        if let Some(near) = slip.or_else(|| short_for(key, free())).or_else(|| short_for(key, all())) {
            return Meant::Sibling(near);
        }
        let elsewhere = self.elsewhere(key).map(Meant::Elsewhere);
        let far = || nearest(key, free()).or_else(|| long_for(key, free())).map(Meant::Sibling);
        elsewhere.or_else(far).unwrap_or(Meant::Unknown)
    }

    /// The other tables that have a key of that name; those whose key can be used, if there are any.
    fn elsewhere(&self, key: &str) -> Option<String> {
        let (mut usable, mut planned) = (Vec::new(), Vec::new());
        self.root.walk("", &mut |path, node| {
            if let Some((table, last)) = path.rsplit_once('.')
                && last == key
                && !path.contains(['[', '<'])
            {
                let tables = if node.is_todo { &mut planned } else { &mut usable };
                tables.push(format!("[{table}]"));
            }
        });
        let tables = if usable.is_empty() { planned } else { usable };
        (!tables.is_empty()).then(|| format!("`{key}` belongs to {}", tables.join(" or ")))
    }

    fn wrong(&mut self, path: &str, expected: &str, value: &Value) -> Option<Value> {
        let message = format!("{expected}, found {}", name_of(value));
        self.mask(path, value);
        self.report.error(path, &message);
        None
    }

    fn remember(&mut self, node: &Node, path: &str, value: &Value) {
        let origin = match value {
            // A table is from the file if the file has it, whoever has set keys in it.
            Value::Dict(..) if node.fields().is_some() && self.report.spans.contains_key(path) => Origin::File,
            value => self.merged.origin(value),
        };
        self.report.origins.insert(path.to_owned(), origin);
        match node.secrecy {
            // Where a URL should not be, its user information is no less a secret.
            Secrecy::Open => {
                if value.as_str().is_some_and(|text| text.contains("://") && text.contains('@')) {
                    self.mask(path, value);
                }
            }
            Secrecy::Secret | Secrecy::ByName => self.mask(path, value),
            // The rule for printing a URL has no place in a snippet: all of it goes.
            Secrecy::UserInfo => {
                if has_user_info(value) {
                    self.mask(path, value);
                }
            }
        }
    }

    /// Hides the value in every snippet.
    fn mask(&mut self, path: &str, value: &Value) {
        match value {
            Value::Dict(_, dict) => dict.iter().for_each(|(key, value)| self.mask(&join(path, key), value)),
            Value::Array(_, values) => {
                values.iter().enumerate().for_each(|(i, value)| self.mask(&index(path, i), value));
            }
            Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => {
                if let Some(span) = self.report.spans.get(path) {
                    self.report.masks.push(span.value.clone());
                }
            }
        }
    }
}

fn has_user_info(value: &Value) -> bool {
    match value {
        Value::String(_, text) => text.contains('@'),
        Value::Array(_, values) => values.iter().any(has_user_info),
        Value::Dict(_, dict) => dict.values().any(has_user_info),
        Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => false,
    }
}
