//! Which path says what.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::admin::{AdminPort, Check, Verdict};

pub(super) type Answer = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Version 0.0.4 of the text exposition format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers one request; `peer` is who asks.
pub(super) async fn answer(port: &Arc<dyn AdminPort>, method: &Method, path: &str, peer: SocketAddr) -> Answer {
    let is_post = match path {
        "/livez" | "/readyz" | "/metrics" | "/status" => false,
        "/reload" | "/check" => true,
        _ => {
            let known = "GET /livez /readyz /metrics /status; POST /reload /check\n";
            return plain(StatusCode::NOT_FOUND, known);
        }
    };
    let is_read = *method == Method::GET || *method == Method::HEAD;
    if is_post != (*method == Method::POST) || (!is_post && !is_read) {
        let allowed = if is_post { "POST" } else { "GET, HEAD" };
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return answer;
    }
    if is_post && !peer.ip().to_canonical().is_loopback() {
        return plain(StatusCode::FORBIDDEN, "answered to loopback peers only: use a port-forward, or SIGHUP\n");
    }
    match path {
        "/livez" => probe(&port.liveness()),
        "/readyz" => probe(&port.readiness()),
        "/metrics" => full(StatusCode::OK, METRICS, port.metrics()),
        "/status" => json(StatusCode::OK, &port.status()),
        "/reload" => of_attempt(&port.reload().await),
        _check => of_attempt(&port.check().await),
    }
}

/// 503 with the failing checks first, so that what a kubelet logs of it says why.
fn probe(checks: &[Check]) -> Answer {
    let is_failed = |check: &&Check| check.verdict == Verdict::Fail;
    let is_well = !checks.iter().any(|check| is_failed(&check));
    let failed = checks.iter().filter(is_failed);
    let others = checks.iter().filter(|check| !is_failed(check));
    let lines: String = failed.chain(others).map(|check| format!("{check}\n")).collect();
    full(if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, TEXT, lines)
}

/// 409 if the file was refused: scripts see it without reading the answer.
fn of_attempt(attempt: &Value) -> Answer {
    let is_rejected = attempt.get("outcome").and_then(Value::as_str) == Some("rejected");
    json(if is_rejected { StatusCode::CONFLICT } else { StatusCode::OK }, attempt)
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    full(status, TEXT, text)
}

fn json(status: StatusCode, value: &Value) -> Answer {
    full(status, JSON, format!("{value:#}\n"))
}

fn full(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
