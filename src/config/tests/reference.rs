//! What the reference host is told reaches the keys it means, and a cluster host is one without a file.

use super::*;
use crate::config::reference::{Meaning, OPTIONS, ReferenceOption, Takes};
use crate::config::table::{Kind, Node, Shape};

/// As `washlet host` without a file.
fn host(env: &[(&str, &str)], flags: &[FlagValue]) -> Result<Loaded, Problems> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let base = Base::ClusterHost;
    load(&Sources { base, env, flags: flags.to_vec(), ..Sources::default() }, &any_file)
}

/// Holds all that any key wants of a file.
fn any_file(_path: &Path) -> io::Result<Vec<u8>> {
    Ok(b"-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n".to_vec())
}

fn flag(option: &ReferenceOption, value: &str) -> Option<FlagValue> {
    let key = option.key().unwrap_or_default().to_owned();
    Some(FlagValue { flag: option.flag?.to_owned(), key, value: value.to_owned() })
}

fn node(path: &str) -> &'static Node {
    path.split('.').fold(table::root(), |node, key| &node.fields().unwrap()[key])
}

/// A text that the option takes, and that is not the default of its key.
fn sample(option: &ReferenceOption) -> String {
    let Some(key) = option.key() else { return "x".to_owned() };
    let Shape::Leaf(kind) = &node(key).shape else { panic!("{key} has no value") };
    let text = match (option.flag, option.variables, kind) {
        (Some("--wasm-proposal"), ..) => "gc,tail_call",
        (Some("--default-heap-memory"), ..) => "64Mi",
        (Some("--socket-egress"), ..) => "count",
        (Some("--http-client-trust-roots"), ..) => "native",
        (Some("--log-level"), ..) => "debug",
        (Some("--deny-special-ranges"), ..) => "false",
        (_, ["WASMTIME_POOLING"], _) => "true",
        (_, [name], _) if name.ends_with("_SECS") => "7",
        (.., Kind::Address) => "127.0.0.1:1",
        (.., Kind::Duration) => "7s",
        (.., Kind::Integer { .. }) => "7",
        (.., Kind::Bool) => "true",
        (.., Kind::List(_)) => "nats://a:1,nats://b:2",
        _ => "x",
    };
    text.to_owned()
}

/// What came of one option: the shown value with its origin, or the problems.
fn outcome(option: &ReferenceOption, loaded: Result<Loaded, Problems>, written: &str) {
    let Some(key) = option.key() else {
        return match (option.meaning, loaded) {
            (Meaning::Missing(why), Err(problems)) => {
                assert_eq!(problems.to_string().trim_end(), format!("{written}: {why}"));
            }
            (Meaning::Ignored(why), Ok(loaded)) => {
                assert_eq!(Problems(loaded.warnings).to_string().trim_end(), format!("{written}: {why}"));
            }
            (Meaning::Nothing, Ok(loaded)) => assert_eq!(loaded.warnings, [], "{written}"),
            (_, loaded) => panic!("{written}: {loaded:?}"),
        };
    };
    let may_wait = matches!(option.meaning, Meaning::Key { may_wait: true, .. });
    match loaded {
        Ok(loaded) => {
            let value = loaded.values.iter().find(|value| value.key == key).unwrap();
            assert_eq!(value.origin, written, "{key}");
            let is_waiting = node(key).is_todo;
            assert_eq!(loaded.warnings.len(), usize::from(is_waiting), "{written}: {:?}", loaded.warnings);
            assert!(!is_waiting || may_wait, "{written} is accepted and does nothing");
        }
        Err(problems) => {
            let text = problems.to_string();
            let is_refused = node(key).is_todo && !may_wait && text.contains("not implemented yet");
            // These have no effect alone.
            let is_half = text.contains("beside it");
            // A file of every kind is no certificate of any.
            let is_file = text.contains("http.tls");
            assert!(text.contains(written) && (is_refused || is_half || is_file), "{written}: {text}");
        }
    }
}

#[test]
fn every_flag_reaches_its_key_or_says_why_not() {
    for option in OPTIONS {
        let text = sample(option);
        if let Some(flag) = flag(option, &text) {
            outcome(option, host(&[], std::slice::from_ref(&flag)), &flag.flag);
        }
    }
}

#[test]
fn every_variable_reaches_its_key_or_says_why_not() {
    for option in OPTIONS {
        for variable in option.variables {
            outcome(option, host(&[(variable, &sample(option))], &[]), variable);
        }
    }
}

#[test]
fn the_documentation_lists_every_option() {
    let code =
        |words: &mut dyn Iterator<Item = String>| words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let mut table = String::from("| flag | variable | key | |\n|---|---|---|---|\n");
    for option in OPTIONS {
        let letter = option.short.map(|short| format!("-{short}"));
        let aliases = option.aliases.iter().map(|alias| format!("--{alias}"));
        let flags = code(&mut option.flag.map(str::to_owned).into_iter().chain(letter).chain(aliases));
        let variables = code(&mut option.variables.iter().rev().map(|name| (*name).to_owned()));
        let key = code(&mut option.key().map(str::to_owned).into_iter());
        table.push_str(&format!("| {flags} | {variables} | {key} | {} |\n", option.help));
    }
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/host.md")).unwrap();
    assert!(text.ends_with(&format!("\n\n{table}")), "the table of docs/host.md should be:\n{table}");
}

#[test]
fn a_cluster_host_needs_no_file() {
    let config = host(&[], &[]).map_err(|it| it.text()).unwrap().config;
    assert_eq!(config.nats.scheduler, Some(Scheduler::default()));
    assert!(config.plugins.wasi_config.is_some() && config.plugins.wasi_logging.is_some());
    assert_eq!(config.http.listen, None);
    let with_file = |text: &str| load(&Sources { base: Base::ClusterHost, ..sources(text) }, &no_files).unwrap();
    let off = with_file("[plugins.wasi-logging]\nenabled = false\n").config;
    assert!(off.plugins.wasi_logging.is_none() && off.plugins.wasi_config.is_some(), "the file changes what it says");
    // Without a backend of its own, keyvalue would forget: then it is off.
    let backend = node("plugins.wasi-keyvalue.backend");
    assert_eq!(config.plugins.wasi_keyvalue.is_some(), !backend.is_todo);
}

#[test]
fn a_cluster_host_keeps_its_state_in_the_cache() {
    let is_usable = !node("host.state_dir").is_todo;
    let cache = |value: &str| FlagValue {
        flag: "--oci-cache-dir".to_owned(),
        key: "artifacts.cache_dir".to_owned(),
        value: value.to_owned(),
    };
    let config = host(&[], &[cache("/oci-cache")]).unwrap().config;
    assert_eq!(config.host.state_dir, is_usable.then(|| PathBuf::from("/oci-cache/washlet-state")));
    assert_eq!(host(&[], &[]).unwrap().config.host.state_dir, None);
}

#[test]
fn variables_of_the_reference_host_join_no_standalone_host() {
    let env =
        [("WASH_MAX_CONCURRENT_STARTS", "3"), ("WASH_POSTGRES_URL", "postgres://a"), ("WASH_CORE_INSTANCES", "9")];
    let loaded = load_with("# defaults\n", &env, &[]).map_err(|it| it.text()).unwrap();
    assert_eq!(loaded.config.nats.scheduler, None);
    assert_eq!(loaded.config.engine.max_instances.get(), 9);
    let in_cluster = host(&env[..1], &[]).unwrap().config.nats.scheduler.unwrap();
    assert_eq!(in_cluster.starts_in_flight_max.get(), 3);
}

#[test]
fn the_reference_hosts_way_to_write_values_is_read() {
    let of = |name: &str, value: &str| {
        let option = OPTIONS.iter().find(|option| option.flag == Some(name)).unwrap();
        host(&[], &[flag(option, value).unwrap()])
    };
    let memory = of("--default-heap-memory", "1.5Gi").unwrap().config.limits.memory.unwrap();
    assert_eq!(memory.get(), 3 << 29);
    let error = of("--default-heap-memory", "lots").unwrap_err().to_string();
    assert!(error.starts_with("--default-heap-memory: limits.memory: expected a quantity"), "{error}");
    let error = of("--wasm-proposal", "simd").unwrap_err().to_string();
    assert!(error.starts_with("--wasm-proposal: engine.proposals: unknown proposal `simd`"), "{error}");
    let urls = of("--scheduler-nats-url", "nats://a:1, nats://b:2,").unwrap().config.nats.scheduler.unwrap();
    assert_eq!(urls.connection.urls, [Secret::new("nats://a:1"), Secret::new("nats://b:2")]);
    assert!(OPTIONS.iter().all(|option| option.takes != Takes::Switch || option.flag.is_some()));
}
