//! `[host]`: who this host is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::path::join;
use crate::config::resolve::Resolver;

/// Identity and labels. Reload class: live, but for `state_dir` (restart).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Value of the label `hostgroup`.
    pub group: String,
    /// Friendly name; generated if absent.
    pub name: Option<String>,
    /// The heartbeat's `hostname`; the machine's host name if absent.
    pub advertise_address: Option<String>,
    /// The heartbeat's `environment`.
    pub environment: String,
    /// Further labels of the heartbeat.
    pub labels: BTreeMap<String, String>,
    /// Where identity and journal persist; nothing persists if absent.
    pub state_dir: Option<PathBuf>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            group: "default".to_owned(),
            name: None,
            advertise_address: None,
            environment: String::new(),
            labels: BTreeMap::new(),
            state_dir: None,
        }
    }
}

/// `[host]`: who this host is. Heartbeats carry new values at once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-washlet-reload" = "live"))]
pub(crate) struct FileHost {
    /// Value of the heartbeat label `hostgroup`, by which the operator picks hosts.
    pub(super) group: String,
    /// Name for people; generated if unset. A host that has joined a scheduler keeps its name until it restarts.
    #[schemars(extend("x-washlet-reload" = "restart"))]
    pub(super) name: Option<String>,
    /// Address under which others reach this host; the machine's host name if unset.
    pub(super) advertise_address: Option<String>,
    /// Environment named in heartbeats.
    pub(super) environment: String,
    /// Further labels of heartbeats.
    pub(super) labels: BTreeMap<String, String>,
    /// Directory for what outlives the process: host id and journal. Unset: nothing persists.
    #[schemars(extend("x-washlet-reload" = "restart"))]
    pub(super) state_dir: Option<PathBuf>,
}

impl Default for FileHost {
    fn default() -> Self {
        let Host { group, name, advertise_address, environment, labels, state_dir } = Host::default();
        Self { group, name, advertise_address, environment, labels, state_dir }
    }
}

impl FileHost {
    pub(super) fn resolve(self, cx: &mut Resolver<'_>) -> Host {
        let Self { group, name, advertise_address, environment, labels, state_dir } = self;
        if !is_label_value(&group) {
            cx.error("host.group", LABEL_VALUE);
        }
        if name.as_deref().is_some_and(|name| !is_dns_subdomain(name)) {
            cx.error("host.name", "expected lower-case letters, digits, `-` and `.`, at most 253 characters");
        }
        if advertise_address.as_deref().is_some_and(|text| text.is_empty() || text.contains(char::is_whitespace)) {
            cx.error("host.advertise_address", "expected an address such as \"10.1.2.3\"");
        }
        for (key, value) in &labels {
            let path = join("host.labels", key);
            if key == "hostgroup" {
                cx.error(&path, "the label `hostgroup` is set by host.group");
            } else if !is_label_key(key) {
                cx.error(&path, "expected a label name: letters, digits, `-`, `_` and `.`, at most 63 characters");
            } else if !is_label_value(value) {
                cx.error(&path, LABEL_VALUE);
            }
        }
        let state_dir = state_dir.map(|dir| cx.path("host.state_dir", dir));
        Host { group, name, advertise_address, environment, labels, state_dir }
    }
}

const LABEL_VALUE: &str =
    "expected letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit, at most 63 characters";

/// The rule of Kubernetes for label values.
fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}

fn is_label_name(text: &str) -> bool {
    let at_the_ends = |b: &u8| b.is_ascii_alphanumeric();
    text.len() <= 63
        && text.as_bytes().first().is_some_and(at_the_ends)
        && text.as_bytes().last().is_some_and(at_the_ends)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The rule of Kubernetes for object names (RFC 1123).
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let at_the_ends = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        label.as_bytes().first().is_some_and(at_the_ends)
            && label.as_bytes().last().is_some_and(at_the_ends)
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}
