//! Variables and flags as settings of keys: which key a name means, and its text read by the type of that key.

use figment::value::{Dict, Tag, Value};

use crate::config::base::Base;
use crate::config::document;
use crate::config::hint::nearest;
use crate::config::problem::Severity;
use crate::config::reference::{self, Meaning, OPTIONS, ReferenceOption};
use crate::config::report::{Origin, Report};
use crate::config::source::{FlagValue, Setting};
use crate::config::table::{Kind, Node, Shape};

/// A key that a variable or flag can set.
pub(crate) struct Settable {
    path: Vec<String>,
    kind: Kind,
    /// Whether it is in a table that may be absent, and would be there by setting the key.
    makes_table: bool,
}

/// All keys that a variable or flag can set: those whose path has no part that the user chooses.
pub(crate) fn settable(root: &Node) -> Vec<Settable> {
    fn collect(node: &Node, path: &mut Vec<String>, makes_table: bool, found: &mut Vec<Settable>) {
        for (key, node) in node.fields().into_iter().flatten() {
            path.push(key.clone());
            match &node.shape {
                Shape::Leaf(kind) => found.push(Settable { path: path.clone(), kind: kind.clone(), makes_table }),
                Shape::Table(_) => collect(node, path, makes_table || node.is_optional, found),
                Shape::Array(_) | Shape::Entries(_) => {}
            }
            path.pop();
        }
    }
    let mut found = Vec::new();
    collect(root, &mut Vec::new(), false, &mut found);
    found
}

impl Settable {
    /// The name of its variable: `WASHLET_HTTP__LISTEN`.
    pub(crate) fn variable(&self) -> String {
        format!("WASHLET_{}", fold(&self.path.join("__")).to_ascii_uppercase())
    }
}

/// Variables, lowest layer first. One of the reference host that would add a table counts for a cluster host only: it
/// must not join a standalone host to a scheduler.
pub(crate) fn of_environment(
    base: Base,
    env: &[(String, String)],
    keys: &[Settable],
    report: &mut Report,
) -> Vec<Setting> {
    let mut settings = Vec::new();
    let given = |name: &str| env.iter().find(|(given, value)| given == name && !value.is_empty());
    for option in OPTIONS {
        for (name, text) in option.variables.iter().filter_map(|name| given(name)) {
            let key = option.key().and_then(|key| find(key, keys));
            if base == Base::ClusterHost || key.is_none_or(|key| !key.makes_table) {
                settings.extend(of_option(Origin::Variable(name.clone()), option, text, keys, report));
            }
        }
    }
    for (name, text) in env.iter().filter(|(name, text)| name.starts_with("WASHLET_") && !text.is_empty()) {
        settings.extend(of_washlet(name, text, keys, report));
    }
    if let Some((name, text)) = given("RUST_LOG") {
        settings.extend(set(Origin::Variable(name.clone()), "log.level", text, keys, report));
    }
    settings
}

/// Flags, in the order given.
pub(crate) fn of_flags(flags: &[FlagValue], keys: &[Settable], report: &mut Report) -> Vec<Setting> {
    let setting = |FlagValue { flag, key, value }: &FlagValue| {
        let origin = Origin::Flag(flag.clone());
        match reference::of_flag(flag) {
            Some(option) => of_option(origin, option, value, keys, report),
            None => set(origin, key, value, keys, report),
        }
    };
    flags.iter().filter_map(setting).collect()
}

/// An option of the reference host: what it sets, or what is to be said of it.
fn of_option(
    origin: Origin,
    option: &ReferenceOption,
    text: &str,
    keys: &[Settable],
    report: &mut Report,
) -> Option<Setting> {
    let (key, form, may_wait) = match option.meaning {
        Meaning::Key { key, form, may_wait } => (key, form, may_wait),
        Meaning::Nothing => return None,
        Meaning::Ignored(why) => {
            report.outside(Severity::Warning, &origin, "", why, None);
            return None;
        }
        Meaning::Missing(why) => {
            report.outside(Severity::Error, &origin, "", why, None);
            return None;
        }
    };
    let kind = find(key, keys).map(|settable| &settable.kind);
    let readable = form.convert(text).and_then(|text| match kind {
        Some(kind) if option.is_lenient => read(kind, &text).map(|_value| text),
        Some(_) | None => Ok(text),
    });
    match readable {
        Ok(text) => {
            if may_wait {
                report.let_wait(key.to_owned());
            }
            set(origin, key, &text, keys, report)
        }
        Err(expected) if option.is_lenient => {
            report.outside(Severity::Warning, &origin, key, &format!("ignored: {expected}"), None);
            None
        }
        Err(expected) => {
            report.outside(Severity::Error, &origin, key, &expected, None);
            None
        }
    }
}

fn of_washlet(name: &str, text: &str, keys: &[Settable], report: &mut Report) -> Option<Setting> {
    let path = name.strip_prefix("WASHLET_").unwrap_or_default();
    let origin = Origin::Variable(name.to_owned());
    if name == "WASHLET_CONFIG" {
        return None;
    }
    let names: Vec<String> = keys.iter().map(Settable::variable).collect();
    let hint = || nearest(name, names.iter().map(String::as_str)).map(|near| format!("did you mean {near}?"));
    if !path.contains("__") {
        // A Kubernetes Service called `washlet` puts such variables into every pod of its namespace.
        if !is_service_link(path) {
            report.outside(Severity::Warning, &origin, "", "ignored: no key has this name", hint());
        }
        return None;
    }
    let folded = fold(path);
    match keys.iter().find(|key| fold(&key.path.join("__")) == folded) {
        Some(key) => read_setting(origin, key, text, report),
        None if is_service_link(path) => {
            report.outside(Severity::Warning, &origin, "", "ignored: it looks like a link to a service", None);
            None
        }
        None => {
            report.outside(Severity::Error, &origin, "", "no key has this name", hint());
            None
        }
    }
}

fn set(origin: Origin, key: &str, text: &str, keys: &[Settable], report: &mut Report) -> Option<Setting> {
    match find(key, keys) {
        Some(settable) => read_setting(origin, settable, text, report),
        None => {
            report.outside(Severity::Error, &origin, "", "no key has this name", None);
            None
        }
    }
}

fn find<'a>(key: &str, keys: &'a [Settable]) -> Option<&'a Settable> {
    keys.iter().find(|settable| settable.path.join(".") == key)
}

fn read_setting(origin: Origin, key: &Settable, text: &str, report: &mut Report) -> Option<Setting> {
    match read(&key.kind, text) {
        Ok(value) => Some(Setting { origin, path: key.path.clone(), value }),
        Err(expected) => {
            report.outside(Severity::Error, &origin, &key.path.join("."), &expected, None);
            None
        }
    }
}

/// `text` as a value of the kind; never guessed: `0123` is a valid password.
fn read(kind: &Kind, text: &str) -> Result<Value, String> {
    let tag = Tag::Default;
    let value = match kind {
        Kind::Text | Kind::Duration | Kind::Size | Kind::Address | Kind::Url | Kind::Port | Kind::OneOf(_) => {
            Value::String(tag, text.to_owned())
        }
        Kind::Integer { .. } => match text.trim().parse() {
            Ok(integer) => document::number(integer),
            Err(_reason) => return Err(kind.expected()),
        },
        Kind::Bool => match text.trim() {
            "true" | "1" => Value::Bool(tag, true),
            "false" | "0" => Value::Bool(tag, false),
            _other => return Err(kind.expected()),
        },
        Kind::List(_) if text.trim_start().starts_with('[') => document::parse_value(text)
            .ok_or_else(|| "expected a TOML array, or words with commas between".to_owned())?,
        Kind::List(_) => {
            Value::Array(tag, text.split(',').map(|word| Value::String(tag, word.trim().to_owned())).collect())
        }
        Kind::Map => {
            read_map(text).ok_or_else(|| "expected `key=value,key=value`, or a TOML inline table".to_owned())?
        }
    };
    match kind.check_all(&value).into_iter().next() {
        None => Ok(value),
        Some(error) => Err(error.message),
    }
}

fn read_map(text: &str) -> Option<Value> {
    if text.trim_start().starts_with('{') {
        return document::parse_value(text);
    }
    let mut dict = Dict::new();
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=')?;
        dict.insert(key.trim().to_owned(), Value::String(Tag::Default, value.trim().to_owned()));
    }
    Some(Value::Dict(Tag::Default, dict))
}

/// Names are matched without case, and `-` equals `_`.
fn fold(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// Whether Kubernetes may have made the variable for a Service: `_SERVICE_HOST`, `_SERVICE_PORT[_NAME]`, `_PORT`,
/// `_PORT_<n>_<TCP or UDP or SCTP>[_PROTO, _PORT, _ADDR]` at the end.
pub(crate) fn is_service_link(name: &str) -> bool {
    let name = format!("_{name}");
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_PORT") && !has_port_number(&name) {
        return true;
    }
    name.split_once("_SERVICE_PORT_").is_some_and(|(_, port)| !port.is_empty()) || has_port_number(&name)
}

fn has_port_number(name: &str) -> bool {
    name.match_indices("_PORT_").any(|(at, port)| {
        let rest = name.get(at.saturating_add(port.len())..).unwrap_or_default();
        let mut parts = rest.split('_');
        let is_number = parts.next().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let is_protocol = matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"));
        is_number
            && is_protocol
            && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
            && parts.next().is_none()
    })
}
