//! What the value of a key must be: checked, said in words, and brought into the one form that equal values share.

use figment::value::Value;

use crate::config::hint::nearest;
use crate::config::scalar::{FileAddress, FileDuration, FilePort, FileSize, FileUrl, ScalarError};
use crate::config::table::Kind;

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
            Self::Port => "expected a whole number from 1 to 65535, or a text such as \"53/udp\"".to_owned(),
            Self::List(kind) => match **kind {
                Self::Port | Self::Integer { .. } => "expected an array of whole numbers".to_owned(),
                _ => "expected an array of texts".to_owned(),
            },
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
            (Self::Port, Value::Num(_, number)) => match integer(*number) {
                Some(number) if (1..=65535).contains(&number) => Ok(()),
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
            Self::Text => Ok(()),
            Self::Duration => text.parse::<FileDuration>().map(drop),
            Self::Size => text.parse::<FileSize>().map(drop),
            Self::Address => text.parse::<FileAddress>().map(drop),
            Self::Url => text.parse::<FileUrl>().map(drop),
            Self::Port => text.parse::<FilePort>().map(drop),
            Self::OneOf(words) => {
                let hint =
                    || nearest(text, words.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
                let is_one = words.iter().any(|word| word == text);
                let error = || Err(KindError { hint: hint(), ..KindError::new(self.expected()) });
                return Some(if is_one { Ok(()) } else { error() });
            }
            Self::Integer { .. } | Self::Bool | Self::List(_) | Self::Map => return None,
        };
        Some(is_one.map_err(|error: ScalarError| KindError::new(error.to_string())))
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
            (Self::Port, Value::Num(_, number)) => integer(*number).map(|it| format!("{it}/tcp")).into(),
            (Self::Port, Value::String(_, text)) => {
                let port = text.trim().to_ascii_lowercase();
                if port.contains('/') { port } else { format!("{port}/tcp") }.into()
            }
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

impl Kind {
    /// What stands for a wrong element of a list, so that the others keep their places: right, and nothing to anybody.
    pub(crate) fn stand_in(&self, value: &Value) -> Option<Value> {
        let text = match self {
            Self::Text => "",
            Self::Duration => "0s",
            Self::Size => "0B",
            Self::Address => "0.0.0.0:0",
            Self::Url => "_",
            Self::Port => "1",
            Self::OneOf(_) | Self::Integer { .. } | Self::Bool | Self::List(_) | Self::Map => return None,
        };
        Some(Value::String(value.tag(), text.to_owned()))
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
pub(crate) fn name_of(value: &Value) -> &'static str {
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
