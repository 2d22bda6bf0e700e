//! Secrets stay secret: a canary in every kind of secret of a running host, and everything it says is searched.

use std::net::SocketAddr;

use crate::support::{NatsServer, TestProcess, free_port, http};

/// Nothing else holds this.
const BIRD: &str = "c4n4ry";

/// All secrets that can be used, from the file, from a variable and from files beside it.
fn config(admin: u16, nats: &str, more: &str) -> String {
    let wasm = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart/hello.wasm");
    format!(
        r#"
{more}
[admin]
listen = "127.0.0.1:{admin}"
[log]
level = "debug"
[reload]
watch = false
poll_interval = "0s"
[nats.scheduler]
urls = ["{nats}"]
user = "u"
password = "{BIRD}-file"
[registry.hosts."localhost:5000"]
user = "u"
password_file = "password"
[plugins.wasi-config]
[[workloads]]
name = "a"
host_interfaces = [{{ interface = "wasi:config/store", config = {{ key = "{BIRD}-interface" }} }}]
[[workloads.components]]
name = "c"
image = "file:{wasm}"
config = {{ key = "{BIRD}-config" }}
environment = {{ KEY = "{BIRD}-environment" }}
"#
    )
}

async fn ask(port: u16, method: &str, path: &str) -> String {
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let answer = http::send(addr, http::request(method, "admin", path, http::full(""))).await;
    answer.text().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_host_says_holds_a_secret() {
    let nats = NatsServer::start("").await;
    let port = free_port();
    let url = nats.url().replace("nats://", &format!("nats://u:{BIRD}-url@"));
    let right = config(port, &url, "");
    let mut process = TestProcess::builder(&right)
        .file("password", format!("{BIRD}-password-file\n"))
        .env("WASHLET_NATS__SCHEDULER__PASSWORD", &format!("{BIRD}-variable"))
        .start();
    process.allow_log("");
    process.wait_for_message("configuration applied").await;
    let mut said = String::new();
    let wrong = [
        config(port, &url, "[host]\ngruop = \"a\""),
        config(port, &url, "[host]\ngroup = 1"),
        config(port, &url, "[host]\ngroup = \"-\""),
        right.replace(&format!("password = \"{BIRD}-file\""), &format!("password = \"{BIRD}-file")),
        right.replace("password = ", "pasword = "),
        right.replace("password_file", "password"),
        right.replace("user = \"u\"", "user = 1"),
        right.replace(&format!("\"{BIRD}-config\""), &format!("[\"{BIRD}-config\"]")),
        right.replace("file:", "./"),
    ];
    let rotated = right.replace("-config", "-other-config").replace("-environment", "-other-environment");
    for text in wrong.iter().chain([&rotated, &right]) {
        process.rewrite_config(text);
        for (method, path) in
            [("POST", "/check"), ("POST", "/reload"), ("GET", "/status"), ("GET", "/metrics"), ("GET", "/readyz")]
        {
            said += &ask(port, method, path).await;
        }
        let dir = process.dir().join("washlet.toml");
        for args in [&["check"][..], &["check", "--json"], &["config"]] {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_washlet"));
            let output = command.args(args).arg("--config").arg(&dir).output().unwrap();
            said += &String::from_utf8_lossy(&output.stdout);
            said += &String::from_utf8_lossy(&output.stderr);
        }
    }
    assert!(said.contains("gruop") && said.contains("workloads.default/a") && said.contains("<secret>"), "{said}");
    assert!(!said.contains(BIRD), "{said}");
    for line in process.log_lines() {
        assert!(!line.to_string().contains(BIRD), "{line}");
    }
    process.finish().await;
}
