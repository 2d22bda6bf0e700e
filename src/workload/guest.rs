//! One call of a component by a plugin: a fresh instance, as for a request, within the same limits.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::timeout;

use crate::plugin::guest::{GuestAnswer, GuestCallError, GuestJob, GuestTarget};
use crate::workload::http::CallError;
use crate::workload::route::{InFlight, Route};

impl GuestTarget for Route {
    fn call(self: Arc<Self>, job: Box<dyn GuestJob>) -> BoxFuture<'static, Result<GuestAnswer, GuestCallError>> {
        let in_flight = InFlight::count(&self);
        async move {
            let permit = self.admit().await.map_err(refused)?;
            let limit = self.call_timeout;
            let work = async {
                let mut store = self.engine.store(&self.item);
                let instance = self.linked.pre.instantiate_async(&mut store).await?;
                job.run(&mut store, &instance).await
            };
            let answer = tokio::select! {
                biased;
                () = self.cut().wait() => Err(GuestCallError::Unavailable),
                done = timeout(limit, work) => match done {
                    Ok(answer) => answer.map_err(GuestCallError::Guest),
                    Err(_elapsed) => Err(GuestCallError::Deadline(limit)),
                },
            };
            // The store is gone: now its place among the instances, then the count.
            drop(permit);
            drop(in_flight);
            answer
        }
        .boxed()
    }
}

fn refused(error: CallError) -> GuestCallError {
    match error {
        CallError::Guest(source) => GuestCallError::Guest(source),
        CallError::Deadline(limit) => GuestCallError::Deadline(limit),
        CallError::Busy => GuestCallError::Busy,
        CallError::Unavailable => GuestCallError::Unavailable,
    }
}
