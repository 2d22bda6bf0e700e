//! Bodies on their way: a request's is limited and its end noticed, a response's is counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::host::http::access::AccessRecord;
use crate::host::http::activity::Protocol;
use crate::host::http::connection::Connection;
use crate::task;
use crate::workload::http::{Body, BodyError};

/// What is read and thrown away of a body that nobody wants, so that the connection can take a next request.
const UNREAD_BYTES_MAX: u64 = 64 << 10;

/// How long that may take.
const UNREAD_WAIT: Duration = Duration::from_secs(1);

/// Whether a body turned out to be longer than allowed.
#[derive(Debug, Clone, Default)]
pub(super) struct Overrun(Option<Arc<AtomicBool>>);

impl Overrun {
    pub(super) fn happened(&self) -> bool {
        self.0.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

/// The body of a request as a guest reads it.
struct RequestBody {
    /// `None` once it has failed or ended.
    incoming: Option<Incoming>,
    bytes_left: u64,
    bytes_max: u64,
    overrun: Overrun,
    /// The client waits for a sign before it sends: then nothing is read that nobody wants.
    expects_continue: bool,
    connection: Arc<Connection>,
}

/// Hands out `incoming`, up to `bytes_max`.
pub(super) fn request_body(
    incoming: Incoming,
    bytes_max: Option<u64>,
    expects_continue: bool,
    connection: &Arc<Connection>,
) -> (Body, Overrun) {
    if incoming.is_end_stream() {
        return (http_body_util::Empty::new().map_err(BodyError::from).boxed_unsync(), Overrun::default());
    }
    connection.activity.upload_begins();
    let overrun = Overrun(bytes_max.map(|_| Arc::default()));
    let bytes_max = bytes_max.unwrap_or(u64::MAX);
    let body = RequestBody {
        incoming: Some(incoming),
        bytes_left: bytes_max,
        bytes_max,
        overrun: overrun.clone(),
        expects_continue,
        connection: Arc::clone(connection),
    };
    (body.boxed_unsync(), overrun)
}

impl RequestBody {
    fn end(&mut self) {
        if self.incoming.take().is_some() {
            self.connection.activity.upload_ends(true);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.incoming.take().is_some() {
            self.connection.activity.upload_ends(false);
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let frame = match ready!(Pin::new(incoming).poll_frame(cx)) {
            None => {
                this.end();
                return Poll::Ready(None);
            }
            Some(Err(error)) => return this.fail(BodyError::Hyper(error)),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            match this.bytes_left.checked_sub(data.len() as u64) {
                Some(left) => this.bytes_left = left,
                None => {
                    if let Some(flag) = &this.overrun.0 {
                        flag.store(true, Ordering::Relaxed);
                    }
                    return this.fail(BodyError::HttpRequestBodySize(Some(this.bytes_max)));
                }
            }
        }
        if this.incoming.as_ref().is_some_and(Incoming::is_end_stream) {
            this.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        let connection = Arc::clone(&self.connection);
        let is_worth_draining = connection.activity.protocol() == Protocol::Http1
            && !self.expects_continue
            && incoming.size_hint().lower() <= UNREAD_BYTES_MAX;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if is_worth_draining => {
                drop(task::spawn_on(&runtime, "http unread body", async move {
                    let is_complete = timeout(UNREAD_WAIT, throw_away(incoming)).await.unwrap_or(false);
                    connection.activity.upload_ends(is_complete);
                }));
            }
            Ok(_) | Err(_) => connection.activity.upload_ends(false),
        }
    }
}

/// Whether the end was reached within the limit.
async fn throw_away(mut incoming: Incoming) -> bool {
    let mut bytes = 0;
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > UNREAD_BYTES_MAX {
            return false;
        }
    }
    true
}

/// The body of a response as hyper sends it; while it lives, its call is in flight.
#[derive(Debug)]
pub(super) struct ResponseBody {
    content: Content,
    record: Option<Box<AccessRecord>>,
    _call: Call,
}

#[derive(Debug)]
enum Content {
    Guest(Body),
    /// Of the host; `None` once it is handed out.
    Text(Option<&'static str>),
}

impl ResponseBody {
    pub(super) fn guest(body: Body, call: Call, record: Option<Box<AccessRecord>>) -> Self {
        Self { content: Content::Guest(body), record, _call: call }
    }

    /// One line of the host's, or nothing.
    pub(super) fn text(text: &'static str, call: Call, record: Option<Box<AccessRecord>>) -> Self {
        Self { content: Content::Text((!text.is_empty()).then_some(text)), record, _call: call }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = match &mut self.content {
            Content::Guest(body) => ready!(Pin::new(body).poll_frame(cx)),
            Content::Text(text) => text.take().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))),
        };
        if let Some(record) = &mut self.record {
            record.sends(frame.as_ref());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Guest(body) => body.is_end_stream(),
            Content::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Guest(body) => body.size_hint(),
            Content::Text(text) => SizeHint::with_exact(text.map_or(0, |text| text.len() as u64)),
        }
    }
}

/// One request in flight on its connection.
#[derive(Debug)]
pub(super) struct Call(Arc<Connection>);

impl Call {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        connection.activity.call_begins();
        Self(connection)
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.activity.call_ends();
    }
}
