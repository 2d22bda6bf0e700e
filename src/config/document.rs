//! The text of the file as a tree of values, with the place of each in the text.

use std::ops::Range;

use figment::value::{Dict, Empty, Num, Tag, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::path::{index, join};
use crate::config::report::{Report, Span};
use crate::config::syntax::{self, Mistake};

/// Parses `report.text`; syntax errors and places go to `report`. `None` if there is a syntax error.
pub(crate) fn parse(report: &mut Report) -> Option<Dict> {
    let text = report.text.clone();
    let (table, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        let found = errors
            .iter()
            .map(|error| Mistake { span: error.span().unwrap_or(0..0), message: error.message().to_owned() });
        for Mistake { span, message } in syntax::mistakes(&text, found.collect()) {
            report.syntax_error(span, &message);
        }
        return None;
    }
    Some(Tree { report }.table(table.get_ref(), ""))
}

/// One TOML value, as a variable may hold it.
pub(crate) fn parse_value(text: &str) -> Option<Value> {
    let value = DeValue::parse(text).ok()?;
    let mut nowhere = Report::default();
    Some(Tree { report: &mut nowhere }.value(value.get_ref(), ""))
}

/// The number in a type that every integer type of serde decodes from, if it fits one.
pub(crate) fn number(integer: i128) -> Value {
    let small = i64::try_from(integer).map(Num::I64).or_else(|_| u64::try_from(integer).map(Num::U64));
    Value::Num(Tag::Default, small.unwrap_or(Num::I128(integer)))
}

struct Tree<'a> {
    report: &'a mut Report,
}

impl Tree<'_> {
    fn table(&mut self, table: &DeTable<'_>, path: &str) -> Dict {
        let mut dict = Dict::new();
        for (key, value) in table {
            let path = join(path, key.get_ref());
            self.remember(&path, key.span(), value);
            dict.insert(key.get_ref().to_string(), self.value(value.get_ref(), &path));
        }
        dict
    }

    /// Dates, and integers beyond all types, are no values that any key takes; the empty values stand for them.
    fn value(&mut self, value: &DeValue<'_>, path: &str) -> Value {
        let tag = Tag::Default;
        match value {
            DeValue::String(text) => Value::String(tag, text.to_string()),
            DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => number(integer),
                Err(_too_large) => Value::Empty(tag, Empty::None),
            },
            DeValue::Float(float) => Value::Num(tag, Num::F64(float.as_str().parse().unwrap_or(f64::NAN))),
            DeValue::Boolean(flag) => Value::Bool(tag, *flag),
            DeValue::Datetime(_) => Value::Empty(tag, Empty::Unit),
            DeValue::Array(array) => {
                let mut values = Vec::with_capacity(array.len());
                for (i, value) in array.iter().enumerate() {
                    let path = index(path, i);
                    self.remember(&path, value.span(), value);
                    values.push(self.value(value.get_ref(), &path));
                }
                Value::Array(tag, values)
            }
            DeValue::Table(table) => Value::Dict(tag, self.table(table, path)),
        }
    }

    fn remember(&mut self, path: &str, key: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let mut at = value.span();
        // A table that only its children made, as `[[a.b]]` makes `a`, begins where their header does.
        let (before, itself) = self.report.text.split_at_checked(key.start).unwrap_or_default();
        if at == key && matches!(value.get_ref(), DeValue::Table(_)) && !itself.starts_with('{') {
            at.start = before.trim_end_matches('[').len();
        }
        self.report.spans.insert(path.to_owned(), Span { key, value: at });
    }
}
