//! Loading as a whole: corpora of right and wrong files, layers, secrets.

use std::io;
use std::path::{Path, PathBuf};

use super::*;

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
