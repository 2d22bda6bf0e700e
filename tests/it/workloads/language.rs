//! A component that another toolchain made: JavaScript, with its engine inside.

use std::time::Duration;

use crate::support::http::full;
use crate::support::standalone::config;
use crate::support::{LogLine, Standalone, TestProcess, Workload, eventually, server};

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_component_answers() {
    let image = format!("file:{}", server("WASHLET_TEST_JS_COMPONENT"));
    // Compiling 12 MB takes longer than a reload may take: the start is then tried again, and finds it compiled.
    let settings = "reload.prepare_timeout = \"60s\"";
    let mut process = TestProcess::start(&config(settings, &[Workload::of_image("js", &image)]));
    process.allow_log("workload failed to start");
    let is_listening = |line: &LogLine| line.message() == "listening for HTTP";
    eventually("it compiles", Duration::from_secs(120), async || {
        process.log_lines().iter().any(is_listening).then_some(())
    })
    .await;
    let line = process.wait_for_log(is_listening).await;
    let addr = line.field("http.listen").unwrap().parse().unwrap();
    let host = Standalone { process, addr };
    for path in ["/", "/a/b?c"] {
        let answer = host.send("POST", "js.test", path, full("")).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["x-js"]), (200, &"1".parse().unwrap()));
        assert_eq!(answer.text(), format!("Hello from JavaScript\nPOST {path}\n"));
    }
    host.finish().await;
}
