//! The commands that look at a configuration, and what wins over what.

use serde_json::Value;

use crate::support::TestProcess;
use crate::support::process::TestProcessBuilder;

/// What a command said, and how it ended.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn run(builder: TestProcessBuilder, args: &[&str]) -> Said {
    let mut process = builder.args(args).start();
    let code = process.wait_exit().await;
    Said { code, stdout: process.stdout(), stderr: process.stderr() }
}

fn file(text: &str) -> TestProcessBuilder {
    TestProcess::builder(text)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const WRONG: &str = r#"[http]
lissten = 1
request_timeout = 10

[nats.scheduler]
token = "canary"
password = "canary"

[[workloads]]
name = "a"

[[workloads.components]]
name = "main"
image = "file:nowhere.wasm"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_every_problem_with_its_place() {
    let said = run(file(WRONG), &["check", "--config", "washlet.toml"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(78), ""));
    for place in ["washlet.toml:2:1\n", "washlet.toml:3:19\n", "washlet.toml:14:9\n"] {
        assert!(said.stderr.contains(place), "{place} is in:\n{}", said.stderr);
    }
    assert!(said.stderr.contains("did you mean `listen`?"), "{}", said.stderr);
    assert!(said.stderr.contains("nowhere.wasm"), "{}", said.stderr);
    assert!(!said.stderr.contains("canary"), "no secret is shown:\n{}", said.stderr);

    let caret = "\n  |\n3 | request_timeout = 10\n  |                   ^^\n";
    assert!(said.stderr.contains(caret) && said.stderr.ends_with(" errors\n"), "{}", said.stderr);

    let said = run(file(WRONG), &["check", "--json", "--config", "washlet.toml"]).await;
    assert_eq!(said.code, Some(78));
    let said = json(&said.stdout);
    assert_eq!(said["valid"], false);
    let first = &said["problems"][0];
    assert_eq!((&first["line"], &first["column"], &first["key"]), (&2.into(), &1.into(), &"http.lissten".into()));
    assert!(!said.to_string().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_every_syntax_error() {
    let said = run(file("[http\nlisten = 1\n[log]\nlevel = \"info\n"), &["check", "-c", "washlet.toml"]).await;
    assert_eq!(said.code, Some(78));
    for place in ["washlet.toml:1:6\n", "washlet.toml:4:"] {
        assert!(said.stderr.contains(place), "{place} is in:\n{}", said.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_accepts_what_is_valid_and_warnings_do_not_fail_it() {
    let said = run(file("# defaults\n"), &["check", "--config", "{dir}/washlet.toml"]).await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert!(said.stdout.starts_with("configuration valid"), "{}", said.stdout);
    let odd = file("# defaults\n").env("WASHLET_LISTEN", "127.0.0.1:1");
    let said = run(odd, &["check", "--config", "washlet.toml"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("warning") && said.stderr.contains("WASHLET_LISTEN"), "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_missing_is_named() {
    for args in [["check", "--config", "none.toml"], ["config", "--config", "none.toml"]] {
        let said = run(file(""), &args).await;
        assert_eq!(said.code, Some(78));
        assert!(said.stderr.contains("none.toml"), "{}", said.stderr);
    }
    let said = run(file("").env("WASHLET_CONFIG", "none.toml"), &["check"]).await;
    assert_eq!(said.code, Some(78));
    assert!(said.stderr.contains("none.toml"), "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn config_says_where_each_value_comes_from_and_hides_secrets() {
    let text = "[http]\nlisten = \"127.0.0.1:1\"\n[nats.scheduler]\ntoken = \"canary\"\n\
                [registry.hosts.\"r.test\"]\nuser = \"u\"\npassword = \"canary\"\n[log]\nlevel = \"debug\"\n";
    let layered = || file(text).env("WASHLET_HTTP__LISTEN", "127.0.0.1:2").env("WASHLET_LOG__LEVEL", "warn");
    let args = ["config", "--config", "washlet.toml", "--log-level", "error"];
    let said = run(layered(), &args).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for line in [
        "http.listen = \"127.0.0.1:2\"  # WASHLET_HTTP__LISTEN\n",
        "log.level = \"error\"  # --log-level\n",
        "drain.timeout = \"12s\"  # default\n",
        "nats.scheduler.token = \"<secret>\"  # washlet.toml:4\n",
    ] {
        assert!(said.stdout.contains(line), "{line} is in:\n{}", said.stdout);
    }
    assert!(said.stdout.contains("user = \"u\"  # washlet.toml:6\n"), "{}", said.stdout);
    assert!(!said.stdout.contains("canary"), "{}", said.stdout);
    let said = run(layered(), &["config", "--json", "--config", "washlet.toml"]).await;
    assert!(json(&said.stdout).is_array() && !said.stdout.contains("canary"), "{}", said.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_variable_or_flag_is_named() {
    let wrong = file("# defaults\n").env("WASHLET_HTTP__LISTEN", "nonsense");
    let said = run(wrong, &["check", "--config", "washlet.toml", "--registry-pull-timeout", "soon"]).await;
    assert_eq!(said.code, Some(78));
    assert!(said.stderr.contains("WASHLET_HTTP__LISTEN"), "{}", said.stderr);
    assert!(said.stderr.contains("--registry-pull-timeout"), "{}", said.stderr);
    let unknown = file("# defaults\n").env("WASHLET_HTTP__LISSTEN", "127.0.0.1:1");
    let said = run(unknown, &["check", "--config", "washlet.toml"]).await;
    assert_eq!(said.code, Some(78));
    assert!(
        said.stderr.contains("WASHLET_HTTP__LISSTEN") && said.stderr.contains("WASHLET_HTTP__LISTEN"),
        "{}",
        said.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_flag_is_a_usage_error() {
    let said = run(file(""), &["--lisen", "x"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""));
    assert!(said.stderr.contains("--lisen"), "{}", said.stderr);
    let said = run(file(""), &["--version"]).await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert_eq!(said.stdout, format!("washlet {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_washlet"));
    let piped = std::process::Stdio::piped;
    let mut child = command.arg("schema").stdout(piped()).stderr(piped()).spawn().expect("washlet starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("washlet ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr)), (Some(0), "".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_names_the_reload_class_of_every_key() {
    let said = run(file(""), &["schema"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let schema = json(&said.stdout);
    let mut keys = Vec::new();
    leaves(&schema, &schema, ("", None), &mut keys);
    assert!(keys.len() > 150, "{} keys", keys.len());
    let without: Vec<_> = keys.iter().filter(|(_key, class)| class.is_none()).collect();
    assert!(without.is_empty(), "keys without a class: {without:?}");
    assert!(keys.contains(&("http.listen".to_owned(), Some("live".to_owned()))), "{keys:?}");
}

/// Every key below `node` that is no table, with its reload class: its own, or that of the table it is in.
fn leaves(root: &Value, node: &Value, above: (&str, Option<&str>), keys: &mut Vec<(String, Option<String>)>) {
    let (path, class) = above;
    let Some(properties) = node["properties"].as_object() else { return };
    for (name, property) in properties {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let class = property["x-washlet-reload"].as_str().or(class);
        let table = [property, &property["items"], &property["additionalProperties"]]
            .into_iter()
            .flat_map(|value| std::iter::once(value).chain(value["anyOf"].as_array().into_iter().flatten()))
            .map(|value| resolved(root, value))
            .find(|value| value["properties"].is_object());
        match table {
            Some(table) => leaves(root, table, (&key, table["x-washlet-reload"].as_str().or(class)), keys),
            None => keys.push((key, class.map(str::to_owned))),
        }
    }
}

/// What a reference stands for.
fn resolved<'a>(root: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_is_the_file_in_the_repository_and_valid() {
    let said = run(file(""), &["example"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), include_str!("../../washlet.toml.example")));
    let said = run(file(&said.stdout), &["check", "--config", "washlet.toml"]).await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
}
