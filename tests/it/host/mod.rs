//! `washlet host`: the command line of the reference host, as the official chart renders it and in every other order.

mod pod;

use std::path::Path;

use serde_json::Value;
use washlet::config::reference::{Meaning, OPTIONS, Takes};

use crate::support::TestProcess;
use crate::support::process::TestProcessBuilder;
use crate::tls::authority::Authority;

/// The argv of the chart (2.7) with TLS and HTTP. `dir` stands for the root of the pod's file system.
pub(super) fn chart_argv(dir: &Path, nats_url: &str, http_addr: &str) -> Vec<String> {
    let path = |path: &str| dir.join(path).display().to_string();
    let runtime = |name: &str| path(&format!("runtime-cert/{name}"));
    let data = |name: &str| path(&format!("data-cert/{name}"));
    let tls = |name: &str| path(&format!("tls-cert/{name}"));
    [
        ("--log-level", "info".to_owned()),
        ("host", String::new()),
        ("--host-name", "10.1.2.3".to_owned()),
        ("--host-group", "edge".to_owned()),
        ("--environment", "shop".to_owned()),
        ("--scheduler-nats-url", nats_url.to_owned()),
        ("--scheduler-nats-tls-ca", runtime("ca.crt")),
        ("--scheduler-nats-tls-cert", runtime("tls.crt")),
        ("--scheduler-nats-tls-key", runtime("tls.key")),
        ("--data-nats-url", nats_url.to_owned()),
        ("--data-nats-tls-ca", data("ca.crt")),
        ("--data-nats-tls-cert", data("tls.crt")),
        ("--data-nats-tls-key", data("tls.key")),
        ("--oci-cache-dir", path("oci-cache")),
        ("--http-addr", http_addr.to_owned()),
        ("--tls-cert-path", tls("tls.crt")),
        ("--tls-key-path", tls("tls.key")),
        ("--oci-ca-path", tls("ca.crt")),
        ("--wasm-proposal", "component-model-async".to_owned()),
    ]
    .map(|(name, value)| if value.is_empty() { name.to_owned() } else { format!("{name}={value}") })
    .to_vec()
}

/// The Secrets that the chart mounts, and the two writable directories.
pub(super) fn mounts(mut builder: TestProcessBuilder) -> TestProcessBuilder {
    let authority = Authority::new("cluster");
    for (folder, name) in [("runtime-cert", "127.0.0.1"), ("data-cert", "127.0.0.1"), ("tls-cert", "shop.test")] {
        let issued = authority.issue(name);
        builder = builder
            .file(&format!("{folder}/ca.crt"), authority.pem())
            .file(&format!("{folder}/tls.crt"), issued.cert)
            .file(&format!("{folder}/tls.key"), issued.key);
    }
    builder.file("oci-cache/.keep", "").file("tmp/.keep", "")
}

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn run(builder: TestProcessBuilder, args: &[String]) -> Said {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut process = builder.args(&args).start();
    let code = process.wait_exit().await;
    Said { code, stdout: process.stdout(), stderr: process.stderr() }
}

/// Value and origin of a key of `washlet config --json`.
fn shown<'a>(said: &'a Value, key: &str) -> (&'a Value, &'a str) {
    let values = said.as_array().expect("a list of values");
    let value = values.iter().find(|value| value["key"] == key).unwrap_or_else(|| panic!("{key} is not set: {said}"));
    (&value["value"], value["origin"].as_str().expect("an origin"))
}

fn config_of(mut argv: Vec<String>) -> Vec<String> {
    argv.splice(0..0, ["config".to_owned(), "--json".to_owned()]);
    argv
}

#[tokio::test(flavor = "multi_thread")]
async fn the_argv_of_the_chart_lands_in_the_configuration() {
    let builder = mounts(TestProcess::builder("# not read\n"));
    let dir = builder.dir().to_owned();
    let path = |path: &str| dir.join(path).display().to_string();
    let argv = chart_argv(&dir, "nats://nats.shop.svc.cluster.local:4222", "0.0.0.0:9191");
    let said = run(builder, &config_of(argv)).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let config: Value = serde_json::from_str(&said.stdout).expect("JSON");
    for (key, value, origin) in [
        ("log.level", "info".to_owned(), "--log-level"),
        ("host.advertise_address", "10.1.2.3".to_owned(), "--host-name"),
        ("host.group", "edge".to_owned(), "--host-group"),
        ("host.environment", "shop".to_owned(), "--environment"),
        ("nats.scheduler.tls.ca", path("runtime-cert/ca.crt"), "--scheduler-nats-tls-ca"),
        ("nats.scheduler.tls.cert", path("runtime-cert/tls.crt"), "--scheduler-nats-tls-cert"),
        ("nats.scheduler.tls.key", path("runtime-cert/tls.key"), "--scheduler-nats-tls-key"),
        ("nats.data.tls.ca", path("data-cert/ca.crt"), "--data-nats-tls-ca"),
        ("nats.data.tls.cert", path("data-cert/tls.crt"), "--data-nats-tls-cert"),
        ("nats.data.tls.key", path("data-cert/tls.key"), "--data-nats-tls-key"),
        ("artifacts.cache_dir", path("oci-cache"), "--oci-cache-dir"),
        ("http.listen", "0.0.0.0:9191".to_owned(), "--http-addr"),
        ("http.tls.cert", path("tls-cert/tls.crt"), "--tls-cert-path"),
        ("http.tls.key", path("tls-cert/tls.key"), "--tls-key-path"),
    ] {
        assert_eq!(shown(&config, key), (&Value::String(value), origin), "{key}");
    }
    for (key, value, origin) in [
        ("nats.scheduler.urls", "nats://nats.shop.svc.cluster.local:4222".to_owned(), "--scheduler-nats-url"),
        ("nats.data.urls", "nats://nats.shop.svc.cluster.local:4222".to_owned(), "--data-nats-url"),
        ("registry.ca", path("tls-cert/ca.crt"), "--oci-ca-path"),
        ("engine.proposals", "component-model-async".to_owned(), "--wasm-proposal"),
    ] {
        assert_eq!(shown(&config, key), (&serde_json::json!([value]), origin), "{key}");
    }
    // The plugins of the reference host, as far as there are any.
    assert_eq!(shown(&config, "plugins.wasi-logging.enabled"), (&Value::Bool(true), "default"));
}

/// Every flag that is not refused, with a value of its own.
fn every_flag(dir: &Path) -> Vec<(&'static str, Takes, String)> {
    let path = |name: &str| dir.join(name).display().to_string();
    let flags = OPTIONS.iter().filter(|option| !matches!(option.meaning, Meaning::Missing(_)));
    let flags = flags.filter_map(|option| {
        let flag = option.flag?;
        let value = match flag {
            "--log-level" => "debug".to_owned(),
            // Refused as long as they are not implemented, which says the same as not setting them.
            "--deny-special-ranges" => "true".to_owned(),
            "--deny-private-ranges" | "--allow-host-loopback" | "--wasi-webgpu" | "--wasi-otel" => "false".to_owned(),
            "--socket-egress" => "enforce".to_owned(),
            "--http-client-trust-roots" => "webpki".to_owned(),
            "--postgres-url" => return None,
            "--tls-cert-path" => path("tls-cert/tls.crt"),
            "--tls-key-path" => path("tls-cert/tls.key"),
            "--tls-ca-path" | "--oci-ca-path" | "--http-client-ca-path" => path("tls-cert/ca.crt"),
            "--oci-cache-dir" => path("oci-cache"),
            "--wasm-proposal" => "gc".to_owned(),
            "--http-addr" => "127.0.0.1:1".to_owned(),
            "--probe-addr" => "127.0.0.1:2".to_owned(),
            _ if flag.ends_with("-tls-ca") => path("runtime-cert/ca.crt"),
            _ if flag.ends_with("-tls-cert") => path("runtime-cert/tls.crt"),
            _ if flag.ends_with("-tls-key") => path("runtime-cert/tls.key"),
            _ if flag.ends_with("-nats-url") => "nats://a:4222,nats://b:4222".to_owned(),
            _ if flag.contains("timeout") || flag.contains("wait") || flag.contains("delay") => "7s".to_owned(),
            _ if flag.contains("memory") => "64Mi".to_owned(),
            _ if option.takes == Takes::Switch => "true".to_owned(),
            _ => "7".to_owned(),
        };
        Some((flag, option.takes, value))
    });
    flags.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flag_is_taken_in_both_spellings_and_on_both_sides_of_the_command() {
    let (mut seen, mut seed) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    for is_joined in [true, false] {
        let builder = mounts(TestProcess::builder("# not read\n"));
        let mut flags = every_flag(builder.dir());
        seen += flags.len();
        // Shuffled in a way that each run repeats.
        for at in (1..flags.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            flags.swap(at, usize::try_from(seed >> 33).expect("31 bits") % (at + 1));
        }
        let words = |(flag, takes, value): &(&str, Takes, String)| -> Vec<String> {
            match (takes, is_joined) {
                (Takes::Switch, false) if value == "true" => vec![(*flag).to_owned()],
                (Takes::Switch, _) | (_, true) if flag.starts_with("--") => vec![format!("{flag}={value}")],
                _ => vec![(*flag).to_owned(), value.clone()],
            }
        };
        let (before, after) = flags.split_at(flags.len() / 2);
        let argv: Vec<String> =
            before.iter().flat_map(words).chain(["host".to_owned()]).chain(after.iter().flat_map(words)).collect();
        let said = run(builder, &config_of(argv)).await;
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let config: Value = serde_json::from_str(&said.stdout).expect("JSON");
        for (flag, ..) in &flags {
            let option = OPTIONS.iter().find(|option| option.flag == Some(flag)).expect("it is of the table");
            if let Some(key) = option.key() {
                assert_eq!(shown(&config, key).1, *flag, "{key}");
            }
        }
    }
    assert!(seen > 80, "only {seen} flags");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_may_be_repeated_on_both_sides_and_a_list_grows() {
    let argv =
        ["--oci-ca-path=a", "--host-group=one", "host", "--oci-ca-path", "b,c", "--host-group", "two", "-l=debug"];
    let said = run(TestProcess::builder("# not read\n"), &config_of(argv.map(str::to_owned).to_vec())).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let config: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(*shown(&config, "registry.ca").0, serde_json::json!(["a", "b", "c"]));
    assert_eq!(*shown(&config, "host.group").0, "two");
    assert_eq!(shown(&config, "log.level"), (&Value::from("debug"), "--log-level"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_flag_ends_with_2_and_is_named() {
    for args in [["host", "--host-gruop=x"], ["--host-gruop=x", "host"], ["host", "--no-such-thing"]] {
        let said = run(TestProcess::builder("# not read\n"), &args.map(str::to_owned)).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{}", said.stderr);
        let flag = args.iter().find_map(|arg| arg.strip_prefix("--")).expect("one is a flag");
        assert!(said.stderr.contains(&format!("--{}", flag.trim_end_matches("=x"))), "{}", said.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_without_is_refused_by_name() {
    for (argv, names) in [
        (["host", "--host-plugin=id=a,image=b"], ["--host-plugin", "not implemented yet"]),
        (["host", "--user-config=c.yaml"], ["--user-config", "not implemented yet"]),
        (["host", "--wasm-proposal=simd"], ["--wasm-proposal", "unknown proposal `simd`"]),
        (["host", "--tls-key-path={dir}/tls-cert/tls.key"], ["--tls-key-path", "needs `cert` beside it"]),
        (["host", "--default-heap-memory=lots"], ["--default-heap-memory", "expected a quantity"]),
    ] {
        let argv = argv.map(str::to_owned).to_vec();
        let said = run(mounts(TestProcess::builder("# not read\n")), &config_of(argv)).await;
        assert_eq!(said.code, Some(78), "{}", said.stderr);
        assert!(names.iter().all(|name| said.stderr.contains(name)), "{names:?} in {}", said.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let text = "[host]\nenvironment = 'file'\ngroup = 'file'\n[log]\nlevel = 'error'\n[engine]\nmax_instances = 1\n\
                [registry]\npull_timeout = '1s'\n[nats.scheduler]\npassword = 'canary'\nuser = 'u'\n";
    let builder = TestProcess::builder(text)
        .env("WASMCLOUD_HOST_ENVIRONMENT", "reference")
        .env("WASHLET_HOST__ENVIRONMENT", "variable")
        .env("WASHLET_HOST__GROUP", "variable")
        .env("WASH_CORE_INSTANCES", "2")
        .env("WASHLET_LOG__LEVEL", "warn")
        .env("RUST_LOG", "debug");
    let argv = ["--config", "washlet.toml", "host", "--environment", "flag"];
    let said = run(builder, &config_of(argv.map(str::to_owned).to_vec())).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let config: Value = serde_json::from_str(&said.stdout).expect("JSON");
    for (key, value, origin) in [
        ("host.environment", Value::from("flag"), "--environment"),
        ("host.group", Value::from("variable"), "WASHLET_HOST__GROUP"),
        ("engine.max_instances", Value::from(2), "WASH_CORE_INSTANCES"),
        ("log.level", Value::from("debug"), "RUST_LOG"),
        ("registry.pull_timeout", Value::from("1s"), "washlet.toml:9"),
        ("registry.pull_retries", Value::from(3), "default"),
        ("nats.scheduler.password", Value::from("<secret>"), "washlet.toml:11"),
    ] {
        assert_eq!(shown(&config, key), (&value, origin), "{key}");
    }
    assert!(!said.stdout.contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_names_every_flag_of_the_table() {
    let said = run(TestProcess::builder("# not read\n"), &["host".to_owned(), "--help".to_owned()]).await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    for flag in OPTIONS.iter().filter_map(|option| option.flag) {
        assert!(said.stdout.contains(flag), "{flag} is not in the help");
    }
}
