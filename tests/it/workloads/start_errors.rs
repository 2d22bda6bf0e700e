//! Workloads that cannot start: why is in the log, and the others run.

use crate::support::standalone::{config, fixture};
use crate::support::{FakeServer, LogLine, PATIENCE, Standalone, Workload, eventually};

/// Starts `broken` beside a workload that is fine, and returns why it failed, as logged.
async fn why(settings: &str, broken: Workload) -> String {
    let mut host = Standalone::start(settings, &[broken, Workload::new("fine", "http2")]).await;
    host.process.allow_log("workload failed to start");
    let line = host.process.wait_for_message("workload failed to start").await;
    assert_eq!(line.field("workload.id").as_deref(), Some("static/default/broken"), "{line}");
    assert_eq!(host.get("broken.test", "/").await.status, 404);
    assert_eq!(host.get("fine.test", "/").await.status, 200);
    host.finish().await;
    line.field("error").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_import_is_named_with_its_component_and_what_to_do() {
    assert_eq!(
        why("", Workload::new("broken", "missing")).await,
        "component 'broken' imports 'test:absent/thing@1.0.0' which is not available: no plugin of this host serves it"
    );
    // No plugin.
    let reason = why("", Workload::new("broken", "kv2").interface("wasi:keyvalue/store,atomics,batch")).await;
    assert!(reason.contains("component 'broken' imports 'wasi:keyvalue/store@0.2.0-draft'"), "{reason}");
    assert!(reason.contains("plugins.wasi-keyvalue"), "{reason}");
    // A plugin, but no entry that asks for it.
    let reason = why("plugins.wasi-keyvalue = {}", Workload::new("broken", "kv2")).await;
    for interface in ["store", "atomics", "batch"] {
        assert!(reason.contains(&format!("add a hostInterfaces entry wasi:keyvalue/{interface}")), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_import_is_found_in_a_component_that_nobody_calls() {
    let untriggered = format!("[[workloads.components]]\nname = \"idle\"\nimage = {:?}", fixture("missing"));
    let reason = why("", Workload::new("broken", "http2").key(&untriggered)).await;
    assert!(reason.contains("component 'idle' imports 'test:absent/thing@1.0.0'"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_component_is_refused_by_name() {
    for file in ["raw/core-module.wasm", "raw/text.txt", "raw/truncated.wasm"] {
        let reason = why("", Workload::new("broken", file)).await;
        assert!(reason.contains("component 'broken'"), "{file}: {reason}");
        let says_what = reason.contains("compile") || reason.contains("not a component") || reason.contains("pull");
        assert!(says_what && reason.len() < 400, "{file}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_makes_up_for_a_missing_host_and_a_bad_one_is_warned_about() {
    let workload = Workload::new("named", "http2").binding("host", "").binding("host-aliases", "bad_name, good.test");
    let mut host = Standalone::start("", &[workload]).await;
    host.process.allow_log("bad_name");
    host.process.allow_log("host-aliases");
    host.process.wait_for_log(|line: &LogLine| line.level() == "WARN" && line.contains("bad_name")).await;
    assert_eq!(host.get("good.test", "/").await.status, 200);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_does_not_keep_the_host_from_starting() {
    let registry = FakeServer::hanging().await;
    let hanging = Workload::of_image("broken", &format!("{}/hang:1", registry.addr()));
    let reason = why("registry.allow_insecure = true\nreload.prepare_timeout = \"6s\"", hanging).await;
    assert!(reason.contains("not pulled and compiled within"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_is_tried_again() {
    let path = fixture("http2");
    let wasm = std::fs::read(path.strip_prefix("file:").unwrap()).unwrap();
    let registry = FakeServer::flaky_registry(wasm.into(), 4).await;
    let image = format!("{}/late:1", registry.addr());
    let settings = "registry.allow_insecure = true\nregistry.pull_retries = 0";
    let workloads = [Workload::of_image("late", &image), Workload::new("fine", "http2")];
    let mut host = Standalone::start(settings, &workloads).await;
    host.process.allow_log("workload failed to start");
    let line = host.process.wait_for_message("workload failed to start").await;
    assert!(line.field("error").unwrap().contains("503"), "{line}");
    assert_eq!(host.get("fine.test", "/").await.status, 200);
    eventually("the workload starts once the registry answers", PATIENCE, async || {
        (host.get("late.test", "/").await.status == 200).then_some(())
    })
    .await;
    // From now on it is a workload as any other.
    let config = config(settings, &workloads[1..]).replace("127.0.0.1:0", &host.addr.to_string());
    host.process.rewrite_config(&config);
    eventually("it is gone with its entry", PATIENCE, async || {
        (host.get("late.test", "/").await.status == 404).then_some(())
    })
    .await;
    host.finish().await;
}
