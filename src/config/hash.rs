//! Digests: of files, and of a configuration in canonical form with its secrets masked.

use std::fmt::Write as _;

use figment::value::{Dict, Value};
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};

use crate::config::scalar::without_user_info;
use crate::config::table::{Kind, Node, Secrecy, Shape};

/// As many digits of a hash as are shown: 48 bits tell the files of one fleet apart.
const SHOWN_DIGITS: usize = 12;

/// SHA-256 in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a `String` cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

/// The published hash of a layer or of the merged tree: equal for equal meaning, whatever the order, units or spaces.
pub(crate) fn of_dict(root: &Node, dict: &Dict) -> String {
    let canonical = canonical_table(root, dict).to_string();
    sha256_hex(canonical.as_bytes()).chars().take(SHOWN_DIGITS).collect()
}

fn canonical_table(node: &Node, dict: &Dict) -> Json {
    let mut object = Map::new();
    for (key, value) in dict {
        if let Some(node) = node.fields().and_then(|fields| fields.get(key)) {
            object.insert(key.clone(), canonical(node, value));
        }
    }
    Json::Object(object)
}

fn canonical(node: &Node, value: &Value) -> Json {
    match (&node.shape, value) {
        (_, _) if node.secrecy == Secrecy::Secret => "<secret>".into(),
        (Shape::Table(_), Value::Dict(_, dict)) => canonical_table(node, dict),
        (Shape::Entries(entry), Value::Dict(_, dict)) => {
            Json::Object(dict.iter().map(|(key, value)| (key.clone(), canonical(entry, value))).collect())
        }
        (Shape::Array(element), Value::Array(_, values)) => {
            values.iter().map(|value| canonical(element, value)).collect()
        }
        (Shape::Leaf(kind), value) => redacted(kind, node.secrecy, value),
        (Shape::Table(_) | Shape::Entries(_) | Shape::Array(_), _) => Json::Null,
    }
}

/// The canonical form of a leaf with as much of it hidden as its secrecy asks for.
pub(crate) fn redacted(kind: &Kind, secrecy: Secrecy, value: &Value) -> Json {
    match secrecy {
        Secrecy::Secret => "<secret>".into(),
        Secrecy::Open => kind.canonical(value),
        Secrecy::ByName => without_secrets(kind.canonical(value)),
        Secrecy::UserInfo => without_user_infos(kind.canonical(value)),
    }
}

/// Of a map whose keys the user chooses: nothing of a value that may be a secret.
fn without_secrets(value: Json) -> Json {
    let Json::Object(map) = value else { return "<secret>".into() };
    let hide = |(name, value): (String, Json)| {
        let text = value.as_str().unwrap_or_default();
        let is_secret = sounds_secret(&name) || sounds_secret(text) || text.contains("-----BEGIN");
        (name, if is_secret { "<secret>".into() } else { without_user_infos(value) })
    };
    Json::Object(map.into_iter().map(hide).collect())
}

/// Whether a name is one that people give to secrets. Rather too often than too seldom: an edit of what is hidden is
/// applied like any other, only the published hash does not show it.
fn sounds_secret(text: &str) -> bool {
    const WORDS: [&str; 11] =
        ["pass", "pwd", "secret", "token", "key", "cred", "auth", "private", "salt", "cookie", "dsn"];
    let text = text.to_ascii_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

pub(crate) fn without_user_infos(value: Json) -> Json {
    match value {
        Json::String(url) => Json::String(without_user_info(&url).into_owned()),
        Json::Array(urls) => urls.into_iter().map(without_user_infos).collect(),
        other @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) => other,
    }
}
