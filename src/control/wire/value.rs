//! Lenient reading of JSON: both spellings of a name, numbers as text, `null` as absent; an error names its field.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};
use tracing::warn;

/// A field that is not what its message wants. Values are never repeated: they may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub(crate) struct FieldError {
    /// Such as `workload.witWorld.components[0].image`.
    pub(crate) path: String,
    what: String,
}

/// Where in the document a value is; grows with the call stack.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

/// The fields of one message; an absent message has none.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    path: &'a Path<'a>,
}

type Read<T> = Result<T, FieldError>;

impl<'a> Fields<'a> {
    /// The fields of the document itself.
    pub(super) fn of_document(object: &'a Map<String, Value>) -> Self {
        Self { object: Some(object), path: &Path::Root }
    }

    fn new(value: &'a Value, path: &'a Path<'a>) -> Read<Self> {
        match value {
            Value::Null => Ok(Self { object: None, path }),
            Value::Object(object) => Ok(Self { object: Some(object), path }),
            other => Err(path.expected("an object", other)),
        }
    }

    /// The value under `name`, which is lowerCamelCase, or else under its snake_case spelling.
    fn get(&self, name: &str) -> Option<&'a Value> {
        let object = self.object?;
        let value = object.get(name).or_else(|| object.get(&snake_case(name)))?;
        (!value.is_null()).then_some(value)
    }

    pub(super) fn string(&self, name: &str) -> Read<String> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(value) => Path::Field(self.path, name).string(value),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Read<bool> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(Path::Field(self.path, name).expected("a boolean", other)),
        }
    }

    /// A number that fits `T`; 0 if absent.
    pub(super) fn integer<T: TryFrom<i128> + Default>(&self, name: &str) -> Read<T> {
        let Some(value) = self.get(name) else { return Ok(T::default()) };
        let path = Path::Field(self.path, name);
        let integer = path.integer(value)?;
        T::try_from(integer).map_err(|_out_of_range| path.error("the number is out of range"))
    }

    /// The place of an enum's value among `names`; 0, which means "unspecified", if absent or unknown.
    pub(super) fn enumeration(&self, name: &str, names: &[&str]) -> Read<usize> {
        let Some(value) = self.get(name) else { return Ok(0) };
        let path = Path::Field(self.path, name);
        let known = match value {
            Value::String(text) => names.iter().position(|known| known == text),
            number => {
                let number = path.integer(number)?;
                usize::try_from(number).ok().filter(|&number| number < names.len())
            }
        };
        Ok(known.unwrap_or_else(|| {
            warn!(field = %path, "unknown enum value in a request, taken as unspecified");
            0
        }))
    }

    pub(super) fn strings(&self, name: &str) -> Read<Vec<String>> {
        let path = Path::Field(self.path, name);
        let items = self.array(name, &path)?.iter().enumerate();
        items.filter(|(_, item)| !item.is_null()).map(|(i, item)| Path::Index(&path, i).string(item)).collect()
    }

    pub(super) fn map(&self, name: &str) -> Read<BTreeMap<String, String>> {
        let path = Path::Field(self.path, name);
        let entries = match self.get(name) {
            None => return Ok(BTreeMap::new()),
            Some(Value::Object(entries)) => entries.iter().filter(|(_, value)| !value.is_null()),
            Some(other) => return Err(path.expected("an object", other)),
        };
        entries.map(|(key, value)| Ok((key.clone(), Path::Field(&path, key).string(value)?))).collect()
    }

    /// A message inside this one, if it is set.
    pub(super) fn message<T>(&self, name: &str, read: impl FnOnce(Fields<'_>) -> Read<T>) -> Read<Option<T>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(Fields::new(value, &Path::Field(self.path, name))?).map(Some)
    }

    /// A list of messages; `null` in it is an empty message.
    pub(super) fn messages<T>(&self, name: &str, read: impl Fn(Fields<'_>) -> Read<T>) -> Read<Vec<T>> {
        let path = Path::Field(self.path, name);
        let items = self.array(name, &path)?.iter().enumerate();
        items.map(|(i, item)| read(Fields::new(item, &Path::Index(&path, i))?)).collect()
    }

    /// An error about the field `name`.
    pub(super) fn error(&self, name: &str, what: &str) -> FieldError {
        Path::Field(self.path, name).error(what)
    }

    fn array(&self, name: &str, path: &Path<'_>) -> Read<&'a [Value]> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(path.expected("a list", other)),
        }
    }
}

impl Path<'_> {
    fn error(&self, what: impl Into<String>) -> FieldError {
        FieldError { path: self.to_string(), what: what.into() }
    }

    fn expected(&self, wanted: &str, found: &Value) -> FieldError {
        self.error(format!("expected {wanted}, got {}", kind_of(found)))
    }

    fn string(&self, value: &Value) -> Read<String> {
        match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.expected("a string", other)),
        }
    }

    /// `3`, `3.0`, `3e0`, `"3"`, `"3.0"`.
    fn integer(&self, value: &Value) -> Read<i128> {
        let text = match value {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            other => return Err(self.expected("an integer", other)),
        };
        text.parse().ok().or_else(|| integral_float(&text)).ok_or_else(|| self.error("expected an integer"))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The integer that a float spells; a float that is too large for any field becomes one that fits none.
fn integral_float(text: &str) -> Option<i128> {
    let float: f64 = text.parse().ok()?;
    if !float.is_finite() || float.fract() != 0.0 {
        return None;
    }
    Some(format!("{float:.0}").parse().unwrap_or(i128::MAX))
}

/// What a JSON value is, in words.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn snake_case(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len().saturating_add(4));
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(json: &str, read: impl FnOnce(Fields<'_>) -> T) -> T {
        let value: Value = serde_json::from_str(json).unwrap();
        read(Fields::of_document(value.as_object().unwrap()))
    }

    #[test]
    fn integers_come_as_numbers_texts_and_integral_floats() {
        for json in ["3", "3.0", "3e0", "\"3\"", "\"3.0\"", "30e-1"] {
            assert_eq!(with(&format!("{{\"poolSize\":{json}}}"), |f| f.integer::<i32>("poolSize")), Ok(3), "{json}");
        }
        assert_eq!(with("{\"n\":\"18446744073709551615\"}", |f| f.integer::<u64>("n")), Ok(u64::MAX));
        assert_eq!(with("{\"n\":18446744073709551615}", |f| f.integer::<u64>("n")), Ok(u64::MAX));
        for json in ["2147483648", "-2147483649", "1e300", "\"99999999999\""] {
            let error = with(&format!("{{\"n\":{json}}}"), |f| f.integer::<i32>("n")).unwrap_err();
            assert_eq!(error.to_string(), "n: the number is out of range", "{json}");
        }
        for json in ["3.5", "\"\"", "\"x\"", "\"NaN\"", "\"inf\""] {
            let error = with(&format!("{{\"n\":{json}}}"), |f| f.integer::<i32>("n")).unwrap_err();
            assert_eq!(error.to_string(), "n: expected an integer", "{json}");
        }
        assert!(with("{\"n\":-1}", |f| f.integer::<u64>("n")).is_err());
        assert!(with("{\"n\":true}", |f| f.integer::<u64>("n")).is_err());
    }

    #[test]
    fn the_camel_case_spelling_wins_over_the_snake_case_one() {
        assert_eq!(with("{\"pool_size\":2}", |f| f.integer::<i32>("poolSize")), Ok(2));
        assert_eq!(with("{\"pool_size\":2,\"poolSize\":1}", |f| f.integer::<i32>("poolSize")), Ok(1));
    }

    #[test]
    fn enums_come_as_names_and_numbers_and_unknown_ones_are_unspecified() {
        let names = ["E_UNSPECIFIED", "E_A", "E_B"];
        for (json, place) in
            [("\"E_B\"", 2), ("2", 2), ("2.0", 2), ("\"B\"", 0), ("99", 0), ("-1", 0), ("null", 0), ("\"\"", 0)]
        {
            assert_eq!(with(&format!("{{\"e\":{json}}}"), |f| f.enumeration("e", &names)), Ok(place), "{json}");
        }
        assert!(with("{\"e\":{}}", |f| f.enumeration("e", &names)).is_err());
    }

    #[test]
    fn null_is_absent_everywhere() {
        with("{\"s\":null,\"b\":null,\"n\":null,\"l\":null,\"m\":null,\"k\":[null,\"x\"],\"o\":{\"a\":null}}", |f| {
            assert_eq!(f.string("s"), Ok(String::new()));
            assert_eq!(f.boolean("b"), Ok(false));
            assert_eq!(f.integer::<u64>("n"), Ok(0));
            assert_eq!(f.strings("l"), Ok(vec![]));
            assert_eq!(f.message("m", |_| Ok(())), Ok(None));
            assert_eq!(f.strings("k"), Ok(vec!["x".to_owned()]));
            assert_eq!(f.map("o"), Ok(BTreeMap::new()));
        });
    }

    #[test]
    fn an_error_names_the_path_and_never_the_value() {
        let error = with("{\"a\":[{},{\"b\":{\"c\":7}}]}", |f| {
            f.messages("a", |f| f.message("b", |f| f.string("c"))).unwrap_err()
        });
        assert_eq!(error.to_string(), "a[1].b.c: expected a string, got a number");
    }
}
