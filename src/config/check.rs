//! Walks the merged tree against the key table: every unknown key, wrong type and bad format, each with its place.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

use crate::config::hint::nearest;
use crate::config::path::{index, join};
use crate::config::problem::Severity;
use crate::config::report::{Origin, Report};
use crate::config::scalar::{FileAddress, FileDuration, FileSize, FileUrl};
use crate::config::source::Merged;
use crate::config::table::{Kind, Node, Secrecy, Shape};

/// Of a key that does no harm by that.
const NO_EFFECT_YET: &str = "not implemented yet: it has no effect";

/// Why a value is not one of a kind.
#[derive(Debug)]
pub(crate) struct KindError {
    /// The element of the list, or the key of the map, that is wrong.
    pub(crate) below: Option<Below>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Below {
    Index(usize),
    Key(String),
}

/// Checks `merged`; problems and origins go to `report`. What comes back holds only what is of the right type.
pub(crate) fn check(root: &Node, merged: &Merged, report: &mut Report) -> Dict {
    let mut checker = Checker { root, merged, report, is_refused: false };
    checker.table(root, "", &merged.dict)
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
                let kept =
                    values.iter().enumerate().filter_map(|(i, value)| self.node(element, &index(path, i), value));
                let kept = kept.collect();
                self.is_refused = is_refused;
                Some(Value::Array(tag, kept))
            }
            (Shape::Leaf(kind), value) => self.leaf(node, kind, path, value),
            (Shape::Table(_) | Shape::Entries(_), _) => self.wrong(path, "expected a table", value),
            (Shape::Array(_), _) => self.wrong(path, "expected an array of tables", value),
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
            return None;
        }
        self.refuse_todo(node, path, value);
        Some(value.clone())
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
        let hint = match nearest(key, fields.keys().map(String::as_str)) {
            Some(near) => {
                // Rules that miss the key that was meant would only repeat it.
                if !dict.contains_key(near) {
                    self.report.taint(join(path, near));
                }
                Some(format!("did you mean `{near}`?"))
            }
            None => self.elsewhere(key),
        };
        self.report.error_at_key(&at, "unknown key", hint);
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
            Secrecy::Open => {}
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

impl Kind {
    /// What a value must be, in words.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Text => "expected a text in quotes".to_owned(),
            Self::Duration => "expected a duration such as \"10s\"".to_owned(),
            Self::Size => "expected a size such as \"512MiB\"".to_owned(),
            Self::Address => "expected an IP address with a port such as \"127.0.0.1:8080\"".to_owned(),
            Self::Url => "expected a URL such as \"nats://localhost:4222\"".to_owned(),
            Self::OneOf(words) => format!("expected one of {}", words.join(", ")),
            Self::Integer { min, max } => format!("expected a whole number from {min} to {max}"),
            Self::Bool => "expected true or false".to_owned(),
            Self::List(_) => "expected an array of texts".to_owned(),
            Self::Map => "expected a table of texts".to_owned(),
        }
    }

    /// Everything that keeps `value` from being one of this kind.
    pub(crate) fn check_all(&self, value: &Value) -> Vec<KindError> {
        match (self, value) {
            (Self::List(kind), Value::Array(_, values)) => {
                let wrong = |(i, value)| kind.check(value).err().map(|error| error.below(Below::Index(i)));
                values.iter().enumerate().filter_map(wrong).collect()
            }
            (Self::Map, Value::Dict(_, dict)) => {
                let wrong = |(key, value): (&String, &Value)| {
                    Self::Text.check(value).err().map(|error| error.below(Below::Key(key.clone())))
                };
                dict.iter().filter_map(wrong).collect()
            }
            (_, _) => self.check(value).err().into_iter().collect(),
        }
    }

    /// As [`check_all`](Self::check_all), for a value that holds no others.
    fn check(&self, value: &Value) -> Result<(), KindError> {
        let found = || Err(KindError::new(format!("{}, found {}", self.expected(), name_of(value))));
        match (self, value) {
            (Self::Bool, Value::Bool(..)) => Ok(()),
            (Self::Integer { min, max }, Value::Num(_, number)) => match integer(*number) {
                Some(number) if (*min..=*max).contains(&number) => Ok(()),
                Some(_out_of_range) => Err(KindError::new(self.expected())),
                None => found(),
            },
            (_, Value::String(_, text)) => self.check_text(text).unwrap_or_else(found),
            (_, _) => found(),
        }
    }

    /// `None` if no text is of this kind.
    fn check_text(&self, text: &str) -> Option<Result<(), KindError>> {
        let is_one = match self {
            Self::Text => true,
            Self::Duration => text.parse::<FileDuration>().is_ok(),
            Self::Size => text.parse::<FileSize>().is_ok(),
            Self::Address => text.parse::<FileAddress>().is_ok(),
            Self::Url => text.parse::<FileUrl>().is_ok(),
            Self::OneOf(words) => {
                let hint =
                    || nearest(text, words.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
                let is_one = words.iter().any(|word| word == text);
                let error = || Err(KindError { hint: hint(), ..KindError::new(self.expected()) });
                return Some(if is_one { Ok(()) } else { error() });
            }
            Self::Integer { .. } | Self::Bool | Self::List(_) | Self::Map => return None,
        };
        Some(if is_one { Ok(()) } else { Err(KindError::new(self.expected())) })
    }

    /// The value in the one form that equal values share.
    pub(crate) fn canonical(&self, value: &Value) -> serde_json::Value {
        match (self, value) {
            (Self::Duration, Value::String(_, text)) => {
                text.parse::<FileDuration>().map_or_else(|_| text.clone(), |it| format!("{:?}", it.0)).into()
            }
            (Self::Size, Value::String(_, text)) => {
                text.parse::<FileSize>().map_or_else(|_| text.clone(), |it| it.0.get().to_string()).into()
            }
            (Self::Address, Value::String(_, text)) => {
                text.parse::<FileAddress>().map_or_else(|_| text.clone(), |it| it.to_string()).into()
            }
            (Self::List(kind), Value::Array(_, values)) => values.iter().map(|value| kind.canonical(value)).collect(),
            (_, Value::Num(_, number)) => integer(*number).map(|it| it.to_string()).into(),
            (_, Value::Bool(_, flag)) => (*flag).into(),
            (_, Value::String(_, text)) => text.clone().into(),
            (_, Value::Dict(_, dict)) => {
                let pairs = dict.iter().map(|(key, value)| (key.clone(), Self::Text.canonical(value)));
                serde_json::Value::Object(pairs.collect())
            }
            (_, Value::Array(..) | Value::Char(..) | Value::Empty(..)) => serde_json::Value::Null,
        }
    }
}

impl KindError {
    fn new(message: String) -> Self {
        Self { below: None, message, hint: None }
    }

    fn below(self, below: Below) -> Self {
        Self { below: Some(below), ..self }
    }
}

fn integer(number: figment::value::Num) -> Option<i128> {
    number.to_i128().or_else(|| number.to_u128().and_then(|number| i128::try_from(number).ok()))
}

/// What a value is, in words.
fn name_of(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a text",
        Value::Bool(..) => "true or false",
        Value::Num(_, figment::value::Num::F32(_) | figment::value::Num::F64(_)) => "a number with a fraction",
        Value::Num(..) => "a number",
        Value::Empty(_, figment::value::Empty::Unit) => "a date or time",
        Value::Empty(_, figment::value::Empty::None) => "a number beyond all limits",
        Value::Dict(..) => "a table",
        Value::Array(..) => "an array",
    }
}
