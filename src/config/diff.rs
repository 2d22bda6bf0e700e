//! What is different between two configurations, and what that asks for. Pure; key paths only, never a value.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::path::join;
use crate::config::table::{self, Class};
use crate::config::{
    Admin, Artifacts, Config, Drain, Engine, Host, Http, HttpTls, Limits, Log, Nats, NatsAuth, NatsConnection, NatsTls,
    Plugins, Registry, Reload, Scheduler, StaticWorkload,
};

/// What a change asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Use the new value from now on.
    Set,
    /// Use the new content of a file.
    Rotate,
    /// Listen elsewhere.
    Bind,
    /// Connect anew, beside the old connection.
    Reconnect,
    /// Put another backend behind the same interface.
    Swap,
    /// Link the affected workloads anew.
    Relink,
    /// Start a workload.
    Start,
    /// Start a workload's new form and drain the old one.
    Replace,
    /// Drain a workload and stop it.
    Stop,
    /// Wait for a restart of the process.
    Defer,
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path of the key, the table or, as `workloads.<namespace>/<name>`, the workload.
    pub key: String,
    /// What it asks for.
    pub verb: Verb,
    /// When that takes effect.
    pub class: Class,
}

/// All keys that differ, in the order of the sections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigDiff {
    /// Each key once.
    pub changed: Vec<Change>,
}

impl ConfigDiff {
    /// What leads from `old` to `new`. Compares values: what was written differently and means the same is no change.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut diff = Self::default();
        // What is referenced follows from the rest, and its content is compared where it is used.
        let Config {
            host,
            nats,
            http,
            registry,
            artifacts,
            engine,
            limits,
            drain,
            admin,
            log,
            reload,
            plugins,
            workloads,
            referenced_files: _,
            file_digests,
        } = old;
        diff.host(host, &new.host, nats.scheduler.is_some());
        diff.nats(nats, &new.nats);
        diff.http(http, &new.http);
        diff.registry(registry, &new.registry);
        let Artifacts { cache_dir } = artifacts;
        diff.value("artifacts.cache_dir", Verb::Set, cache_dir, &new.artifacts.cache_dir);
        let Engine { pooling, max_instances } = engine;
        diff.value("engine.pooling", Verb::Set, pooling, &new.engine.pooling);
        diff.value("engine.max_instances", Verb::Set, max_instances, &new.engine.max_instances);
        let Limits { memory, call_timeout } = limits;
        diff.value("limits.memory", Verb::Set, memory, &new.limits.memory);
        diff.value("limits.call_timeout", Verb::Set, call_timeout, &new.limits.call_timeout);
        let Drain { lame_duck, timeout } = drain;
        diff.value("drain.lame_duck", Verb::Set, lame_duck, &new.drain.lame_duck);
        diff.value("drain.timeout", Verb::Set, timeout, &new.drain.timeout);
        let Admin { listen } = admin;
        diff.value("admin.listen", Verb::Bind, listen, &new.admin.listen);
        let Log { level, format } = log;
        diff.value("log.level", Verb::Set, level, &new.log.level);
        diff.value("log.format", Verb::Set, format, &new.log.format);
        diff.reload(reload, &new.reload);
        diff.plugins(plugins, &new.plugins);
        diff.workloads(workloads, &new.workloads);
        for (key, digest) in file_digests {
            // One that appears or goes does so because its key changed, which is in the list already.
            if new.file_digests.get(key).is_some_and(|new| new != digest) && !diff.has(key) {
                diff.push(Change { key: key.clone(), verb: Verb::Rotate, class: Class::Live });
            }
        }
        diff
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// Whether `key`, or anything below it, differs.
    #[must_use]
    pub fn touches(&self, key: &str) -> bool {
        let is_below = |changed: &str| changed.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        self.changed.iter().any(|change| change.key == key || is_below(&change.key))
    }

    /// The keys that wait for a restart of the process.
    #[must_use]
    pub fn restart_keys(&self) -> Vec<String> {
        let waits = |change: &&Change| change.class == Class::Restart;
        self.changed.iter().filter(waits).map(|change| change.key.clone()).collect()
    }

    fn has(&self, key: &str) -> bool {
        self.changed.iter().any(|change| change.key == key)
    }

    fn push(&mut self, change: Change) {
        if !self.has(&change.key) {
            self.changed.push(change);
        }
    }

    fn changed(&mut self, key: &str, verb: Verb) {
        let class = table::class_of(key);
        let verb = if class == Class::Restart { Verb::Defer } else { verb };
        self.push(Change { key: key.to_owned(), verb, class });
    }

    fn value<T: PartialEq>(&mut self, key: &str, verb: Verb, old: &T, new: &T) {
        if old != new {
            self.changed(key, verb);
        }
    }

    /// The name of a host that the operator knows stays: the operator would take another one for another host.
    fn host(&mut self, old: &Host, new: &Host, is_scheduled: bool) {
        let Host { group, name, advertise_address, environment, labels, state_dir } = old;
        self.value("host.group", Verb::Set, group, &new.group);
        if *name != new.name {
            let (verb, class) = if is_scheduled { (Verb::Defer, Class::Restart) } else { (Verb::Set, Class::Live) };
            self.push(Change { key: "host.name".to_owned(), verb, class });
        }
        self.value("host.advertise_address", Verb::Set, advertise_address, &new.advertise_address);
        self.value("host.environment", Verb::Set, environment, &new.environment);
        self.value("host.labels", Verb::Set, labels, &new.labels);
        self.value("host.state_dir", Verb::Set, state_dir, &new.state_dir);
    }

    fn nats(&mut self, old: &Nats, new: &Nats) {
        let Nats { scheduler, data } = old;
        match (scheduler, &new.scheduler) {
            (Some(old), Some(new)) => {
                let Scheduler {
                    connection,
                    heartbeat_interval,
                    commands_in_flight_max,
                    starts_in_flight_max,
                    start_reply_wait,
                } = old;
                let at = |key: &str| join("nats.scheduler", key);
                self.connection("nats.scheduler", connection, &new.connection);
                self.value(&at("heartbeat_interval"), Verb::Set, heartbeat_interval, &new.heartbeat_interval);
                let commands = (commands_in_flight_max, &new.commands_in_flight_max);
                self.value(&at("commands_in_flight_max"), Verb::Set, commands.0, commands.1);
                self.value(&at("starts_in_flight_max"), Verb::Set, starts_in_flight_max, &new.starts_in_flight_max);
                self.value(&at("start_reply_wait"), Verb::Set, start_reply_wait, &new.start_reply_wait);
            }
            (None, None) => {}
            (None, Some(_)) | (Some(_), None) => self.changed("nats.scheduler", Verb::Reconnect),
        }
        self.connection("nats.data", data, &new.data);
    }

    fn connection(&mut self, path: &str, old: &NatsConnection, new: &NatsConnection) {
        let NatsConnection { urls, auth, tls, inbox_prefix } = old;
        self.value(&join(path, "urls"), Verb::Reconnect, urls, &new.urls);
        if *auth != new.auth {
            let key = match (auth_key(&new.auth), auth) {
                (Some(key), _) => key,
                (None, old) => auth_key(old).unwrap_or("user"),
            };
            self.changed(&join(path, key), Verb::Reconnect);
        }
        let NatsTls { ca, client, first } = tls;
        let path_of_tls = join(path, "tls");
        self.value(&join(&path_of_tls, "ca"), Verb::Reconnect, ca, &new.tls.ca);
        self.value(&join(&path_of_tls, "cert"), Verb::Reconnect, client, &new.tls.client);
        self.value(&join(&path_of_tls, "first"), Verb::Reconnect, first, &new.tls.first);
        self.value(&join(path, "inbox_prefix"), Verb::Reconnect, inbox_prefix, &new.inbox_prefix);
    }

    fn http(&mut self, old: &Http, new: &Http) {
        let Http {
            listen,
            max_connections,
            max_request_body,
            header_read_timeout,
            request_timeout,
            cluster_domain,
            tls,
        } = old;
        self.value("http.listen", Verb::Bind, listen, &new.listen);
        self.value("http.max_connections", Verb::Set, max_connections, &new.max_connections);
        self.value("http.max_request_body", Verb::Set, max_request_body, &new.max_request_body);
        self.value("http.header_read_timeout", Verb::Set, header_read_timeout, &new.header_read_timeout);
        self.value("http.request_timeout", Verb::Set, request_timeout, &new.request_timeout);
        self.value("http.cluster_domain", Verb::Set, cluster_domain, &new.cluster_domain);
        let files = |tls: &Option<HttpTls>| {
            tls.clone().map(|HttpTls { cert, key, client_ca }| (Some(cert), Some(key), client_ca)).unwrap_or_default()
        };
        let (old, new) = (files(tls), files(&new.tls));
        self.value("http.tls.cert", Verb::Rotate, &old.0, &new.0);
        self.value("http.tls.key", Verb::Rotate, &old.1, &new.1);
        self.value("http.tls.client_ca", Verb::Rotate, &old.2, &new.2);
    }

    fn registry(&mut self, old: &Registry, new: &Registry) {
        let Registry { pull_timeout, pull_retries, tag_ttl, max_artifact_size, allow_insecure, hosts } = old;
        self.value("registry.pull_timeout", Verb::Set, pull_timeout, &new.pull_timeout);
        self.value("registry.pull_retries", Verb::Set, pull_retries, &new.pull_retries);
        self.value("registry.tag_ttl", Verb::Set, tag_ttl, &new.tag_ttl);
        self.value("registry.max_artifact_size", Verb::Set, max_artifact_size, &new.max_artifact_size);
        self.value("registry.allow_insecure", Verb::Set, allow_insecure, &new.allow_insecure);
        let added = new.hosts.keys().filter(|registry| !hosts.contains_key(*registry));
        for registry in hosts.keys().chain(added) {
            let (old, new) = (hosts.get(registry), new.hosts.get(registry));
            self.value(&join("registry.hosts", registry), Verb::Set, &old, &new);
        }
    }

    fn reload(&mut self, old: &Reload, new: &Reload) {
        let Reload { watch, debounce, poll_interval, in_use, allow_mass_removal, prepare_timeout } = old;
        self.value("reload.watch", Verb::Set, watch, &new.watch);
        self.value("reload.debounce", Verb::Set, debounce, &new.debounce);
        self.value("reload.poll_interval", Verb::Set, poll_interval, &new.poll_interval);
        self.value("reload.in_use", Verb::Set, in_use, &new.in_use);
        self.value("reload.allow_mass_removal", Verb::Set, allow_mass_removal, &new.allow_mass_removal);
        self.value("reload.prepare_timeout", Verb::Set, prepare_timeout, &new.prepare_timeout);
    }

    /// A plugin that comes or goes changes what workloads link against; one that stays gets another backend.
    fn plugins(&mut self, old: &Plugins, new: &Plugins) {
        let Plugins { wasi_config, wasi_logging, wasi_keyvalue, wasmcloud_messaging } = old;
        self.plugin("plugins.wasi-config", wasi_config.as_ref(), new.wasi_config.as_ref());
        self.plugin("plugins.wasi-logging", wasi_logging.as_ref(), new.wasi_logging.as_ref());
        self.plugin("plugins.wasi-keyvalue", wasi_keyvalue.as_ref(), new.wasi_keyvalue.as_ref());
        self.plugin("plugins.wasmcloud-messaging", wasmcloud_messaging.as_ref(), new.wasmcloud_messaging.as_ref());
    }

    fn plugin<T: PartialEq>(&mut self, key: &str, old: Option<&T>, new: Option<&T>) {
        match (old, new) {
            (Some(old), Some(new)) => self.value(key, Verb::Swap, old, new),
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => self.changed(key, Verb::Relink),
        }
    }

    fn workloads(&mut self, old: &[StaticWorkload], new: &[StaticWorkload]) {
        let named = |workloads: &[StaticWorkload]| {
            workloads.iter().map(|it| (it.key(), it.clone())).collect::<BTreeMap<_, _>>()
        };
        let (old, new) = (named(old), named(new));
        for (key, workload) in &old {
            match new.get(key) {
                Some(new) => self.value(key, Verb::Replace, workload, new),
                None => self.changed(key, Verb::Stop),
            }
        }
        for key in new.keys().filter(|key| !old.contains_key(*key)) {
            self.changed(key, Verb::Start);
        }
    }
}

/// What the host runs with after `new` has replaced `old` without a restart: `new` with each restart key at its old
/// value. With it the keys that wait for a restart.
#[must_use]
pub fn effective(old: &Config, new: &Config) -> (Config, Vec<String>) {
    let waiting = ConfigDiff::between(old, new).restart_keys();
    let mut running = new.clone();
    running.engine = old.engine.clone();
    running.artifacts = old.artifacts.clone();
    running.host.state_dir.clone_from(&old.host.state_dir);
    if old.nats.scheduler.is_some() {
        running.host.name.clone_from(&old.host.name);
    }
    let kept = |key: &&String| waiting.iter().any(|waiting| key.starts_with(waiting.as_str()));
    running.file_digests.retain(|key, _| !kept(&key));
    let old_digests = old.file_digests.iter().filter(|(key, _)| kept(key));
    running.file_digests.extend(old_digests.map(|(key, digest)| (key.clone(), digest.clone())));
    (running, waiting)
}

fn auth_key(auth: &NatsAuth) -> Option<&'static str> {
    match auth {
        NatsAuth::None => None,
        NatsAuth::CredsFile(_) => Some("creds_file"),
        NatsAuth::NkeySeedFile(_) => Some("nkey_seed_file"),
        NatsAuth::Token(_) => Some("token"),
        NatsAuth::UserPassword { .. } => Some("password"),
    }
}

impl Verb {
    /// The word for it in texts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Rotate => "rotate",
            Self::Bind => "bind",
            Self::Reconnect => "reconnect",
            Self::Swap => "swap",
            Self::Relink => "relink",
            Self::Start => "start",
            Self::Replace => "replace",
            Self::Stop => "stop",
            Self::Defer => "defer",
        }
    }
}

impl fmt::Display for ConfigDiff {
    /// `plugins.wasi-keyvalue(swap) http.request_timeout(set)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Change { key, verb, class: _ }) in self.changed.iter().enumerate() {
            let separator = if i == 0 { "" } else { " " };
            write!(f, "{separator}{key}({})", verb.as_str())?;
        }
        Ok(())
    }
}
