//! Responses that the host makes itself, because no guest did.

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::workload::http::CallError;

const REASON: HeaderName = HeaderName::from_static("x-washlet-reason");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Why a request is answered by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No authority, more than one, or one that cannot be read.
    BadHost,
    /// `CONNECT`: nothing is tunnelled.
    Connect,
    /// Nothing serves this host and path.
    NoRoute,
    /// The host is being stopped and nothing is left on the route.
    Draining,
    /// The body is longer than `max_request_body`.
    BodyTooLarge,
    /// No instance became free.
    Busy,
    /// The workload is between two lives.
    Unavailable,
    /// No head of a response in time.
    Deadline,
    /// The guest broke before a response.
    GuestFailed,
    /// A bug of ours.
    HostFailed,
    /// The guest answered with a status that ends no request.
    BadStatus,
}

impl Refusal {
    /// Status, short code, one line of text, and the status for gRPC.
    fn parts(self) -> (StatusCode, &'static str, &'static str, u8) {
        match self {
            Self::BadHost => (StatusCode::BAD_REQUEST, "bad-host", "no usable host in the request\n", 3),
            Self::Connect => (StatusCode::BAD_REQUEST, "connect", "tunnels are not supported\n", 3),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "nothing serves this host and path\n", 12),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining", "the host is being stopped\n", 14),
            // gRPC: RESOURCE_EXHAUSTED.
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "the body is too large\n", 8),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "no instance is free\n", 14),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "not-ready", "the workload is not ready\n", 14),
            Self::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline", "the workload took too long\n", 4),
            Self::GuestFailed => (StatusCode::BAD_GATEWAY, "guest-failed", "the workload failed\n", 13),
            Self::HostFailed => (StatusCode::INTERNAL_SERVER_ERROR, "host-failed", "the host failed\n", 13),
            Self::BadStatus => (StatusCode::BAD_GATEWAY, "bad-status", "the workload's status is not valid\n", 13),
        }
    }

    /// The response, with the whole body beside it. `is_grpc`: the client reads the outcome from gRPC's own headers.
    pub(super) fn response(self, is_grpc: bool) -> (Response<()>, &'static str) {
        let (status, reason, text, grpc_status) = self.parts();
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(REASON, HeaderValue::from_static(reason));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if is_grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(grpc_status)));
            headers.insert(GRPC_MESSAGE, HeaderValue::from_static(text.trim_ascii_end()));
            return (response, "");
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        *response.status_mut() = status;
        (response, text)
    }
}

impl From<&CallError> for Refusal {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::Guest(_) => Self::GuestFailed,
            CallError::Deadline(_) => Self::Deadline,
            CallError::Busy => Self::Busy,
            CallError::Unavailable => Self::Unavailable,
        }
    }
}

/// What a client hears that did not send a whole head within `header_read_timeout`; HTTP/1 only, the connection is
/// closed after it.
pub(super) const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\
      x-washlet-reason: header-timeout\r\n\r\n";
