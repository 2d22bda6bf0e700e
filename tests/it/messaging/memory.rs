//! Messages in memory: components of one workload reach each other, and nobody else.

use super::messages;
use crate::support::http::full;
use crate::support::{Standalone, Workload};

const IN_MEMORY: &str = "plugins.wasmcloud-messaging = {}";

impl Standalone {
    async fn tell(&self, host: &str, path: &str, body: &str) -> String {
        self.send("POST", host, path, full(body.to_owned())).await.text().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_talks_to_itself_and_to_nobody_else() {
    let all = Workload::new("all", "msg2").interface("wasmcloud:messaging/consumer,handler@0.2.0");
    let host = Standalone::start(IN_MEMORY, &[all, messages("one", "only.this, and.*", "")]).await;
    // Without subscriptions it gets every message of its own.
    assert_eq!(host.tell("all.test", "/request/a.b/5000", "hello").await, "hello");
    assert_eq!(host.tell("one.test", "/request/only.this/5000", "hello").await, "hello");
    assert_eq!(host.tell("one.test", "/request/and.that/5000", "hello").await, "hello");
    let none = "error: failed to send request: no responders";
    assert_eq!(host.tell("one.test", "/request/a.b/5000", "hello").await, none);
    // From the handler of one message to that of the next, and back.
    assert_eq!(host.tell("all.test", "/request/a.b/5000", "request c.d 5000\nchained").await, "chained");
    assert_eq!(host.tell("all.test", "/publish/a.b", "print from all").await, "ok");
    let line = host.process.wait_for_log(|line| line.contains("a.b print from all")).await;
    assert!(line.contains("all"), "{line}");
    assert_eq!(host.tell("all.test", "/request/a.b/50", "sleep 5000").await, "error: request timed out after 50ms");
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sends_to_no_reserved_subject_and_to_no_wildcard() {
    let host = Standalone::start(IN_MEMORY, &[messages("m", "a.b", "")]).await;
    for subject in ["runtime.host.x.workload.stop", "_INBOX.x", "$SYS.REQ", "$JS.API.INFO"] {
        let denied = format!("error: access denied: subject {subject:?} is reserved by the host");
        assert_eq!(host.tell("m.test", &format!("/publish/{subject}"), "").await, denied);
        assert_eq!(host.tell("m.test", &format!("/request/{subject}/100"), "").await, denied);
        assert_eq!(host.tell("m.test", &format!("/ask/a.b/{subject}"), "").await, denied);
    }
    for subject in ["a%20b", "a.*", "%3E", "a..b"] {
        let refused = host.tell("m.test", &format!("/publish/{subject}"), "").await;
        assert!(refused.starts_with("error: invalid subject"), "{refused}");
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_place_is_shed_and_a_failing_guest_harms_no_message_but_its_own() {
    let narrow = messages("narrow", "a.b", ", max_in_flight = \"1\", admission_wait = \"0\"");
    let mut host = Standalone::start(IN_MEMORY, &[narrow, messages("bad", "a.b", "")]).await;
    host.process.allow_log("message shed: no place for it in time");
    host.process.allow_log("guest failed to handle a message");
    assert_eq!(host.tell("narrow.test", "/publish/a.b", "print begins\nsleep 3000").await, "ok");
    host.process.wait_for_log(|line| line.contains("a.b print begins")).await;
    assert_eq!(host.tell("narrow.test", "/publish/a.b", "print never").await, "ok");
    let shed = host.process.wait_for_message("message shed: no place for it in time").await;
    assert_eq!(shed.field("subject").as_deref(), Some("a.b"));
    assert_eq!(host.tell("bad.test", "/publish/a.b", "trap").await, "ok");
    host.process.wait_for_message("guest failed to handle a message").await;
    assert_eq!(host.tell("bad.test", "/request/a.b/5000", "fine").await, "fine");
    assert!(!host.process.log_lines().iter().any(|line| line.contains("print never")));
    host.finish().await;
}
