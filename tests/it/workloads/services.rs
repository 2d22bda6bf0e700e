//! Services of the configuration file: what plugins serve them, and what edits of the file do to them.

use std::fmt::Write as _;

use crate::support::standalone::{config, fixture};
use crate::support::{LogLine, PATIENCE, Standalone, Workload, eventually};

const KEYVALUE: &str = "plugins.wasi-keyvalue = {}";

/// `kv2` under `name.test`, with `guest` as its service; `keys` are lines of TOML of the service.
fn with_service(name: &str, guest: &str, keys: &str) -> Workload {
    let mut service = String::new();
    write!(service, "[workloads.service]\nimage = {:?}\n{keys}", fixture(guest)).expect("writing to a string");
    Workload::new(name, "kv2").interface("wasi:keyvalue/store,atomics,batch@0.2.0-draft").key(&service)
}

fn counting(fail_first: u32, max_restarts: u64) -> Workload {
    let keys = format!("max_restarts = {max_restarts}\nenvironment = {{ FAIL_FIRST = \"{fail_first}\" }}");
    with_service("app", "svc-kv", &keys)
}

/// A line of `svc-kv`, of any of its runs.
fn is_run(line: &LogLine) -> bool {
    line.field("text").is_some_and(|text| text.starts_with("run "))
}

impl Standalone {
    /// Applies another file; the address stays.
    async fn edit(&mut self, settings: &str, workloads: &[Workload]) {
        let text = config(settings, workloads).replace("127.0.0.1:0", &self.addr.to_string());
        self.process.rewrite_config(&text);
        self.process.wait_for_message("configuration applied").await;
    }

    async fn runs(&self) -> String {
        self.get("app.test", "/default/increment/runs/0").await.text().trim().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_run_of_a_service_is_on_a_fresh_store_and_plugins_serve_it_as_they_serve_components() {
    let mut host = Standalone::start(KEYVALUE, &[counting(2, 2)]).await;
    host.process.allow_log("service failed, starting it again");
    // A second call of the same instance would say so.
    for run in 1..=3 {
        host.process.wait_for_output(&format!("run {run}, call 1 of its instance")).await;
    }
    assert_eq!(host.runs().await, "3");
    // An edit that is nothing to it leaves it alone.
    host.edit(&format!("{KEYVALUE}\nlimits.call_timeout = \"30s\""), &[counting(2, 2)]).await;
    assert_eq!(host.process.log_lines().iter().filter(|line| is_run(line)).count(), 0);
    assert_eq!(host.runs().await, "3");
    // Another environment is another workload: a new one, with what it stored before.
    host.edit(KEYVALUE, &[counting(0, 2)]).await;
    host.process.wait_for_output("run 4, call 1 of its instance").await;
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_loses_an_interface_ends_and_runs_again_when_it_is_back() {
    let mut host = Standalone::start(KEYVALUE, &[counting(0, 0)]).await;
    host.process.wait_for_output("run 1, call 1 of its instance").await;
    host.process.allow_log("workload failed");
    host.process.allow_log("plugins");
    host.edit("reload.in_use = \"fail-workloads\"", &[counting(0, 0)]).await;
    let failed = host.process.wait_for_message("workload failed").await;
    assert!(failed.field("error").unwrap().contains("wasi:keyvalue/store@0.2.0-draft"), "{failed}");
    host.edit(&format!("{KEYVALUE}\nreload.in_use = \"fail-workloads\""), &[counting(0, 0)]).await;
    host.process.wait_for_log(is_run).await;
    eventually("its components serve again", PATIENCE, async || {
        (host.get("app.test", "/default/exists/runs").await.status == 200).then_some(())
    })
    .await;
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_the_file_that_is_given_up_is_tried_again_and_ends_with_its_entry() {
    let broken = with_service("app", "svc2", "environment = { MODE = \"exit-7\" }");
    let mut host = Standalone::start(KEYVALUE, &[broken]).await;
    host.process.allow_log("workload failed");
    let failed = host.process.wait_for_message("workload failed").await;
    assert_eq!(failed.field("error").as_deref(), Some("service exited: exit code 7 (restarts exhausted: 0)"));
    host.process.mark();
    host.process.wait_for_output("started mode=exit-7").await;
    // Mended, it runs; and without its entry it does not.
    host.edit(KEYVALUE, &[with_service("app", "svc2", "environment = { MODE = \"loop\" }")]).await;
    host.process.wait_for_output("tick 2").await;
    assert_eq!(host.get("app.test", "/default/exists/x").await.status, 200);
    host.edit(KEYVALUE, &[]).await;
    host.process.wait_for_message("workload stopped").await;
    host.process.mark();
    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    assert!(host.process.log_lines().iter().all(|line| line.message() != "guest output"));
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_ends_in_order_while_its_services_run() {
    let workloads = [
        with_service("a", "svc2", "environment = { MODE = \"loop\" }"),
        with_service("b", "svc3", "environment = { MODE = \"loop\" }"),
        with_service("c", "svc2", "environment = { MODE = \"spin\" }"),
    ];
    let host = Standalone::start(KEYVALUE, &workloads).await;
    host.process.wait_for_output("started mode=spin").await;
    host.process.wait_for_output("tick 2").await;
    host.finish().await;
}
