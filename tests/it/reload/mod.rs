//! The file is edited while the host runs: what is valid is live, what is not changes nothing.

mod edit;
mod faults;
mod file;
mod guards;
mod in_flight;
mod plugins;
mod settings;
mod under_load;
mod wander;

use std::net::SocketAddr;

use crate::reload::edit::{Style, edit};
use crate::reload::file::rejection;
use crate::support::{LogLine, TestProcess, http};

/// A component that answers the text of its variable GREETING.
pub(crate) const HELLO: &[u8] = include_bytes!("../../../examples/quickstart/hello.wasm");
/// Answers as its path says.
pub(crate) const HTTP2: &[u8] = include_bytes!("../../fixtures/http2/http2.wasm");
const KV2: &[u8] = include_bytes!("../../fixtures/kv2/kv2.wasm");
const CONF_LOG: &[u8] = include_bytes!("../../fixtures/conf-log/conf-log.wasm");
/// Imports an interface that no host serves.
const MISSING: &[u8] = include_bytes!("../../fixtures/missing/missing.wasm");

const APPLIED: &str = "configuration applied";
const REJECTED: &str = "configuration rejected";

pub(crate) fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A host with every component in its directory, once its first configuration is live.
async fn start(text: &str) -> TestProcess {
    let builder = TestProcess::builder(text)
        .file("hello.wasm", HELLO)
        .file("http2.wasm", HTTP2)
        .file("kv2.wasm", KV2)
        .file("conf-log.wasm", CONF_LOG)
        .file("missing.wasm", MISSING);
    let mut process = builder.start();
    process.wait_for_message(APPLIED).await;
    process.mark();
    process
}

/// Edits, and waits until that is live.
async fn apply(process: &mut TestProcess, text: &str) -> LogLine {
    apply_as(process, Style::RenameOver, text).await
}

async fn apply_as(process: &mut TestProcess, style: Style, text: &str) -> LogLine {
    edit(process, style, text);
    let outcome = outcome(process).await;
    assert_eq!(outcome.message(), APPLIED, "a valid edit is applied: {outcome}");
    outcome
}

/// Edits, and waits until that is refused; returns reason and error.
async fn refuse(process: &mut TestProcess, text: &str) -> (String, String) {
    refuse_as(process, Style::RenameOver, text).await
}

async fn refuse_as(process: &mut TestProcess, style: Style, text: &str) -> (String, String) {
    process.allow_log(REJECTED);
    edit(process, style, text);
    let outcome = outcome(process).await;
    assert_eq!((outcome.message(), outcome.level()), (REJECTED, "ERROR"), "the edit is refused: {outcome}");
    rejection(&outcome)
}

/// The line about the next attempt since the mark that was not overtaken by a newer one.
async fn outcome(process: &TestProcess) -> LogLine {
    const OUTCOMES: [&str; 3] = [APPLIED, REJECTED, "configuration unchanged"];
    process.wait_for_log(|line| OUTCOMES.contains(&line.message()) && !is_vain_retry(line)).await
}

/// What cannot be prepared is tried again by itself, and refused again; an edit may come in between.
fn is_vain_retry(line: &LogLine) -> bool {
    line.message() == REJECTED && line.field("trigger").as_deref() == Some("retry")
}

/// The lines of attempts since the mark, vain retries aside.
fn attempts(process: &TestProcess) -> Vec<LogLine> {
    let is_attempt = |line: &LogLine| {
        let message = line.message();
        message.starts_with("configuration ") && !message.ends_with("another error") && !is_vain_retry(line)
    };
    process.log_lines().into_iter().filter(is_attempt).collect()
}

/// What the workload routed by `host` answers on `path`.
async fn text_of(port: u16, host: &str, path: &str) -> String {
    let answer = http::get(addr(port), host, path).await;
    assert_eq!(answer.status, 200, "{host}{path}: {}", answer.text());
    answer.text().trim_end().to_owned()
}
