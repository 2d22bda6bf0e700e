//! One call of a guest's HTTP handler: the guest is polled by whoever waits for the response, without a task of its own.
//!
//! ```text
//!  begin --> head() polls the guest until the response's head is there
//!              |                       \
//!              v                        +--> the guest ended, trapped or was cut: an error
//!            GuestBody: each poll for a frame polls the guest first
//!              |  the body ended, or the client went away, and the guest still works
//!              v
//!            a task polls the rest, for a bounded time
//! ```
//!
//! So the head and the first frame reach the connection together, and a dropped request drops its guest.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::{debug, warn};
use wasmtime_wasi_http::handler::ProxyPre;

use crate::engine::ItemCtx;
use crate::task;
use crate::workload::http::{Body, BodyError, CallError};
use crate::workload::http_p2;
use crate::workload::http_p3;
use crate::workload::route::{InFlight, Route};

/// How long the guest of a client that went away may go on.
const ABANDONED_TIME_MAX: Duration = Duration::from_secs(10);

/// What the guest's side sends: a head with its body, or why there is none.
pub(crate) type Head = Result<::http::Response<Body>, anyhow::Error>;

/// The guest's whole work on one request, with the store in it.
type GuestWork = BoxFuture<'static, anyhow::Result<()>>;

/// A call that has begun.
pub(crate) struct GuestResponse {
    work: GuestWork,
    head: oneshot::Receiver<Head>,
    after: After,
}

/// What is kept for the time after the head.
struct After(Arc<Route>);

impl After {
    /// A guest's failure is for whoever runs the workload to see: logged as its output is, at most so many lines a
    /// second. Being cut is no failure of its own.
    fn report(&self, error: &anyhow::Error, what: &'static str) {
        let ItemCtx { workload_id, workload_name, workload_namespace, component, guest_log, .. } = &*self.0.item;
        if self.0.cut().is_triggered() || !guest_log.admit() {
            return;
        }
        warn!(
            workload.id = %workload_id, workload.name = %workload_name, workload.namespace = %workload_namespace,
            component = %component, error = format!("{error:#}"), "{what}"
        );
    }
}

impl GuestResponse {
    /// Makes the future that instantiates the component and calls its handler; nothing runs yet.
    pub(crate) fn begin(
        route: &Arc<Route>,
        request: ::http::Request<Body>,
        permit: OwnedSemaphorePermit,
        in_flight: InFlight,
    ) -> Result<Self, CallError> {
        if route.linked.http.is_none() {
            return Err(CallError::Unavailable);
        }
        let (head_tx, head) = oneshot::channel();
        let after = After(Arc::clone(route));
        let route = Arc::clone(route);
        let work = async move {
            // In this order: the store goes first, then its place among the instances, then the count.
            let _in_flight = in_flight;
            let _permit = permit;
            tokio::select! {
                biased;
                () = route.cut().wait() => Err(anyhow::anyhow!("the workload was stopped")),
                done = run(&route, request, head_tx) => done,
            }
        };
        Ok(Self { work: work.boxed(), head, after })
    }
}

async fn run(route: &Route, request: ::http::Request<Body>, head_tx: oneshot::Sender<Head>) -> anyhow::Result<()> {
    let store = route.engine.store(&route.item);
    match &route.linked.http {
        Some(ProxyPre::P2(pre)) => http_p2::call(store, pre, request, head_tx).await,
        Some(ProxyPre::P3(pre)) => http_p3::call(store, pre, request, head_tx).await,
        None => Ok(()),
    }
}

/// Runs the guest until it has sent the response's head.
pub(crate) async fn head(call: GuestResponse) -> Result<::http::Response<Body>, CallError> {
    let GuestResponse { mut work, mut head, after } = call;
    let (head, guest) = tokio::select! {
        biased;
        // The guest first: what it writes right after the head is then there when the body is first asked.
        done = &mut work => match (head.try_recv(), done) {
            (Ok(head), done) => (head, Guest::Ended(done)),
            (Err(_never_sent), Ok(())) => (Err(anyhow::anyhow!("the guest ended without a response")), Guest::Ended(Ok(()))),
            (Err(_never_sent), Err(error)) => (Err(error), Guest::Ended(Ok(()))),
        },
        sent = &mut head => match sent {
            Ok(head) => (head, Guest::Works(work)),
            // The sender is gone but the guest goes on: let it end, to learn why.
            Err(_dropped) => {
                let error = work.await.err().unwrap_or_else(|| anyhow::anyhow!("no response was set"));
                (Err(error), Guest::Ended(Ok(())))
            }
        },
    };
    match head {
        Ok(response) => {
            let announced = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            Ok(response.map(|inner| GuestBody::new(inner, announced, guest, after).boxed_unsync()))
        }
        Err(error) => {
            after.report(&error, "guest failed before a response");
            Err(CallError::Guest(error))
        }
    }
}

/// What the guest does when the head is there.
enum Guest {
    Works(GuestWork),
    /// Well or badly, perhaps right after the head.
    Ended(anyhow::Result<()>),
}

/// The body of a guest's response.
struct GuestBody {
    inner: Body,
    work: Option<GuestWork>,
    after: After,
    failed: bool,
    /// Bytes still to come by the response's own `content-length`. The WASI layer checks it too, but its error is lost
    /// when it meets a full channel.
    announced: Option<u64>,
    /// How the body ends, once what came before had its chance to be sent.
    broken: Option<BodyError>,
}

impl GuestBody {
    fn new(inner: Body, announced: Option<u64>, guest: Guest, after: After) -> Self {
        let mut body = Self { inner, work: None, after, failed: false, announced, broken: None };
        match guest {
            Guest::Works(work) => body.work = Some(work),
            Guest::Ended(done) => body.ended(done),
        }
        body
    }

    fn ended(&mut self, done: anyhow::Result<()>) {
        if let Err(error) = done {
            self.after.report(&error, "guest failed after the head of its response");
            self.failed = true;
        }
    }

    /// Whether the guest failed, now or before.
    fn poll_guest(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(work) = &mut self.work
            && let Poll::Ready(done) = work.poll_unpin(cx)
        {
            self.work = None;
            self.ended(done);
        }
        self.failed
    }

    /// Takes what is about to be sent from what was announced.
    fn count(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        let (Some(announced), Some(data)) = (&mut self.announced, frame.data_ref()) else { return Ok(()) };
        *announced = announced.checked_sub(data.len() as u64).ok_or(BodyError::HttpResponseBodySize(None))?;
        Ok(())
    }

    /// Ends the body with `error` at the next poll. hyper throws away what it has not sent yet when a body fails, the
    /// head included; a moment's pause makes it send that first.
    fn break_off(&mut self, error: BodyError, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.broken = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Lets what the guest still does end behind the response.
    fn leave_guest(&mut self, limit: Duration) {
        let Some(work) = self.work.take() else { return };
        let workload = self.after.0.item.workload_id.clone();
        // Dropped with the runtime: then there is nobody left to run it, and it goes with the rest.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        drop(task::spawn("guest-rest", async move {
            match tokio::time::timeout(limit, work).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    debug!(workload.id = %workload, error = format!("{error:#}"), "guest failed after its response");
                }
                Err(_elapsed) => {
                    warn!(workload.id = %workload, limit = ?limit, "guest went on after its response and was ended");
                }
            }
        }));
    }
}

impl http_body::Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let failed = self.poll_guest(cx);
        match Pin::new(&mut self.inner).poll_frame(cx) {
            // A body that its guest did not live to finish must not look finished.
            Poll::Ready(None) | Poll::Pending if failed => {
                self.break_off(BodyError::InternalError(Some("the guest failed".to_owned())), cx)
            }
            Poll::Ready(Some(Err(error))) => self.break_off(error, cx),
            Poll::Ready(Some(Ok(frame))) => match self.count(&frame) {
                Ok(()) => Poll::Ready(Some(Ok(frame))),
                Err(error) => self.break_off(error, cx),
            },
            Poll::Ready(None) if self.announced.is_some_and(|left| left > 0) => {
                self.break_off(BodyError::HttpResponseBodySize(None), cx)
            }
            Poll::Ready(None) => {
                let limit = self.after.0.call_timeout;
                self.leave_guest(limit);
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.failed && self.broken.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        // HTTP/1 asks for no more once it has sent what was announced.
        let is_whole = self.announced == Some(0) || self.inner.is_end_stream();
        let limit = if is_whole { self.after.0.call_timeout } else { ABANDONED_TIME_MAX };
        self.leave_guest(limit);
    }
}
