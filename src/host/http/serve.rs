//! One request: who answers it, within which limits, and what the client hears if nobody does.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::timeout_at;
use tracing::{debug, error};

use crate::error::Chain;
use crate::host::http::access::AccessRecord;
use crate::host::http::authority::normal_host;
use crate::host::http::body::{Call, Overrun, ResponseBody, request_body};
use crate::host::http::connection::Connection;
use crate::host::http::refusal::Refusal;
use crate::host::http::shared::Phase;
use crate::task::panic_text;
use crate::workload::http::{Body, CallError, HttpTarget};

const WORKLOAD_ID: HeaderName = HeaderName::from_static("x-workload-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// What of a request its response depends on, once the request itself is gone.
struct Asked {
    version: Version,
    is_head: bool,
    is_grpc: bool,
    record: Option<Box<AccessRecord>>,
}

/// Answers one request. Runs on the connection's task (HTTP/1) or the stream's (HTTP/2); dropping it cancels the call.
pub(super) async fn handle(
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let call = Call::new(connection);
    let connection = call.connection();
    connection.shared.meter.request();
    let mut asked = Asked {
        version: request.version(),
        is_head: request.method() == Method::HEAD,
        is_grpc: is_grpc(request.headers()),
        record: None,
    };
    let found = address(connection, &mut request).and_then(|()| {
        asked.record = AccessRecord::new(request.method(), request.uri());
        route(connection, &request)
    });
    let target = match found {
        Ok(target) => target,
        Err(refusal) => return Ok(refuse(refusal, asked, call, !request.body().is_end_stream())),
    };
    if let Some(record) = &mut asked.record {
        record.goes_to(target.workload());
    }
    let (request, overrun) = match hand_over(connection, request) {
        Ok(handed) => handed,
        Err(refusal) => return Ok(refuse(refusal, asked, call, true)),
    };
    match answer(connection, target, request, &overrun).await {
        Ok(response) => Ok(finish(response, asked, call)),
        Err(refusal) => Ok(refuse(refusal, asked, call, false)),
    }
}

/// Makes the request's URI absolute and gives it a `host`, if it names one at all.
fn address(connection: &Connection, request: &mut Request<Incoming>) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let authority = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).map_err(|_reason| Refusal::BadHost)?,
        (None, _) => {
            let authority = request.uri().authority().cloned().ok_or(Refusal::BadHost)?;
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_reason| Refusal::BadHost)?;
            request.headers_mut().insert(header::HOST, host);
            authority
        }
        (Some(_), Some(_)) => return Err(Refusal::BadHost),
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(connection.settings.scheme.clone());
    parts.authority = Some(authority);
    parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_reason| Refusal::BadHost)?;
    Ok(())
}

fn route(connection: &Connection, request: &Request<Incoming>) -> Result<Arc<dyn HttpTarget>, Refusal> {
    let authority = request.uri().authority().ok_or(Refusal::BadHost)?;
    let host = normal_host(authority.as_str()).ok_or(Refusal::BadHost)?;
    let wanted = request.headers().get(WORKLOAD_ID).map(HeaderValue::as_bytes);
    connection
        .shared
        .router
        .find(&host, request.uri().path(), wanted)
        .ok_or_else(|| if connection.shared.phase() == Phase::Serving { Refusal::NoRoute } else { Refusal::Draining })
}

/// The request as the guest gets it.
fn hand_over(connection: &Arc<Connection>, request: Request<Incoming>) -> Result<(Request<Body>, Overrun), Refusal> {
    let bytes_max = connection.settings.http.max_request_body.map(|size| size.get());
    let (mut parts, incoming) = request.into_parts();
    if bytes_max.is_some_and(|max| incoming.size_hint().lower() > max) {
        return Err(Refusal::BodyTooLarge);
    }
    remove_hop_by_hop(&mut parts.headers);
    let expects_continue = parts.headers.contains_key(header::EXPECT);
    let (body, overrun) = request_body(incoming, bytes_max, expects_continue, connection);
    Ok((Request::from_parts(parts, body), overrun))
}

async fn answer(
    connection: &Connection,
    target: Arc<dyn HttpTarget>,
    request: Request<Body>,
    overrun: &Overrun,
) -> Result<Response<Body>, Refusal> {
    // A panic costs its call, not the connection with all that is pipelined or multiplexed on it.
    let call = AssertUnwindSafe(async { target.call(request).await }).catch_unwind();
    let outcome = match connection.settings.http.request_timeout {
        None => call.await,
        Some(limit) => within(limit, connection, call).await,
    };
    let outcome = outcome.map_err(|panic| {
        error!(panic = panic_text(&*panic), "call panicked");
        Refusal::HostFailed
    })?;
    // Whatever the guest made of the broken body, the client should learn what broke it.
    if overrun.happened() {
        return Err(Refusal::BodyTooLarge);
    }
    match outcome {
        Ok(response) if response.status().is_informational() => Err(Refusal::BadStatus),
        Ok(response) => Ok(response),
        Err(error) => {
            debug!(error = %Chain(&error), "no response from the workload");
            Err(Refusal::from(&error))
        }
    }
}

async fn within<P>(
    limit: Duration,
    connection: &Connection,
    call: impl Future<Output = Result<Result<Response<Body>, CallError>, P>>,
) -> Result<Result<Response<Body>, CallError>, P> {
    let deadline = connection.activity.request_began() + limit;
    match timeout_at(deadline, call).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Ok(Err(CallError::Deadline(limit))),
    }
}

/// A guest's response as it is sent.
fn finish(response: Response<Body>, mut asked: Asked, call: Call) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    let has_no_body = asked.is_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if asked.is_head
        && !parts.headers.contains_key(header::CONTENT_LENGTH)
        && let Some(length) = body.size_hint().exact()
    {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    say_goodbye(&mut parts.headers, &asked, &call);
    count(parts.status, &mut asked, &call);
    let body = if has_no_body {
        ResponseBody::text("", call, asked.record)
    } else {
        ResponseBody::guest(body, call, asked.record)
    };
    Response::from_parts(parts, body)
}

/// The host's own response.
fn refuse(refusal: Refusal, mut asked: Asked, call: Call, has_unread: bool) -> Response<ResponseBody> {
    if has_unread {
        call.connection().activity.left_unread();
    }
    let (response, text) = refusal.response(asked.is_grpc);
    let (mut parts, ()) = response.into_parts();
    say_goodbye(&mut parts.headers, &asked, &call);
    count(parts.status, &mut asked, &call);
    if asked.is_head {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    }
    let text = if asked.is_head { "" } else { text };
    Response::from_parts(parts, ResponseBody::text(text, call, asked.record))
}

/// While the server drains, HTTP/1 clients are told to leave with each response; HTTP/2 ones once, by GOAWAY.
fn say_goodbye(headers: &mut HeaderMap, asked: &Asked, call: &Call) {
    if asked.version < Version::HTTP_2 && call.connection().shared.phase() != Phase::Serving {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn count(status: StatusCode, asked: &mut Asked, call: &Call) {
    call.connection().shared.meter.response(status);
    if let Some(record) = &mut asked.record {
        record.answers(status);
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Headers about the connection are between the client and us (RFC 9110, section 7.6.1). `te: trailers` stays: it
/// says what the client can read.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages carry none: one pass over the names is cheaper than a lookup per forbidden name.
    let forbidden: Vec<HeaderName> =
        headers.iter().filter(|(name, value)| is_hop_by_hop(name, value)).map(|(name, _)| name.clone()).collect();
    for name in forbidden {
        let takes_trailers = name == header::TE && headers.get_all(header::TE).iter().any(names_trailers);
        headers.remove(&name);
        if takes_trailers {
            headers.insert(name, HeaderValue::from_static("trailers"));
        }
    }
}

fn names_trailers(te: &HeaderValue) -> bool {
    te.as_bytes().split(|b| *b == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn is_hop_by_hop(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => true,
        header::TE => !value.as_bytes().eq_ignore_ascii_case(b"trailers"),
        _ => *name == KEEP_ALIVE || name.as_str().starts_with("proxy-"),
    }
}
