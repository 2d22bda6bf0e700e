//! How many instances there may be at once, and what happens to the requests beyond.

use std::time::{Duration, Instant};

use hyper::StatusCode;

use crate::support::{Standalone, Workload};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_an_instance_to_be_free() {
    let host = Standalone::start("engine.max_instances = 2", &[Workload::new("http2", "http2")]).await;
    let began = Instant::now();
    let slow = (0..3).map(|_| host.get("http2.test", "/sleep/500"));
    for answer in futures::future::join_all(slow).await {
        assert_eq!(answer.text(), "slept 500 ms\n");
    }
    assert!(began.elapsed() >= Duration::from_millis(1000), "the third took turns: {:?}", began.elapsed());
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_waited_too_long_are_refused_and_told_when_to_come_back() {
    let workloads = [Workload::new("http2", "http2"), Workload::new("http3", "http3")];
    let host = Standalone::start("engine.max_instances = 2", &workloads).await;
    let slow = (0..2).map(|_| host.get("http2.test", "/sleep/7000"));
    let further = async {
        // Any moment while the two sleep will do; the two were sent first.
        let answers = futures::future::join_all(
            (0..20).map(|n| host.get(if n % 2 == 0 { "http2.test" } else { "http3.test" }, "/")),
        );
        answers.await
    };
    let (slow, further) = futures::join!(futures::future::join_all(slow), further);
    assert!(slow.iter().all(|answer| answer.status == 200));
    let refused: Vec<_> = further.iter().filter(|answer| answer.status != 200).collect();
    for answer in &refused {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(answer.headers["x-washlet-reason"], "busy");
    }
    assert!(!refused.is_empty(), "two sleeping guests hold both instances");
    assert_eq!(host.get("http3.test", "/").await.status, 200);
    host.finish().await;
}
