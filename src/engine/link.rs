//! Linking: a component and what serves its imports become something that can be instantiated.

use std::fmt;

use wasmtime::component::{InstancePre, Linker};
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{p2, p3};

use crate::engine::compile::Compiled;
use crate::engine::ctx::SharedCtx;
use crate::engine::inspect::HttpVersion;

/// A component whose imports are all resolved. Holds nothing of any one workload: shared by all that run the same
/// artifact with the same interfaces.
pub(crate) struct Linked {
    /// To instantiate it for calls of its other exports.
    pub(crate) pre: InstancePre<SharedCtx>,
    /// The `wasi:http` handler it exports, with its exports looked up.
    pub(crate) http: Option<ProxyPre<SharedCtx>>,
}

impl fmt::Debug for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.http {
            Some(ProxyPre::P2(_)) => "Linked(wasi:http 0.2)",
            Some(ProxyPre::P3(_)) => "Linked(wasi:http 0.3)",
            None => "Linked",
        })
    }
}

/// Why a component does not link, although something serves each of its imports.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// An import differs in shape from what serves it.
    #[error("an import does not fit what serves it")]
    Import(#[source] anyhow::Error),
    /// The handler it exports is not of the shape its name promises.
    #[error("the exported wasi:http handler has another shape than its version says")]
    Handler(#[source] anyhow::Error),
    /// `wasi:cli/run` is not of the shape its name promises.
    #[error("the exported wasi:cli/run has another shape than its version says")]
    Run(#[source] anyhow::Error),
}

/// Everything that every component may import.
pub(super) fn base_linker(engine: &wasmtime::Engine) -> anyhow::Result<Linker<SharedCtx>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Resolves every import of `compiled` against `linker`, and its handler.
pub(crate) fn link(linker: &Linker<SharedCtx>, compiled: &Compiled) -> Result<Linked, LinkError> {
    let pre = linker.instantiate_pre(&compiled.component).map_err(|error| LinkError::Import(error.into()))?;
    let handler = |error: wasmtime::Error| LinkError::Handler(error.into());
    let http = match compiled.inspected.http() {
        Some(HttpVersion::P2) => Some(ProxyPre::P2(p2::bindings::ProxyPre::new(pre.clone()).map_err(handler)?)),
        Some(HttpVersion::P3) => Some(ProxyPre::P3(p3::bindings::ServicePre::new(pre.clone()).map_err(handler)?)),
        None => None,
    };
    Ok(Linked { pre, http })
}
