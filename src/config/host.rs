//! `[host]`: who this host is.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
