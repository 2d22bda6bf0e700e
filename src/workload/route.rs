//! A route: all that a request into a component needs, behind one pointer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use crate::engine::{Engine, ItemCtx, Linked};
use crate::task::Shutdown;
use crate::types::WorkloadId;
use crate::workload::http::{Body, CallError, HttpTarget};
use crate::workload::response::{self, GuestResponse};

/// How long a request waits for an instance when the host is full.
const INSTANCE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Requests that may wait for an instance at once, on one route; more are refused at once.
const WAITING_MAX: usize = 4096;

/// Immutable but for its counters. A relinked or replaced workload gets a new one; calls in flight keep the old.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) engine: Engine,
    pub(crate) item: Arc<ItemCtx>,
    pub(crate) linked: Arc<Linked>,
    /// Until the head of the response.
    pub(crate) call_timeout: Duration,
    meter: Meter,
}

#[derive(Debug, Default)]
struct Meter {
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    stopping: AtomicBool,
    idle: Notify,
    cut: Shutdown,
}

impl Route {
    pub(crate) fn new(engine: Engine, item: Arc<ItemCtx>, linked: Arc<Linked>, call_timeout: Duration) -> Self {
        Self { engine, item, linked, call_timeout, meter: Meter::default() }
    }

    /// Triggered when work in flight must end now.
    pub(crate) fn cut(&self) -> &Shutdown {
        &self.meter.cut
    }

    /// From now on a router prefers any other target.
    pub(crate) fn begin_stop(&self) {
        self.meter.stopping.store(true, Ordering::SeqCst);
    }

    /// Waits until nothing is in flight, at the longest to `deadline`; then cuts, and says how many calls that were.
    pub(crate) async fn drain(&self, deadline: Instant) -> usize {
        let idle = async {
            loop {
                let notified = self.meter.idle.notified();
                if self.meter.in_flight.load(Ordering::SeqCst) == 0 {
                    return;
                }
                notified.await;
            }
        };
        match timeout_at(deadline, idle).await {
            Ok(()) => 0,
            Err(_elapsed) => {
                let forced = self.meter.in_flight.load(Ordering::SeqCst);
                self.meter.cut.trigger();
                forced
            }
        }
    }

    /// One place among the host's instances.
    pub(super) async fn admit(&self) -> Result<OwnedSemaphorePermit, CallError> {
        let instances = self.engine.instances();
        if let Ok(permit) = Arc::clone(instances).try_acquire_owned() {
            return Ok(permit);
        }
        if self.meter.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.meter.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(CallError::Busy);
        }
        let waiting = Waiting(&self.meter.waiting);
        let permit = timeout(INSTANCE_WAIT_MAX, Arc::clone(instances).acquire_owned()).await;
        drop(waiting);
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(CallError::Unavailable),
            Err(_elapsed) => Err(CallError::Busy),
        }
    }
}

/// Counts itself out, also when the waiting future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HttpTarget for Route {
    fn workload(&self) -> &WorkloadId {
        &self.item.workload_id
    }

    fn in_flight(&self) -> usize {
        self.meter.in_flight.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.meter.stopping.load(Ordering::Relaxed)
    }

    fn call(
        self: Arc<Self>,
        request: ::http::Request<Body>,
    ) -> BoxFuture<'static, Result<::http::Response<Body>, CallError>> {
        let in_flight = InFlight::count(&self);
        Box::pin(async move {
            let permit = self.admit().await?;
            let limit = self.call_timeout;
            let call = GuestResponse::begin(&self, request, permit, in_flight)?;
            match timeout(limit, response::head(call)).await {
                // The guest is not to blame for being stopped.
                Ok(Err(CallError::Guest(_))) if self.meter.cut.is_triggered() => Err(CallError::Unavailable),
                Ok(response) => response,
                Err(_elapsed) => Err(CallError::Deadline(limit)),
            }
        })
    }
}

/// One call that is under way: from the request to the end of the guest's work.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Route>);

impl InFlight {
    pub(super) fn count(route: &Arc<Route>) -> Self {
        route.meter.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(route))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.meter.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.meter.idle.notify_waiters();
        }
    }
}
