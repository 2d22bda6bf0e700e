//! One call of a WASI 0.2 handler, `wasi:http/incoming-handler`.

use http_body_util::BodyExt as _;
use std::sync::Mutex;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use crate::engine::SharedCtx;
use crate::workload::http::Body;
use crate::workload::response::Head;

/// Instantiates the component in `store` and runs its handler to the end; the head goes out as soon as it is set.
pub(crate) async fn call(
    mut store: Store<SharedCtx>,
    pre: &ProxyPre<SharedCtx>,
    request: http::Request<Body>,
    head_tx: oneshot::Sender<Head>,
) -> anyhow::Result<()> {
    let proxy = pre.instantiate_async(&mut store).await?;
    let mut view = store.data_mut().http();
    let is_encrypted = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
    let scheme = if is_encrypted { Scheme::Https } else { Scheme::Http };
    let request = view.new_incoming_request(scheme, request)?;
    // The callback must be `Sync`; a sender behind a lock that is never contended is.
    let head_tx = Mutex::new(head_tx);
    let out = view.new_response_outparam_from_callback(move |result| {
        let head: Head = match result {
            Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
            Err(code) => Err(anyhow::anyhow!("the guest answered with the error {code:?}")),
        };
        let head_tx = head_tx.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Nobody waits any more: the client went away or the call's time is over.
        drop(head_tx.send(head));
    })?;
    proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await?;
    Ok(())
}
