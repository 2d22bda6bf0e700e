//! One call of a WASI 0.3 handler, `wasi:http/handler`.

use std::future::poll_fn;

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::engine::SharedCtx;
use crate::workload::http::Body;
use crate::workload::response::Head;

/// Instantiates the component in `store` and runs its handler, and whatever it spawned, to the end; the head goes out
/// as soon as the handler returns it.
pub(crate) async fn call(
    mut store: Store<SharedCtx>,
    pre: &ServicePre<SharedCtx>,
    request: http::Request<Body>,
    head_tx: oneshot::Sender<Head>,
) -> anyhow::Result<()> {
    let service = pre.instantiate_async(&mut store).await?;
    store
        .run_concurrent(async |accessor| -> wasmtime::Result<()> {
            let (request, request_io) = accessor.with(|mut store| {
                let view = store.get().http();
                let (request, request_io) = Request::from_http(view.hooks, request);
                // Boxed, because its type says that it borrows the hooks, which it does not.
                let request_io: BoxFuture<'static, _> = Box::pin(request_io);
                view.table.push(request).map(move |request| (request, request_io))
            })?;
            let response = match service.wasi_http_handler().call_handle(accessor, request).await? {
                Ok(response) => accessor.with(|mut store| {
                    let response = store.get().http().table.delete(response)?;
                    response
                        .into_http(&mut store, request_io)
                        .map_err(|error| anyhow::anyhow!("the response is not one: {error:?}"))
                }),
                Err(code) => Err(anyhow::anyhow!("the guest answered with the error {code:?}")),
            };
            // Nobody waits any more: the client went away or the call's time is over.
            drop(head_tx.send(response));
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            Ok(())
        })
        .await??;
    Ok(())
}
