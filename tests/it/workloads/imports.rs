//! What a component gets of its environment: `wasi:config`, `wasi:logging`, `wasi:cli`.

use crate::support::{LogLine, Standalone, Workload};

const SETTINGS: &str = "plugins.wasi-config = {}\nplugins.wasi-logging = {}\nlog.level = \"info,guest=trace\"";

fn conf_log(name: &str) -> Workload {
    Workload::new(name, "conf-log").interface("wasi:config/store@0.2.0-rc.1").interface("wasi:logging/logging")
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_is_read_by_the_component_it_was_given_to() {
    let one = conf_log("one").key(r#"config = { colour = "red", size = "", shared = "config" }"#);
    let one = one.key(r#"environment = { PLACE = "here", shared = "environment" }"#);
    let host = Standalone::start(SETTINGS, &[one, conf_log("two")]).await;
    assert_eq!(host.get("one.test", "/get/colour").await.text(), "red");
    let empty = host.get("one.test", "/get/size").await;
    assert_eq!((empty.status.as_u16(), empty.text()), (200, ""));
    assert_eq!(host.get("one.test", "/get/missing").await.status, 404);
    assert_eq!(host.get("one.test", "/get/PLACE").await.text(), "here");
    assert_eq!(host.get("one.test", "/get/shared").await.text(), "environment");
    let all = "PLACE=here\ncolour=red\nshared=environment\nsize=\n";
    assert_eq!(host.get("one.test", "/get-all").await.text(), all);
    assert_eq!(host.get("one.test", "/env").await.text(), "PLACE=here\nshared=environment\n");
    assert_eq!(host.get("two.test", "/get-all").await.text(), "");
    assert_eq!(host.get("two.test", "/get/colour").await.status, 404);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_carry_level_context_and_workload() {
    let mut host = Standalone::start(SETTINGS, &[conf_log("one")]).await;
    host.process.allow_log("conf-log");
    let levels = [("trace", "TRACE"), ("debug", "DEBUG"), ("info", "INFO"), ("warn", "WARN"), ("error", "ERROR")];
    for (level, logged) in levels.into_iter().chain([("critical", "ERROR")]) {
        let message = format!("said at {level}");
        let path = format!("/log/{level}/said%20at%20{level}");
        assert_eq!(host.get("one.test", &path).await.text(), "logged\n");
        let line = host.process.wait_for_log(|line: &LogLine| line.contains(&message)).await;
        let field = |name| line.field(name).unwrap_or_default();
        assert_eq!(line.level(), logged, "{line}");
        assert_eq!((field("context"), field("component")), ("conf-log".to_owned(), "one".to_owned()), "{line}");
        assert_eq!((field("workload.name"), field("workload.namespace")), ("one".to_owned(), "default".to_owned()));
        assert_eq!(field("workload.id"), "static/default/one");
        assert_eq!(line.field("critical").as_deref() == Some("true"), level == "critical", "{line}");
    }
    host.finish().await;
}
