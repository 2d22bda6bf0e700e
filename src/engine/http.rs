//! `wasi:http` as a guest sees it: which headers are the connection's own, and no way out.

use std::sync::{Arc, LazyLock};

use http::{HeaderName, header};
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

/// Headers that belong to one connection: a guest neither sees nor sets them. `host` is not among them, because it is
/// part of the request.
const CONNECTION_HEADERS: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

static IS_CONNECTION_HEADER: LazyLock<ForbiddenHeaderFilter> =
    LazyLock::new(|| Arc::new(|name: &HeaderName| CONNECTION_HEADERS.contains(name)));

/// The host's side of `wasi:http` for one store.
#[derive(Debug)]
pub(super) struct Hooks(());

impl Hooks {
    pub(super) fn new() -> Self {
        Self(())
    }
}

type SentResponse = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        CONNECTION_HEADERS.contains(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&IS_CONNECTION_HEADER)
    }

    /// Outgoing requests need an egress policy to be checked against; until there is one, the answer is no.
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SentResponse> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
