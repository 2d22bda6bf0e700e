//! One request and its answer, and why there may be none.

use std::time::Duration;

use async_nats::Request;
use async_nats::client::{RequestError, RequestErrorKind};
use bytes::Bytes;

use crate::nats::NatsClient;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens there.
    #[error("nobody listens on {subject}")]
    NoResponders {
        /// Where it was sent.
        subject: String,
    },
    /// Whoever listens has not answered.
    #[error("no answer on {subject} within {}", humantime::format_duration(*.after))]
    Timeout {
        /// Where it was sent.
        subject: String,
        /// How long was waited.
        after: Duration,
    },
    /// It could not be sent.
    #[error("cannot send a request to {subject}")]
    Send {
        /// Where it was to go.
        subject: String,
        /// Why not.
        source: RequestError,
    },
}

impl NatsClient {
    /// The answer to `payload`, within `patience`.
    pub(crate) async fn ask(&self, subject: String, payload: Bytes, patience: Duration) -> Result<Bytes, AskError> {
        let request = Request::new().payload(payload).timeout(Some(patience));
        match self.client.send_request(subject.clone(), request).await {
            Ok(message) => Ok(message.payload),
            Err(source) => Err(match source.kind() {
                RequestErrorKind::NoResponders => AskError::NoResponders { subject },
                RequestErrorKind::TimedOut => AskError::Timeout { subject, after: patience },
                _ => AskError::Send { subject, source },
            }),
        }
    }
}
