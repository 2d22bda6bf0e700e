//! What the operator is told, as JSON it accepts (package `wasmcloud.runtime.v2`): strict out.
//!
//! Its decoder refuses a whole message for one unknown field, so nothing is written here that the schema does not have.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use crate::types::{HostHeartbeat, WorkloadState};
use crate::wit::WitInterface;

/// A message is for a person, and a reply must fit the server's `max_payload`.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// The answer to a start, stop or status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The id of the request; empty if it had none.
    pub(crate) workload_id: String,
    /// Where the workload is.
    pub(crate) state: WorkloadState,
    /// For a person; cut when encoded.
    pub(crate) message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireReply<'a> {
    workload_status: WireStatus<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    workload_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload_state: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireHeartbeat<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hostname: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    friendly_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    os_arch: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    os_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    os_kernel: &'a str,
    #[serde(skip_serializing_if = "is_zero_float")]
    system_cpu_usage: f32,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_text")]
    system_memory_total: u64,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_text")]
    system_memory_free: u64,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_text")]
    component_count: u64,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_text")]
    workload_count: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imports: Vec<WireInterface>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exports: Vec<WireInterface>,
    #[serde(skip_serializing_if = "is_zero_port")]
    http_port: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    environment: &'a str,
}

/// Without settings and label: a heartbeat carries no secrets.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct WireInterface {
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    package: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<String>,
}

impl Reply {
    /// The JSON text, of at most `max_payload` bytes: what does not fit is cut, first the message, at last the id.
    pub(crate) fn encode(&self, max_payload: usize) -> Bytes {
        let whole = self.encode_with(&self.workload_id, MESSAGE_BYTES_MAX);
        if whole.len() <= max_payload {
            return whole;
        }
        let short = self.encode_with(&self.workload_id, 64);
        if short.len() <= max_payload {
            return short;
        }
        self.encode_with("", 64)
    }

    fn encode_with(&self, workload_id: &str, message_bytes_max: usize) -> Bytes {
        let message = cut(&self.message, message_bytes_max);
        let workload_state = state_name(self.state);
        json(&WireReply { workload_status: WireStatus { workload_id, workload_state, message: &message } })
    }
}

/// The JSON text of a heartbeat; without its interfaces if it would be larger than `max_payload` with them.
pub(crate) fn encode_heartbeat(heartbeat: &HostHeartbeat, max_payload: usize) -> Bytes {
    let mut wire = WireHeartbeat::from(heartbeat);
    let whole = json(&wire);
    if whole.len() <= max_payload {
        return whole;
    }
    wire.imports.clear();
    wire.exports.clear();
    json(&wire)
}

impl<'a> From<&'a HostHeartbeat> for WireHeartbeat<'a> {
    fn from(heartbeat: &'a HostHeartbeat) -> Self {
        let HostHeartbeat {
            id,
            hostname,
            http_port,
            friendly_name,
            version,
            labels,
            started_at,
            os_arch,
            os_name,
            os_kernel,
            system_cpu_usage,
            system_memory_total,
            system_memory_free,
            component_count,
            workload_count,
            imports,
            exports,
            environment,
        } = heartbeat;
        Self {
            id: id.as_str(),
            hostname,
            friendly_name,
            version,
            labels,
            started_at: timestamp(*started_at),
            os_arch,
            os_name,
            os_kernel,
            system_cpu_usage: if system_cpu_usage.is_finite() { *system_cpu_usage } else { 0.0 },
            system_memory_total: *system_memory_total,
            system_memory_free: *system_memory_free,
            component_count: *component_count,
            workload_count: *workload_count,
            imports: interfaces(imports),
            exports: interfaces(exports),
            http_port: *http_port,
            environment,
        }
    }
}

/// Sorted and without duplicates: the operator stores them, and a change is a write.
fn interfaces(interfaces: &[WitInterface]) -> Vec<WireInterface> {
    let mut wire: Vec<_> = interfaces
        .iter()
        .map(|interface| WireInterface {
            namespace: interface.namespace.clone(),
            package: interface.package.clone(),
            version: interface.version.as_ref().map_or_else(String::new, ToString::to_string),
            interfaces: interface.interfaces.iter().cloned().collect(),
        })
        .collect();
    wire.sort();
    wire.dedup();
    wire
}

fn json(message: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(message).expect("texts, numbers and maps with text keys always encode");
    Bytes::from(text)
}

fn state_name(state: WorkloadState) -> Option<&'static str> {
    match state {
        WorkloadState::Unspecified => None,
        WorkloadState::Starting => Some("WORKLOAD_STATE_STARTING"),
        WorkloadState::Running => Some("WORKLOAD_STATE_RUNNING"),
        WorkloadState::Completed => Some("WORKLOAD_STATE_COMPLETED"),
        WorkloadState::Stopping => Some("WORKLOAD_STATE_STOPPING"),
        WorkloadState::Error => Some("WORKLOAD_STATE_ERROR"),
        WorkloadState::NotFound => Some("WORKLOAD_STATE_NOT_FOUND"),
    }
}

/// `text` in at most `bytes_max` bytes; what was cut ends in `...`.
fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "...";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(MARK.len()));
    let (kept, _cut) = text.split_at(end);
    format!("{kept}{MARK}")
}

/// RFC 3339 in UTC with 0, 3, 6 or 9 fraction digits; `None` for years the format does not have.
fn timestamp(at: SystemTime) -> Option<String> {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(since_epoch.as_secs()).ok()?).ok()?;
    let fraction = match since_epoch.subsec_nanos() {
        0 => String::new(),
        nanos if nanos % 1_000_000 == 0 => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    };
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    Some(format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z", u8::from(month)))
}

fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_zero_port(port: &u16) -> bool {
    *port == 0
}

fn is_zero_float(number: &f32) -> bool {
    *number == 0.0
}
