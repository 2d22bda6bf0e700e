//! A configuration file that is a mount of its own, as `subPath` and `-v file:file` make it: in a mount namespace of the
//! test's own.

use std::process::Command;

use crate::support::TestProcess;
use crate::support::process::TestProcessBuilder;

/// What makes a mount namespace here: root may, and others may where they may make a user namespace.
fn unshare() -> &'static str {
    let can = |flags: &&str| {
        let output = Command::new("unshare").args([flags, "true"]).output();
        output.expect("unshare of util-linux runs").status.success()
    };
    ["-m", "-rm"].into_iter().find(|flags| can(flags)).expect(
        "this machine lets nobody make a mount namespace: run the tests as root, or allow unprivileged user namespaces",
    )
}

/// The files `source` and `washlet.toml`, the first mounted over the second when `script` runs; it ends by a command.
fn mounted(script: &str) -> TestProcessBuilder {
    let washlet = env!("CARGO_BIN_EXE_washlet");
    let script = format!("mount --bind source washlet.toml && {} ", script.replace("washlet ", &format!("{washlet} ")));
    TestProcess::builder("[log]\nformat = \"json\"\n")
        .file("source", "[log]\nformat = \"json\"\n[host]\ngroup = \"a\"\n")
        .program("unshare")
        .args(&[unshare(), "sh", "-c", &script])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_says_at_its_start_that_it_will_never_see_an_update() {
    for (script, says) in [
        ("exec washlet --config washlet.toml", "it never sees an update of its source"),
        ("rm source && exec washlet --config washlet.toml", "already stale"),
    ] {
        let mut process = mounted(script).start();
        process.allow_log("configuration warning");
        let line = process.wait_for_message("configuration warning").await;
        let problem = line.field("problem").unwrap_or_default();
        assert!(problem.starts_with("washlet.toml: ") && problem.contains(says), "{problem}");
        assert!(problem.contains("mount the directory"), "{problem}");
        let applied = process.wait_for_message("configuration applied").await;
        assert_eq!(applied.field("generation").as_deref(), Some("1"), "it is only a warning");
        process.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_it_and_the_configuration_stays_valid() {
    let mut process = mounted("exec washlet check --config washlet.toml").start();
    assert_eq!(process.wait_exit().await, Some(0));
    let (out, err) = (process.stdout(), process.stderr());
    assert!(out.starts_with("configuration valid: "), "{out}");
    assert!(err.starts_with("warning: ") && err.contains("--> washlet.toml\n"), "{err}");
    assert!(err.contains("it never sees an update of its source") && err.contains("mount the directory"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_configuration_names_is_looked_at_too() {
    let script = "echo token > a && echo token > b && mount --bind a b && exec washlet check --config washlet.toml";
    let config = "[nats.scheduler]\ntoken_file = \"b\"\n";
    let script = script.replace("washlet check", &format!("{} check", env!("CARGO_BIN_EXE_washlet")));
    let args = [unshare(), "sh", "-c", &script];
    let mut process = TestProcess::builder(config).program("unshare").args(&args).start();
    assert_eq!(process.wait_exit().await, Some(0), "{}", process.stderr());
    let err = process.stderr();
    assert!(err.contains("--> b\n") && !err.contains("--> washlet.toml\n"), "{err}");
}
