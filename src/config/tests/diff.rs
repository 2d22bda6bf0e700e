//! The diff of configurations, by example and by property.

use std::path::PathBuf;

use proptest::prelude::*;

use crate::config::diff::{ConfigDiff, effective};
use crate::config::{Config, FileInput, HttpTls, PemFile, Sources, load};

fn config(text: &str) -> Config {
    let file = FileInput { path: PathBuf::from("washlet.toml"), bytes: format!("#\n{text}").into_bytes() };
    let sources = Sources { file: Some(file), working_dir: PathBuf::from("/"), ..Sources::default() };
    load(&sources, &|_| Ok(b"content".to_vec())).map_err(|problems| problems.text()).unwrap().config
}

fn printed(old: &str, new: &str) -> String {
    ConfigDiff::between(&config(old), &config(new)).to_string()
}

#[test]
fn each_kind_of_change_has_its_verb() {
    let workload =
        |image: &str| format!("[[workloads]]\nname = 'a'\n[[workloads.components]]\nname = 'c'\nimage = '{image}'\n");
    for (old, new, expected) in [
        ("[http]\nrequest_timeout = '60s'", "[http]\nrequest_timeout = '1m'", ""),
        ("", "[http]\nrequest_timeout = '1s'", "http.request_timeout(set)"),
        ("", "[http]\nlisten = '127.0.0.1:1'", "http.listen(bind)"),
        ("", "[plugins.wasi-config]", "plugins.wasi-config(relink)"),
        ("[plugins.wasi-keyvalue]", "[plugins.wasi-keyvalue]\nenabled = false", "plugins.wasi-keyvalue(relink)"),
        ("[plugins.wasi-keyvalue]", "[plugins.wasi-keyvalue]\nallow_buckets = ['a']", "plugins.wasi-keyvalue(swap)"),
        ("", "[nats.scheduler]", "nats.scheduler(reconnect)"),
        ("[nats.scheduler]", "", "nats.scheduler(reconnect)"),
        ("[nats.scheduler]", "[nats.scheduler]\nurls = ['a:1']", "nats.scheduler.urls(reconnect)"),
        ("[nats.scheduler]", "[nats.scheduler]\ntoken = 'x'", "nats.scheduler.token(reconnect)"),
        ("[nats.scheduler]\ntoken = 'x'", "[nats.scheduler]", "nats.scheduler.token(reconnect)"),
        ("[nats.scheduler]", "[nats.scheduler]\nheartbeat_interval = '1s'", "nats.scheduler.heartbeat_interval(set)"),
        ("[host]\nname = 'a'", "[host]\nname = 'b'", "host.name(set)"),
        ("[host]\nname = 'a'\n[nats.scheduler]", "[host]\nname = 'b'\n[nats.scheduler]", "host.name(defer)"),
        ("", "[engine]\npooling = 'off'", "engine.pooling(defer)"),
        ("", "[registry.hosts.'a:1']\ninsecure = true", "registry.hosts.\"a:1\"(set)"),
        ("", &workload("a/b:1"), "workloads.default/a(start)"),
        (&workload("a/b:1"), &workload("a/b:2"), "workloads.default/a(replace)"),
        (&workload("a/b:1"), "", "workloads.default/a(stop)"),
    ] {
        assert_eq!(printed(old, new), expected, "{old} -> {new}");
    }
}

#[test]
fn a_rotated_file_is_a_change_though_its_path_is_not() {
    let file = |content: &'static [u8]| {
        let text = b"[nats.scheduler.tls]\nca = 'ca.pem'\n[[workloads]]\nname = 'a'\n[[workloads.components]]\nname = 'c'\nimage = 'file:a.wasm'\n";
        let file = FileInput { path: PathBuf::from("washlet.toml"), bytes: text.to_vec() };
        let sources = Sources { file: Some(file), working_dir: PathBuf::from("/w"), ..Sources::default() };
        load(&sources, &|_| Ok([content, b"-----BEGIN CERTIFICATE-----"].concat())).unwrap().config
    };
    let (old, new) = (file(b"old"), file(b"new"));
    assert_eq!(old.referenced_files, [PathBuf::from("/w/a.wasm"), PathBuf::from("ca.pem")]);
    let diff = ConfigDiff::between(&old, &new);
    assert_eq!(diff.to_string(), "workloads.default/a(replace) nats.scheduler.tls.ca(rotate)");
    assert!(diff.touches("nats.scheduler") && !diff.touches("nats.sched") && !diff.touches("http"));
    assert_eq!(effective(&old, &new), (new, Vec::new()));
}

#[test]
fn a_rotated_pair_is_a_change_of_its_keys_and_of_no_other() {
    let config = |cert: &str, key: &str, client_ca: Option<&str>| {
        let file = |content: &str| PemFile::new("same.pem", content.as_bytes());
        let mut config = Config::default();
        config.http.tls = Some(HttpTls { cert: file(cert), key: file(key), client_ca: client_ca.map(file) });
        config
    };
    let diff = |old: &Config, new: &Config| ConfigDiff::between(old, new).to_string();
    let (plain, one) = (Config::default(), config("c1", "k1", None));
    assert_eq!(diff(&one, &config("c1", "k1", None)), "");
    assert_eq!(diff(&one, &config("c2", "k2", None)), "http.tls.cert(rotate) http.tls.key(rotate)");
    assert_eq!(diff(&one, &config("c1", "k1", Some("a"))), "http.tls.client_ca(rotate)");
    assert_eq!(diff(&plain, &one), diff(&one, &plain));
    assert_eq!(diff(&plain, &one), "http.tls.cert(rotate) http.tls.key(rotate)");
}

/// Lines of which any choice makes a valid file.
const LINES: [(&str, &[&str]); 8] = [
    ("host", &["group = 'a'", "name = 'n'", "environment = 'e'", "labels = { a = 'b' }"]),
    ("http", &["listen = '127.0.0.1:80'", "max_connections = 3", "request_timeout = '1s'"]),
    ("nats.scheduler", &["urls = ['a:1']", "token = 't'", "heartbeat_interval = '1s'", "inbox_prefix = 'p'"]),
    ("engine", &["pooling = 'on'", "max_instances = 3"]),
    ("artifacts", &["cache_dir = 'c'"]),
    ("registry", &["pull_timeout = '1s'", "hosts = { a = { insecure = true } }"]),
    ("plugins.wasi-keyvalue", &["enabled = false", "allow_buckets = ['a']"]),
    ("reload", &["watch = false", "poll_interval = '0s'"]),
];

fn any_config() -> impl Strategy<Value = Config> {
    prop::collection::vec(any::<u8>(), LINES.len()).prop_map(|choices| {
        let mut text = String::new();
        for ((table, lines), choice) in LINES.iter().zip(choices) {
            if choice & 0x80 != 0 {
                text += &format!("[{table}]\n");
                let chosen = lines.iter().enumerate().filter(|(i, _)| choice & (1 << i) != 0);
                text.extend(chosen.map(|(_, line)| format!("{line}\n")));
            }
        }
        config(&text)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_differs_from_itself(a in any_config()) {
        prop_assert!(ConfigDiff::between(&a, &a).is_empty());
    }

    #[test]
    fn equal_configurations_are_those_without_a_diff(a in any_config(), b in any_config()) {
        prop_assert_eq!(ConfigDiff::between(&a, &b).is_empty(), a == b);
    }

    #[test]
    fn what_runs_differs_from_what_is_written_in_the_waiting_keys_alone(a in any_config(), b in any_config()) {
        let (running, waiting) = effective(&a, &b);
        prop_assert_eq!(ConfigDiff::between(&a, &running).restart_keys(), Vec::<String>::new());
        let left = ConfigDiff::between(&running, &b);
        let left: Vec<_> = left.changed.into_iter().map(|change| change.key).collect();
        prop_assert_eq!(left, waiting);
    }
}

/// `from` with each key that `diff` names as it is in `to`, and all else as it was.
fn applied(from: &Config, to: &Config, diff: &ConfigDiff) -> Config {
    let mut result = from.clone();
    for change in &diff.changed {
        match change.key.as_str() {
            "host.group" => result.host.group.clone_from(&to.host.group),
            "host.name" => result.host.name.clone_from(&to.host.name),
            "host.environment" => result.host.environment.clone_from(&to.host.environment),
            "host.labels" => result.host.labels.clone_from(&to.host.labels),
            "http.listen" => result.http.listen = to.http.listen,
            "http.max_connections" => result.http.max_connections = to.http.max_connections,
            "http.request_timeout" => result.http.request_timeout = to.http.request_timeout,
            "nats.scheduler" => result.nats.scheduler.clone_from(&to.nats.scheduler),
            "engine.pooling" => result.engine.pooling = to.engine.pooling,
            "engine.max_instances" => result.engine.max_instances = to.engine.max_instances,
            "artifacts.cache_dir" => result.artifacts.cache_dir.clone_from(&to.artifacts.cache_dir),
            "registry.pull_timeout" => result.registry.pull_timeout = to.registry.pull_timeout,
            "plugins.wasi-keyvalue" => result.plugins.wasi_keyvalue.clone_from(&to.plugins.wasi_keyvalue),
            "reload.watch" => result.reload.watch = to.reload.watch,
            "reload.poll_interval" => result.reload.poll_interval = to.reload.poll_interval,
            key if key.starts_with("registry.hosts.") => result.registry.hosts.clone_from(&to.registry.hosts),
            key => of_scheduler(&mut result, to, key),
        }
    }
    result
}

fn of_scheduler(result: &mut Config, to: &Config, key: &str) {
    let (Some(result), Some(to)) = (&mut result.nats.scheduler, &to.nats.scheduler) else {
        panic!("{key} of a table that is not there")
    };
    match key {
        "nats.scheduler.urls" => result.connection.urls.clone_from(&to.connection.urls),
        "nats.scheduler.token" => result.connection.auth.clone_from(&to.connection.auth),
        "nats.scheduler.inbox_prefix" => result.connection.inbox_prefix.clone_from(&to.connection.inbox_prefix),
        "nats.scheduler.heartbeat_interval" => result.heartbeat_interval = to.heartbeat_interval,
        key => panic!("the lines of these tests do not set {key}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_a_diff_names_is_all_that_leads_from_one_to_the_other_and_back(a in any_config(), b in any_config()) {
        let (there, back) = (ConfigDiff::between(&a, &b), ConfigDiff::between(&b, &a));
        let arrived = applied(&a, &b, &there);
        prop_assert_eq!(&arrived, &b);
        prop_assert_eq!(applied(&arrived, &a, &back), a);
        let keys = |diff: &ConfigDiff| diff.changed.iter().map(|change| change.key.clone()).collect::<Vec<_>>();
        prop_assert_eq!(keys(&there), keys(&back));
    }

    #[test]
    fn what_runs_after_there_and_back_is_what_ran_before(a in any_config(), b in any_config()) {
        let (running, _waiting) = effective(&a, &b);
        let (back, waiting) = effective(&running, &a);
        // The name of a host that is known to an operator waits for a restart, whenever it became so.
        let (mut back, mut first) = (back, a);
        if back.nats.scheduler.is_some() || running.nats.scheduler.is_some() {
            back.host.name = None;
            first.host.name = None;
        } else {
            prop_assert_eq!(waiting, Vec::<String>::new());
        }
        prop_assert_eq!(back, first);
    }
}
