//! `[http]`: a new address is bound before the old one drains; on the same one only the settings change.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, ready};
use tokio::time::Instant;

use crate::config::Http;
use crate::daemon::draft::Draft;
use crate::daemon::sections::Shared;
use crate::error::Blame;
use crate::host::http::{BoundListener, HttpServer};
use crate::reload::{Leftovers, NothingRetired, Plan, Prepare, PrepareError, Prepared, Retired, Section};

pub(super) struct HttpSection(Arc<Shared>);

struct PreparedHttp {
    shared: Arc<Shared>,
    settings: Http,
    listener: Listener,
}

/// What becomes of the listening socket.
enum Listener {
    /// It stays, if there is one.
    Keep,
    /// Another one takes over.
    Bound(BoundListener),
    /// It goes.
    Close,
}

struct RetiredHttp(Arc<HttpServer>);

impl HttpSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    fn prepare_now(&self, plan: &Plan) -> Prepare {
        let (old, new) = (&plan.old.http, &plan.new.http);
        if old == new && !plan.is_first {
            return Ok(None);
        }
        let live = self.0.live().http.clone();
        let listener = match (&live, new.listen) {
            (Some(_), Some(address)) if old.listen == Some(address) => Listener::Keep,
            (_, Some(address)) => Listener::Bound(HttpServer::bind(new, live.as_deref()).map_err(|error| {
                PrepareError::new(Blame::Host, format!("http.listen: cannot take {address}")).because(error).passing()
            })?),
            (Some(_), None) => Listener::Close,
            (None, None) => Listener::Keep,
        };
        Ok(Some(Box::new(PreparedHttp { shared: Arc::clone(&self.0), settings: new.clone(), listener })))
    }
}

impl Section<Draft> for HttpSection {
    fn name(&self) -> &'static str {
        "http"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, _draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        // Binding a socket does not wait.
        Box::pin(ready(self.prepare_now(plan)))
    }
}

impl Prepared for PreparedHttp {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { shared, settings, listener } = *self;
        shared.router.set_cluster_domain(&settings.cluster_domain);
        let mut live = shared.live();
        let retired = match listener {
            Listener::Keep => {
                if let Some(server) = &live.http {
                    server.apply(settings);
                }
                None
            }
            Listener::Bound(bound) => {
                let server = bound.serve(Arc::clone(&shared.router), settings, &shared.workers);
                live.http.replace(Arc::new(server))
            }
            Listener::Close => live.http.take(),
        };
        let port = live.http.as_ref().map_or(0, |server| server.local_addr().port());
        drop(live);
        if let Some(host) = shared.host() {
            host.set_http_port(port);
        }
        match retired {
            Some(server) => Box::new(RetiredHttp(server)),
            None => Box::new(NothingRetired),
        }
    }
}

impl Retired for RetiredHttp {
    fn retire(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, Leftovers> {
        async move { Leftovers { forced: self.0.drain(deadline).await } }.boxed()
    }
}
