//! What the ingress needs of a workload: something that answers requests, and where those requests come from.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::types::WorkloadId;

/// Why a body broke off.
pub(crate) use wasmtime_wasi_http::Error as BodyError;
/// The body of a request or response, streamed.
pub(crate) use wasmtime_wasi_http::WasiBody as Body;

/// Which requests a workload asks for: parsed from the `config` of its `wasi:http` interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpBinding {
    /// Normalised names: lower case, no port, no trailing dot; `*.suffix` is a wildcard. At least one.
    pub(crate) hosts: Vec<String>,
    /// Path prefix, starting with `/`.
    pub(crate) path: String,
}

/// Why a request got no response from a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The guest trapped, could not be instantiated, set no response, or answered with an error code.
    #[error("guest failed before a response")]
    Guest(#[source] anyhow::Error),
    /// The call's time was over before the response's head.
    #[error("the call took longer than {0:?}")]
    Deadline(std::time::Duration),
    /// No instance became free in time, or the queue is full.
    #[error("no instance is free")]
    Busy,
    /// The workload is not serving now: it is being stopped or started again.
    #[error("the workload is not serving")]
    Unavailable,
}

/// Answers the requests of one workload. Held by routers; must be cheap to call and never block.
pub(crate) trait HttpTarget: Send + Sync + std::fmt::Debug {
    /// The workload behind it.
    fn workload(&self) -> &WorkloadId;

    /// Requests it is working on: the head of the response has not been sent, or its body is still going out.
    fn in_flight(&self) -> usize;

    /// Whether it is being stopped: a router then prefers any other target of the same route.
    fn is_stopping(&self) -> bool;

    /// One request. `uri` carries scheme and authority as the client saw them. Dropping the future cancels the call.
    fn call(
        self: Arc<Self>,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, CallError>>;
}

/// How a router learns of targets. Calls are synchronous, quick, and visible to the next request.
pub(crate) trait RouteSink: Send + Sync + std::fmt::Debug {
    /// From now on `target` serves `binding`. A target of the same workload id is replaced in the same step.
    fn publish(&self, binding: &HttpBinding, target: Arc<dyn HttpTarget>);

    /// `target` is gone; does nothing if another target has taken its place.
    fn withdraw(&self, target: &Arc<dyn HttpTarget>);
}
