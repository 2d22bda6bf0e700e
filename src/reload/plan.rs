//! What an attempt is about to do, and the guards that refuse it: pure.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, NatsConnection, NatsTls, Plugins};
use crate::types::Generation;

/// Read by every section to find out what it has to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What is live; the empty configuration at the first start.
    pub(crate) old: Arc<Config>,
    /// What is to be live: the file's, with keys that wait for a restart at their running values.
    pub(crate) new: Arc<Config>,
    /// The number that `new` gets if it is committed.
    pub(crate) generation: Generation,
    /// Whether nothing was ever applied before: then every section has something to do.
    pub(crate) is_first: bool,
    /// Keys that differ between `old` and `new`.
    pub(crate) changed: Vec<Change>,
    /// Referenced files whose content changed, by the path that the configuration gives.
    pub(crate) rotated: Vec<PathBuf>,
}

/// One key that differs, and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The path of the key: `http.listen`.
    pub(crate) key: String,
    /// `set`, `rotate`, `bind`, `reconnect`, `swap`, `relink`, `start`, `replace`, `stop`, `defer`, or `fail` for
    /// what goes live as failed.
    pub(crate) verb: &'static str,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, verb } = self;
        write!(f, "{key}({verb})")
    }
}

/// A key that waits for a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Its path.
    pub(crate) key: String,
    /// Where the value stands that waits: `washlet.toml:12`, or `default` if the key is gone from the file.
    pub(crate) at: Option<String>,
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { key, at: None } => f.write_str(key),
            Self { key, at: Some(at) } => write!(f, "{key}({at})"),
        }
    }
}

/// Refuses a file that would take away too much at once: it may have been cut off. One line for each thing.
///
/// `switched_off` are the plugins that the new file names with `enabled = false`: a statement, not an absence.
pub(crate) fn guard(old: &Config, new: &Config, switched_off: &[String]) -> Vec<String> {
    if new.reload.allow_mass_removal {
        return Vec::new();
    }
    let plugins_before: BTreeSet<String> = enabled(&old.plugins).into_iter().map(str::to_owned).collect();
    let mut plugins_after: BTreeSet<String> = enabled(&new.plugins).into_iter().map(str::to_owned).collect();
    plugins_after.extend(switched_off.iter().cloned());
    let workloads = |config: &Config| config.workloads.iter().map(|workload| workload.id.to_string()).collect();
    let mut refusals = Vec::new();
    refusals.extend(mass_removal("plugins", &plugins_before, &plugins_after));
    refusals.extend(mass_removal("workloads", &workloads(old), &workloads(new)));
    refusals.extend(lost_roles(old, new).into_iter().map(|role| {
        format!("{role} is live and gone from the new file: set `allow_mass_removal = true` in [reload] to remove it")
    }));
    refusals
}

fn mass_removal(kind: &str, before: &BTreeSet<String>, after: &BTreeSet<String>) -> Option<String> {
    let gone: Vec<&str> = before.difference(after).map(String::as_str).collect();
    if gone.len() < 2 || gone.len() * 2 <= before.len() {
        return None;
    }
    let names = gone.join(", ");
    Some(format!(
        "{} of {} {kind} are gone from the new file ({names}): set `allow_mass_removal = true` in [reload] to remove \
         them at once",
        gone.len(),
        before.len(),
    ))
}

/// What makes this host more than it would be by default, and would silently end.
fn lost_roles(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut lost = Vec::new();
    match (&old.nats.scheduler, &new.nats.scheduler) {
        (Some(_), None) => lost.push("nats.scheduler"),
        (Some(old), Some(new)) if loses_tls(&old.connection, &new.connection) => lost.push("nats.scheduler.tls"),
        (Some(_), Some(_)) | (None, _) => {}
    }
    if loses_tls(&old.nats.data, &new.nats.data) {
        lost.push("nats.data.tls");
    }
    if old.http.listen.is_some() && new.http.listen.is_none() {
        lost.push("http.listen");
    }
    match (&old.http.tls, &new.http.tls) {
        (Some(_), None) => lost.push("http.tls"),
        (Some(old), Some(new)) if old.client_ca.is_some() && new.client_ca.is_none() => lost.push("http.tls.client_ca"),
        (Some(_), Some(_)) | (None, _) => {}
    }
    lost
}

fn loses_tls(old: &NatsConnection, new: &NatsConnection) -> bool {
    old.tls != NatsTls::default() && new.tls == NatsTls::default()
}

/// Destructured, so that a new plugin does not compile until the guard counts it.
fn enabled(plugins: &Plugins) -> Vec<&'static str> {
    let Plugins { wasi_config, wasi_logging, wasi_keyvalue, wasmcloud_messaging } = plugins;
    [
        ("wasi-config", wasi_config.is_some()),
        ("wasi-logging", wasi_logging.is_some()),
        ("wasi-keyvalue", wasi_keyvalue.is_some()),
        ("wasmcloud-messaging", wasmcloud_messaging.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_on)| is_on.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigPlugin, HttpTls, KeyvaluePlugin, LoggingPlugin, PemFile, Scheduler};

    fn with_plugins(config: bool, logging: bool, keyvalue: bool) -> Config {
        let plugins = Plugins {
            wasi_config: config.then(ConfigPlugin::default),
            wasi_logging: logging.then(LoggingPlugin::default),
            wasi_keyvalue: keyvalue.then(KeyvaluePlugin::default),
            wasmcloud_messaging: None,
        };
        Config { plugins, ..Config::default() }
    }

    #[test]
    fn removing_one_plugin_or_half_of_them_is_allowed() {
        assert!(guard(&with_plugins(true, true, true), &with_plugins(true, true, false), &[]).is_empty());
        assert!(guard(&with_plugins(true, false, false), &with_plugins(false, false, false), &[]).is_empty());
    }

    #[test]
    fn removing_more_than_half_of_the_plugins_names_them_and_the_way_out() {
        let refusals = guard(&with_plugins(true, true, true), &with_plugins(true, false, false), &[]);
        let [refusal] = refusals.as_slice() else { panic!("{refusals:?}") };
        assert!(refusal.contains("wasi-keyvalue, wasi-logging"), "{refusal}");
        assert!(refusal.contains("allow_mass_removal = true"), "{refusal}");
    }

    #[test]
    fn a_plugin_that_the_file_switches_off_is_not_a_removal() {
        let off = ["wasi-logging".to_owned()];
        assert!(guard(&with_plugins(true, true, true), &with_plugins(true, false, false), &off).is_empty());
    }

    #[test]
    fn the_key_in_the_new_file_allows_everything() {
        let mut new = with_plugins(false, false, false);
        new.reload.allow_mass_removal = true;
        assert!(guard(&with_plugins(true, true, true), &new, &[]).is_empty());
    }

    #[test]
    fn lost_roles_are_refused_each_by_name() {
        let mut old = Config::default();
        old.http.listen = Some(([127, 0, 0, 1], 8080).into());
        let mut scheduler = Scheduler::default();
        scheduler.connection.tls.first = true;
        old.nats.scheduler = Some(scheduler.clone());
        let refusals = guard(&old, &Config::default(), &[]);
        assert_eq!(refusals.len(), 2, "{refusals:?}");
        assert!(refusals.iter().any(|refusal| refusal.starts_with("nats.scheduler is live")));
        assert!(refusals.iter().any(|refusal| refusal.starts_with("http.listen is live")));

        let mut new = old.clone();
        scheduler.connection.tls.first = false;
        new.nats.scheduler = Some(scheduler);
        let refusals = guard(&old, &new, &[]);
        assert!(matches!(refusals.as_slice(), [one] if one.starts_with("nats.scheduler.tls is live")), "{refusals:?}");
    }

    #[test]
    fn tls_and_the_authorities_of_clients_are_roles() {
        let pem = |name: &str| PemFile::new(name, name.as_bytes());
        let tls = |client_ca: Option<&str>| {
            let client_ca = client_ca.map(pem);
            let mut config = Config::default();
            config.http.tls = Some(HttpTls { cert: pem("cert.pem"), key: pem("key.pem"), client_ca });
            config
        };
        let refused = |old: &Config, new: &Config| guard(old, new, &[]).join("\n");
        assert!(refused(&tls(None), &Config::default()).starts_with("http.tls is live and gone"));
        assert!(refused(&tls(Some("ca")), &Config::default()).starts_with("http.tls is live and gone"));
        assert!(refused(&tls(Some("ca")), &tls(None)).starts_with("http.tls.client_ca is live and gone"));
        assert_eq!(refused(&tls(None), &tls(Some("ca"))) + &refused(&tls(Some("ca")), &tls(Some("other"))), "");
    }

    #[test]
    fn nothing_is_guarded_against_at_the_first_start() {
        assert!(guard(&Config::default(), &with_plugins(true, true, true), &[]).is_empty());
    }
}
