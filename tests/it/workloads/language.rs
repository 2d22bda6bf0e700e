//! A component that another toolchain made: JavaScript, with its engine inside.

use std::time::Duration;

use crate::support::http::full;
use crate::support::{Standalone, Workload, eventually, quiet, server};

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_component_answers() {
    let _quiet = quiet().await;
    let image = format!("file:{}", server("WASHLET_TEST_JS_COMPONENT"));
    let workloads = [Workload::of_image("js", &image), Workload::new("http2", "http2")];
    // Compiling 12 MB may take longer than a reload may: then the host serves the others and tries on.
    let mut host = Standalone::start("", &workloads).await;
    host.process.allow_log("workload failed to start");
    assert_eq!(host.get("http2.test", "/").await.status, 200);
    eventually("it is compiled", Duration::from_secs(180), async || {
        (host.get("js.test", "/").await.status == 200).then_some(())
    })
    .await;
    for path in ["/", "/a/b?c"] {
        let answer = host.send("POST", "js.test", path, full("")).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["x-js"]), (200, &"1".parse().unwrap()));
        assert_eq!(answer.text(), format!("Hello from JavaScript\nPOST {path}\n"));
    }
    host.finish().await;
}
