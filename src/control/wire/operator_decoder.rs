//! A decoder with the operator's rules, for tests: strict, and it says what it understood.

use serde_json::{Map, Value, json};

/// What a field may be.
enum Kind {
    Text,
    U64,
    U32,
    Float,
    State,
    Timestamp,
    TextMap,
    List(&'static Kind),
    Message(&'static [(&'static str, Kind)]),
}

const INTERFACE: Kind = Kind::Message(&[
    ("namespace", Kind::Text),
    ("package", Kind::Text),
    ("version", Kind::Text),
    ("interfaces", Kind::List(&Kind::Text)),
    ("config", Kind::TextMap),
    ("name", Kind::Text),
]);

const HEARTBEAT: Kind = Kind::Message(&[
    ("id", Kind::Text),
    ("hostname", Kind::Text),
    ("friendlyName", Kind::Text),
    ("version", Kind::Text),
    ("labels", Kind::TextMap),
    ("startedAt", Kind::Timestamp),
    ("osArch", Kind::Text),
    ("osName", Kind::Text),
    ("osKernel", Kind::Text),
    ("systemCpuUsage", Kind::Float),
    ("systemMemoryTotal", Kind::U64),
    ("systemMemoryFree", Kind::U64),
    ("componentCount", Kind::U64),
    ("workloadCount", Kind::U64),
    ("imports", Kind::List(&INTERFACE)),
    ("exports", Kind::List(&INTERFACE)),
    ("httpPort", Kind::U32),
    ("environment", Kind::Text),
]);

const RESPONSE: Kind = Kind::Message(&[(
    "workloadStatus",
    Kind::Message(&[("workloadId", Kind::Text), ("workloadState", Kind::State), ("message", Kind::Text)]),
)]);

const STATES: [&str; 7] = [
    "WORKLOAD_STATE_UNSPECIFIED",
    "WORKLOAD_STATE_STARTING",
    "WORKLOAD_STATE_RUNNING",
    "WORKLOAD_STATE_COMPLETED",
    "WORKLOAD_STATE_STOPPING",
    "WORKLOAD_STATE_ERROR",
    "WORKLOAD_STATE_NOT_FOUND",
];

/// A reply as the operator understands it, or why it refuses it.
pub(super) fn response(payload: &[u8]) -> Result<Value, String> {
    decode(payload, &RESPONSE)
}

/// A heartbeat as the operator understands it, or why it refuses it.
pub(super) fn heartbeat(payload: &[u8]) -> Result<Value, String> {
    decode(payload, &HEARTBEAT)
}

fn decode(payload: &[u8], kind: &Kind) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    Ok(kind.read(&value)?.unwrap_or_else(|| json!({})))
}

impl Kind {
    /// The value in the operator's own spelling; `None` if it is the default.
    fn read(&self, value: &Value) -> Result<Option<Value>, String> {
        if value.is_null() {
            return Ok(None);
        }
        let refused = || Err(format!("invalid value {value}"));
        Ok(match (self, value) {
            (Self::Text, Value::String(text)) => (!text.is_empty()).then(|| value.clone()),
            (Self::U64 | Self::U32, _) => {
                let max = if matches!(self, Self::U64) { i128::from(u64::MAX) } else { i128::from(u32::MAX) };
                let number = integer(value).filter(|n| (0..=max).contains(n)).ok_or(format!("invalid {value}"))?;
                let spelled = if matches!(self, Self::U64) {
                    json!(number.to_string())
                } else {
                    json!(u32::try_from(number).unwrap())
                };
                (number != 0).then_some(spelled)
            }
            (Self::Float, Value::String(text)) if ["NaN", "Infinity", "-Infinity"].contains(&text.as_str()) => {
                Some(value.clone())
            }
            (Self::Float, Value::Number(number)) => {
                let float = number.as_f64().filter(|f| f.abs() <= f64::from(f32::MAX)).ok_or("beyond f32")?;
                (float != 0.0).then(|| value.clone())
            }
            (Self::State, Value::String(name)) if STATES.contains(&name.as_str()) => {
                (name != STATES[0]).then(|| value.clone())
            }
            (Self::State, Value::Number(number)) => match number.as_i64().ok_or("not an enum number")? {
                0 => None,
                known @ 1..=6 => Some(json!(STATES[usize::try_from(known).unwrap()])),
                unknown => Some(json!(unknown)),
            },
            (Self::Timestamp, Value::String(text)) => Some(json!(timestamp(text).ok_or(format!("invalid {text}"))?)),
            (Self::TextMap, Value::Object(entries)) => {
                if !entries.values().all(Value::is_string) {
                    return refused();
                }
                (!entries.is_empty()).then(|| value.clone())
            }
            (Self::List(kind), Value::Array(items)) => {
                let items = items
                    .iter()
                    .map(|item| if item.is_null() { Err("null in a list".to_owned()) } else { kind.read_item(item) });
                let items = items.collect::<Result<Vec<_>, _>>()?;
                (!items.is_empty()).then_some(Value::Array(items))
            }
            (Self::Message(fields), Value::Object(object)) => Some(Value::Object(read_message(fields, object)?)),
            _ => return refused(),
        })
    }

    fn read_item(&self, item: &Value) -> Result<Value, String> {
        Ok(self.read(item)?.unwrap_or_else(|| item.clone()))
    }
}

fn read_message(fields: &[(&str, Kind)], object: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut read = Map::new();
    let mut seen = Vec::new();
    for (key, value) in object {
        let field = fields.iter().find(|(name, _)| name == key || snake(name) == *key);
        let (name, kind) = field.ok_or(format!("unknown field {key:?}"))?;
        if seen.contains(name) {
            return Err(format!("duplicate field {key:?}"));
        }
        seen.push(name);
        if let Some(value) = kind.read(value)? {
            read.insert((*name).to_owned(), value);
        }
    }
    Ok(read)
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().filter(|f| f.fract() == 0.0).and_then(|f| format!("{f:.0}").parse().ok())
        }
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn timestamp(text: &str) -> Option<String> {
    let fraction = text.split_once('.').map_or("", |(_, rest)| rest.trim_end_matches(|c: char| !c.is_ascii_digit()));
    let fraction = fraction.split(['+', '-']).next()?;
    if text.contains(['t', 'z']) || fraction.len() > 9 {
        return None;
    }
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    let at = at.to_offset(time::UtcOffset::UTC);
    at.format(&time::format_description::well_known::Rfc3339).ok()
}

fn snake(camel: &str) -> String {
    camel.chars().fold(String::new(), |mut snake, c| {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        snake
    })
}
