//! The command line of the binary: exit codes, what goes where, and that nothing of it panics.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn washlet(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_washlet"));
    command.args(args).env_clear().current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn output(args: &[&str]) -> Output {
    washlet(args).output().unwrap()
}

fn texts(output: &Output) -> (&str, &str) {
    (std::str::from_utf8(&output.stdout).unwrap(), std::str::from_utf8(&output.stderr).unwrap())
}

fn temporary(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn check_takes_the_example() {
    let output = output(&["check", "--config", "washlet.toml.example"]);
    assert_eq!(output.status.code(), Some(0));
    let (out, err) = texts(&output);
    assert!(out.starts_with("configuration valid: file "), "{out}");
    assert_eq!(err, "");
}

#[test]
fn check_prints_every_problem_with_a_caret_and_exits_78() {
    let file = temporary("[http]\nlisten = \"8080\"\nlissten = 1\n");
    let path = file.path().to_str().unwrap();
    let plain = output(&["check", "--config", path]);
    assert_eq!(plain.status.code(), Some(78));
    let (out, err) = texts(&plain);
    assert_eq!(out, "");
    let caret = "\n  |\n2 | listen = \"8080\"\n  |          ^^^^^^\n";
    assert!(err.contains(&format!("  --> {path}:2:10{caret}")), "{err}");
    assert!(err.contains(&format!("  --> {path}:3:1")) && err.ends_with("\n2 errors\n"), "{err}");
    let json = output(&["--config", path, "check", "--json"]);
    assert_eq!(json.status.code(), Some(78));
    let json: serde_json::Value = serde_json::from_str(texts(&json).0).unwrap();
    assert_eq!((&json["valid"], &json["problems"][1]["line"]), (&false.into(), &3.into()));
}

#[test]
fn config_names_the_origin_of_each_value() {
    let file = temporary("[host]\ngroup = \"edge\"\n[nats.scheduler]\ntoken = \"canary\"\n");
    let path = file.path().to_str().unwrap();
    let mut command = washlet(&["config", "--http-addr", "127.0.0.1:80", "--allow-insecure-registries"]);
    let output = command.env("WASHLET_CONFIG", path).env("WASHLET_DRAIN__TIMEOUT", "1s").output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), err), (Some(0), ""));
    for line in [
        format!("host.group = \"edge\"  # {path}:2"),
        "http.listen = \"127.0.0.1:80\"  # --http-addr".to_owned(),
        "registry.allow_insecure = true  # --allow-insecure-registries".to_owned(),
        "drain.timeout = \"1s\"  # WASHLET_DRAIN__TIMEOUT".to_owned(),
        "host.environment = \"\"  # default".to_owned(),
    ] {
        assert!(out.lines().any(|it| it == line), "{line} is not in\n{out}");
    }
    assert!(!out.contains("canary"), "{out}");
}

#[test]
fn a_wrong_flag_or_file_has_its_own_exit_code() {
    for (args, code) in [
        (&["--no-such-flag"][..], 2),
        (&["no-such-command"], 2),
        (&["check", "--config", "no/such/file.toml"], 78),
        (&["check", "--config", "src"], 78),
        (&["check", "--http-addr", "8080"], 78),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["schema"], 0),
        (&["example"], 0),
    ] {
        assert_eq!(output(args).status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn example_prints_the_file_of_the_repository() {
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/washlet.toml.example")).unwrap();
    assert!(output(&["example"]).stdout == file);
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = washlet(&["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(texts(&output).1, "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn diff_prints_the_plan_of_a_reload_and_whether_it_would_be_refused() {
    let old = temporary("[http]\nlisten = \"127.0.0.1:8080\"\n[engine]\nmax_instances = 10\n");
    let new = temporary("[http]\nlisten = \"127.0.0.1:8081\"\n[engine]\nmax_instances = 20\n");
    let none = temporary("[host]\ngroup = \"a\"\n");
    let (old, new, none) = (old.path(), new.path(), none.path());
    let diff =
        |old: &std::path::Path, new: &std::path::Path| output(&["diff", old.to_str().unwrap(), new.to_str().unwrap()]);
    let plan = diff(old, new);
    assert_eq!(plan.status.code(), Some(0));
    assert_eq!(texts(&plan).0, "http.listen: bind (live)\nengine.max_instances: defer (restart)\n");
    assert_eq!(texts(&diff(old, old)).0, "nothing changes\n");
    let store = |backend: &str| temporary(&format!("[plugins.wasi-keyvalue]\nbackend = \"{backend}\"\n"));
    let (memory, nats) = (store("memory"), store("nats"));
    let swap = "plugins.wasi-keyvalue: swap (live)\n";
    let lost = "plugins.wasi-keyvalue: what the backend `memory` holds is lost\n";
    assert_eq!(texts(&diff(memory.path(), nats.path())).0, format!("{swap}{lost}"));
    assert_eq!(texts(&diff(nats.path(), memory.path())).0, swap);
    let refused = diff(old, none);
    assert_eq!(refused.status.code(), Some(78));
    assert!(texts(&refused).1.starts_with("refused: http.listen is live and gone"), "{}", texts(&refused).1);
}
