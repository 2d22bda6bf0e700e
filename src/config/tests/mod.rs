//! Loading as a whole: corpora of right and wrong files, layers, secrets.

mod canary;
mod diff;
mod example;
mod mutations;
mod reference;
mod typos;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::path::index;

/// Stands in every secret of the corpora: no output may hold it.
const CANARY: &str = "canary";

fn sources(text: &str) -> Sources {
    let file = FileInput { path: PathBuf::from("conf/washlet.toml"), bytes: text.as_bytes().to_vec() };
    Sources { file: Some(file), working_dir: PathBuf::from("/somewhere"), ..Sources::default() }
}

fn no_files(_path: &Path) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    load(&sources(text), &no_files)
}

fn load_with(text: &str, env: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Result<Loaded, Problems> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let flags = flags.iter().map(|(flag, key, value)| FlagValue {
        flag: (*flag).to_owned(),
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    });
    load(&Sources { env, flags: flags.collect(), ..sources(text) }, &no_files)
}

/// The files of a corpus: path as a message shows it, and text.
fn corpus(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn load_file(path: &Path, text: &str) -> Result<Loaded, Problems> {
    let file = FileInput { path: path.to_owned(), bytes: text.as_bytes().to_vec() };
    let sources = Sources { file: Some(file), working_dir: PathBuf::from("/"), ..Sources::default() };
    load(&sources, &|path| std::fs::read(path))
}

#[test]
fn every_wrong_file_is_refused_with_each_expected_message_at_its_place() {
    let files = corpus("invalid");
    assert!(files.len() >= 335, "only {} files", files.len());
    let failures: Vec<_> = files.iter().filter_map(|(path, text)| unlike_expected(path, text)).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), files.len(), failures.join("\n"));
}

/// What is said of a wrong file, if it is not what its first lines expect.
fn unlike_expected(path: &Path, text: &str) -> Option<String> {
    let expected: Vec<_> = text.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
    let said = load_file(path, text).err().unwrap_or_default().0;
    let is_said = |(problem, expected): (&Problem, &&str)| {
        let line = problem.to_string();
        let line = line.strip_prefix(&format!("{}:", path.display())).unwrap_or(&line);
        let (place, message) = expected.split_once(": ").unwrap();
        line.starts_with(&format!("{place}: ")) && message.split('…').all(|part| line.contains(part))
    };
    let is_right = !expected.is_empty() && said.len() == expected.len() && said.iter().zip(&expected).all(is_said);
    let name = path.file_name().unwrap().display();
    let said = || Problems(said.clone()).to_string().replace(&path.display().to_string(), "  said");
    (!is_right).then(|| format!("{name}\n  expected {}\n{}", expected.join("\n  expected "), said()))
}

#[test]
fn every_right_file_is_taken_without_a_warning() {
    let files = corpus("valid");
    assert!(files.len() >= 10, "only {} files", files.len());
    for (path, text) in files {
        let loaded = load_file(&path, &text).map_err(|problems| problems.text()).unwrap();
        assert_eq!(loaded.warnings, [], "{}", path.display());
        assert_eq!(loaded.file_hash.len(), 12);
    }
}

#[test]
fn no_output_shows_a_secret() {
    let mut seen = 0;
    for (path, text) in corpus("invalid").into_iter().chain(corpus("valid")) {
        let holds_secret = text.contains(CANARY) || text.contains("12345678") || text.contains("files/password");
        seen += usize::from(holds_secret);
        let outputs = match load_file(&path, &text) {
            Err(it) => vec![it.text(), it.to_string(), it.json().to_string(), format!("{it:?}")],
            Ok(it) => {
                let lines: Vec<_> = it.values.iter().map(ShownValue::line).collect();
                let diff = ConfigDiff::between(&Config::default(), &it.config);
                vec![format!("{it:?}"), lines.join("\n"), diff.to_string(), format!("{diff:?}")]
            }
        };
        for output in outputs {
            assert!(!output.contains(CANARY) && !output.contains("12345678"), "{}: {output}", path.display());
        }
    }
    assert!(seen >= 10, "only {seen} files hold a secret");
    let env = [("WASHLET_NATS__SCHEDULER__URLS", "http://u:canary@a"), ("WASHLET_NATS__SCHEDULER__TOKEN_", "canary")];
    let problems = load_with("#", &env, &[("--x", "http.listen", "canary")]).unwrap_err();
    assert_eq!(problems.0.len(), 3);
    assert!(!format!("{} {problems} {problems:?} {}", problems.text(), problems.json()).contains(CANARY));
    let sources = Sources { env: vec![("A".to_owned(), CANARY.to_owned())], ..sources(CANARY) };
    assert!(!format!("{sources:?}").contains(CANARY));
}

#[test]
fn a_cut_off_file_never_panics() {
    for (path, text) in corpus("valid").into_iter().chain(corpus("invalid")) {
        // Every ninth place: all of them take half a minute without optimisation.
        for (at, _) in text.char_indices().step_by(9) {
            let _verdict = load_file(&path, text.split_at(at).0).map_err(|problems| problems.text());
        }
    }
}

#[test]
fn a_file_with_flipped_bytes_never_panics() {
    for (path, text) in corpus("valid") {
        for (at, flip) in (0..text.len()).step_by(5).zip([0x01, 0x02, 0x10, 0x20, 0x7f].into_iter().cycle()) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= flip;
            let sources = Sources { file: Some(FileInput { path: path.clone(), bytes }), ..Sources::default() };
            let _verdict = load(&sources, &|path| std::fs::read(path)).map_err(|problems| problems.text());
        }
    }
}

#[test]
fn a_thousand_workloads_load() {
    let workload =
        |i: usize| format!("[[workloads]]\nname = 'w{i}'\n[[workloads.components]]\nname = 'c'\nimage = 'a/b:{i}'\n");
    let text: String = (0..1000).map(workload).collect();
    let loaded = load_text(&text).unwrap();
    assert_eq!(loaded.config.workloads.len(), 1000);
    let wrong = (0..20).fold(text, |text, i| text.replace(&format!("'a/b:{}'\n", i * 50), "'./b'\n"));
    let begun = std::time::Instant::now();
    assert_eq!(load_text(&wrong).unwrap_err().errors(), 20);
    // 0.8 s without optimisation; errors that cost a walk through the whole file each would take minutes.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

#[test]
fn later_layers_win_and_each_value_knows_its_own() {
    let file = "[host]\ngroup = 'file'\nlabels = { a = '1', b = '2' }\n[nats.scheduler]\ntoken = 'file'\n";
    let env = [
        ("WASMCLOUD_HOST_ENVIRONMENT", "reference"),
        ("WASHLET_HOST__ENVIRONMENT", "ours"),
        ("WASHLET_HOST__GROUP", "variable"),
        ("WASHLET_HOST__LABELS", "c=3"),
        ("WASHLET_NATS__SCHEDULER__TOKEN", "0123"),
        ("WASHLET_PLUGINS__WASI_KEYVALUE__ALLOW_BUCKETS", "a, b"),
        ("WASHLET_HTTP__MAX_CONNECTIONS", "7"),
        ("WASHLET_REGISTRY__ALLOW_INSECURE", "1"),
        ("WASHLET_LOG__LEVEL", "warn"),
        ("WASHLET_HOST__NAME", ""),
        ("RUST_LOG", "debug"),
    ];
    let flags = [("--host-group", "host.group", "flag"), ("--http-addr", "http.listen", "127.0.0.1:80")];
    let loaded = load_with(file, &env, &flags).map_err(|problems| problems.text()).unwrap();
    let pinned: Vec<_> = loaded.pinned.iter().map(|pinned| (pinned.key.as_str(), pinned.by.as_str())).collect();
    assert!(pinned.contains(&("host.group", "--host-group")) && !pinned.iter().any(|(key, _)| *key == "log.level"));
    let config = loaded.config;
    assert_eq!((config.host.group.as_str(), config.host.environment.as_str()), ("flag", "ours"));
    assert_eq!(config.host.labels.into_iter().collect::<Vec<_>>(), [("c".to_owned(), "3".to_owned())]);
    assert_eq!(config.host.name, None);
    assert_eq!(config.nats.scheduler.unwrap().connection.auth, NatsAuth::Token(Secret::new("0123")));
    assert_eq!(config.plugins.wasi_keyvalue.unwrap().allow_buckets, ["a", "b"]);
    assert_eq!(config.http.max_connections.unwrap().get(), 7);
    assert!(config.registry.allow_insecure);
    assert_eq!(config.log.level, "debug");
    let shown = |key: &str| loaded.values.iter().find(|value| value.key == key).unwrap().line();
    assert_eq!(shown("host.group"), r#"host.group = "flag"  # --host-group"#);
    assert_eq!(shown("host.labels"), r#"host.labels = { c = "3" }  # WASHLET_HOST__LABELS"#);
    assert_eq!(shown("nats.scheduler.token"), r#"nats.scheduler.token = "<secret>"  # WASHLET_NATS__SCHEDULER__TOKEN"#);
    assert_eq!(shown("nats.scheduler.start_reply_wait"), r#"nats.scheduler.start_reply_wait = "10s"  # default"#);
    assert_eq!(shown("log.level"), r#"log.level = "debug"  # RUST_LOG"#);
}

#[test]
fn a_file_value_shows_its_line() {
    let loaded = load_text("[host]\n\ngroup = 'file'\n").unwrap();
    assert!(loaded.values.iter().any(|value| value.line() == r#"host.group = "file"  # conf/washlet.toml:3"#));
}

#[test]
fn a_secret_in_a_higher_layer_replaces_both_of_its_keys() {
    let file = "[nats.scheduler]\ntoken_file = 'nowhere'\n";
    let loaded = load_with(file, &[("WASHLET_NATS__SCHEDULER__TOKEN", "t")], &[]).map_err(|it| it.text()).unwrap();
    assert_eq!(loaded.config.nats.scheduler.unwrap().connection.auth, NatsAuth::Token(Secret::new("t")));
}

#[test]
fn variables_that_no_key_has_are_told_by_their_shape() {
    let said = |name: &str| match load_with("#", &[(name, "tcp://10.0.0.1:80")], &[]) {
        Ok(loaded) => Problems(loaded.warnings).to_string(),
        Err(problems) => format!("error {problems}"),
    };
    for silent in ["WASHLET_CONFIG", "WASHLET_SERVICE_HOST", "WASHLET_SERVICE_PORT_HTTP", "WASHLET_PORT"] {
        assert_eq!(said(silent), "", "{silent}");
    }
    for silent in ["WASHLET_HTTP_SERVICE_PORT", "WASHLET_HTTP_PORT_8080_TCP", "WASHLET_HTTP_PORT_8080_TCP_ADDR"] {
        assert_eq!(said(silent), "", "{silent}");
    }
    assert!(said("WASHLET_HOST_GROUP").starts_with("WASHLET_HOST_GROUP: ignored"));
    assert!(said("WASHLET_HOST_GROUP").contains("did you mean WASHLET_HOST__GROUP?"));
    assert!(said("WASHLET_A__B_SERVICE_HOST").starts_with("WASHLET_A__B_SERVICE_HOST: ignored"));
    let unknown = "error WASHLET_HOST__GRUOP: no key has this name (did you mean WASHLET_HOST__GROUP?)";
    assert_eq!(said("WASHLET_HOST__GRUOP"), unknown);
    assert_eq!(
        said("WASHLET_HTTP__LISTEN"),
        "error WASHLET_HTTP__LISTEN: http.listen: expected an IP address with a port such as \"127.0.0.1:8080\""
    );
    assert!(said("WASMTIME_POOLING").starts_with("WASMTIME_POOLING: engine.pooling: ignored"));
}

#[test]
fn no_two_keys_share_a_variable_and_none_looks_like_a_service_link() {
    let keys = variables::settable(table::root());
    let names: BTreeSet<_> = keys.iter().map(variables::Settable::variable).collect();
    assert_eq!(names.len(), keys.len());
    assert!(names.len() > 100, "only {} names", names.len());
    for name in names {
        assert!(!variables::is_service_link(name.strip_prefix("WASHLET_").unwrap()), "{name}");
    }
}

#[test]
fn every_key_has_a_reload_class() {
    let mut count = 0;
    table::root().walk("", &mut |path, node| {
        let is_group = ["nats"].contains(&path);
        assert!(node.class.is_some() || is_group, "{path} has no reload class");
        count += 1;
    });
    assert!(count > 150, "only {count} keys");
}

#[test]
fn wrong_bytes_are_refused_before_they_are_parsed() {
    let load_bytes = |bytes: Vec<u8>| {
        let file = FileInput { path: PathBuf::from("w.toml"), bytes };
        load(&Sources { file: Some(file), ..Sources::default() }, &no_files).unwrap_err().to_string()
    };
    assert!(load_bytes(b" \n\t".to_vec()).starts_with("w.toml: the file is empty"));
    assert!(load_bytes(b"# \n# \xff".to_vec()).starts_with("w.toml:2:3: this byte is not UTF-8 text"));
    assert!(load_bytes(vec![b'#'; FILE_BYTES_MAX + 1]).starts_with("w.toml: the file is larger than 1 MiB"));
}

#[test]
fn the_hash_says_what_a_file_means_and_nothing_of_its_secrets() {
    let hash = |text: &str| load_text(text).unwrap().file_hash;
    let one = "[host]\ngroup = 'a'\n[drain]\ntimeout = '60s'\n[nats.scheduler]\ntoken = 'one'\n";
    let same = "# x\n[nats.scheduler]\ntoken = 'two'\n[drain]\ntimeout = '1m'\n[host]\ngroup = \"a\"\n";
    assert_eq!(hash(one), hash(same));
    assert_ne!(hash(one), hash(&one.replace("'a'", "'b'")));
    let merged = |env: &[(&str, &str)]| load_with(one, env, &[]).unwrap();
    let (plain, other) = (merged(&[]), merged(&[("WASHLET_HOST__GROUP", "b")]));
    assert_eq!(plain.file_hash, other.file_hash);
    assert_ne!(plain.config_hash, other.config_hash);
}

#[test]
fn the_hash_says_what_workloads_are_told_but_for_what_sounds_like_a_secret() {
    let hash = |table: &str, name: &str, value: &str| {
        let component = "[[workloads.components]]\nname = 'c'\nimage = 'ghcr.io/a/b:1'\n";
        let text = format!("[[workloads]]\nname = 'a'\n{component}{table} = {{ {name} = '{value}' }}\n");
        load_text(&text).unwrap().file_hash
    };
    for table in ["environment", "config"] {
        assert_ne!(hash(table, "GREETING", "a"), hash(table, "GREETING", "b"));
        let hidden = [
            ("DB_PASSWORD", "a", "b"),
            ("apiKey", "a", "b"),
            ("URL", "postgres://u:a@db/x", "postgres://u:b@db/x"),
            ("OPTIONS", "host=db password=a", "host=db password=b"),
            ("CERT", "-----BEGIN A", "-----BEGIN B"),
        ];
        for (name, one, other) in hidden {
            assert_eq!(hash(table, name, one), hash(table, name, other), "{name}");
        }
        assert_ne!(hash(table, "URL", "postgres://u:a@db/x"), hash(table, "URL", "postgres://u:a@other/x"));
    }
}

#[test]
fn the_log_section_is_told_before_the_rest_is_read() {
    let log = |text: &str, env: &[(&str, &str)]| {
        let file = Some(FileInput { path: PathBuf::from("w.toml"), bytes: text.into() });
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        log_of(&Sources { file, env, ..Sources::default() })
    };
    let text = "[log]\nformat = 'text'\n[http]\nlisten = 'nonsense'\n[http.tls]\ncert = 'gone'\n";
    let wanted = Log { level: "warn".to_owned(), format: LogFormat::Text };
    assert_eq!(log(text, &[("RUST_LOG", "warn")]), Some(wanted));
    assert_eq!(log("# nothing\n", &[]), Some(Log::default()));
    for wrong in ["[log]\nformat = 'loud'\n", "[log]\nlevel = 'verbose'\n", "log = 1\n", "[lo"] {
        assert_eq!(log(wrong, &[]), None, "{wrong}");
    }
}

#[test]
fn at_most_a_hundred_errors_are_listed() {
    let text: String = (0..150).map(|i| format!("[[workloads]]\nname = {}\n", index("", i))).collect();
    let problems = load_text(&text).unwrap_err();
    assert_eq!(problems.0.len(), 101);
    assert!(problems.to_string().ends_with("50 further errors are not listed"));
}

#[test]
fn a_comment_means_all_defaults() {
    let loaded = load_text("# all defaults\n").unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, []);
}

#[test]
fn every_table_resolves() {
    let loaded = load_text(
        r#"
        [host]
        group = "edge"
        labels = { zone = "a" }
        [nats.scheduler]
        urls = ["nats://u:p@one:4222", "two:4222"]
        heartbeat_interval = "5s"
        user = "u"
        password = "hunter2"
        [http]
        listen = "127.0.0.1:8080"
        max_request_body = "1MiB"
        [registry.hosts."localhost:5000"]
        insecure = true
        [artifacts]
        cache_dir = "cache"
        [limits]
        memory = "64MiB"
        [plugins.wasi-keyvalue]
        [plugins.wasi-logging]
        enabled = false
        [[workloads]]
        name = "hello"
        host_interfaces = [{ interface = "wasi:http/incoming-handler@0.2.2", config = { host = "localhost" } }]
        [[workloads.components]]
        name = "hello"
        image = "ghcr.io/a/b:1"
        pool_size = 4
        "#,
    );
    let config = loaded.map_err(|problems| problems.text()).unwrap().config;
    assert_eq!(config.host.group, "edge");
    assert_eq!(config.nats.scheduler.as_ref().unwrap().connection.urls.len(), 2);
    assert_eq!(config.http.listen.unwrap().port(), 8080);
    assert_eq!(config.artifacts.cache_dir, Some(PathBuf::from("conf/cache")));
    assert_eq!(config.plugins.wasi_keyvalue, Some(KeyvaluePlugin::default()));
    assert_eq!(config.plugins.wasi_logging, None);
    assert_eq!(config.workloads[0].id.as_str(), "static/default/hello");
    assert_eq!(config.workloads[0].spec.components[0].pool_size.unwrap().get(), 4);
    assert!(config.workloads[0].spec.host_interfaces[0].is_incoming_http_handler());
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = "[host]\ngroup = 'ü'\nnmae = 'x'\n[http]\nheader_read_timeout = 10\n[engine]\ncompile_cache = false\n";
    let problems = load_text(text).unwrap_err();
    assert_eq!(
        problems.to_string().lines().map(|line| line.split_once(": ").unwrap().0).collect::<Vec<_>>(),
        ["conf/washlet.toml:2:9", "conf/washlet.toml:3:1", "conf/washlet.toml:5:23", "conf/washlet.toml:7:1"]
    );
}
