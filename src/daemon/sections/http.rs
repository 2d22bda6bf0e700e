//! `[http]`: a new address is bound before the old one drains; on the same one only the settings change.

use std::sync::Arc;
use std::time::SystemTime;

use futures::future::{BoxFuture, FutureExt as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use tracing::warn;

use crate::config::{Http, HttpTls};
use crate::daemon::draft::Draft;
use crate::daemon::sections::Shared;
use crate::error::Blame;
use crate::host::http::{BoundListener, HttpServer, Tls};
use crate::reload::{Leftovers, NothingRetired, Plan, Prepare, PrepareError, Prepared, Retired, Section};
use crate::task;

pub(super) struct HttpSection(Arc<Shared>);

struct PreparedHttp {
    shared: Arc<Shared>,
    settings: Http,
    tls: Option<Tls>,
    listener: Listener,
}

/// What becomes of the listening socket.
enum Listener {
    /// It stays, if there is one.
    Keep,
    /// Another one takes over.
    Bound(BoundListener),
    /// It stays, and everyone who came by it has to leave.
    Inherited(BoundListener),
    /// It goes.
    Close,
}

struct RetiredHttp(Arc<HttpServer>);

impl HttpSection {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    async fn prepare_part(&self, plan: &Plan) -> Prepare {
        let (old, new) = (&plan.old.http, &plan.new.http);
        if old == new && !plan.is_first {
            return Ok(None);
        }
        let tls = match &new.tls {
            None => None,
            Some(config) => Some(load(config).await?),
        };
        let cert = |http: &Http| http.tls.as_ref().map(|tls| tls.cert.clone());
        if let Some(tls) = tls.as_ref().filter(|_| cert(old) != cert(new)) {
            refuse_expired(tls, plan.is_first)?;
        }
        let listener = self.listener(old, new, tls.as_ref())?;
        Ok(Some(Box::new(PreparedHttp { shared: Arc::clone(&self.0), settings: new.clone(), tls, listener })))
    }

    fn listener(&self, old: &Http, new: &Http, tls: Option<&Tls>) -> Result<Listener, PrepareError> {
        let live = self.0.live().http.clone();
        Ok(match (&live, new.listen) {
            (Some(live), Some(address)) if old.listen == Some(address) => {
                let successor = if live.closes_door(tls) { live.successor() } else { None };
                successor.map_or(Listener::Keep, Listener::Inherited)
            }
            // Binding a socket does not wait.
            (_, Some(address)) => Listener::Bound(HttpServer::bind(new, live.as_deref()).map_err(|error| {
                PrepareError::new(Blame::Host, format!("http.listen: cannot take {address}")).because(error).passing()
            })?),
            (Some(_), None) => Listener::Close,
            (None, None) => Listener::Keep,
        })
    }
}

async fn load(config: &HttpTls) -> Result<Tls, PrepareError> {
    let config = config.clone();
    let loaded = task::blocking("load certificates", move || Tls::new(&config)).await;
    let refused = |blame| PrepareError::new(blame, "http.tls: cannot be used");
    match loaded {
        Some(loaded) => loaded.map_err(|error| refused(Blame::Configuration).because(error)),
        None => Err(refused(Blame::Host).because("loading the certificates panicked, which is a bug")),
    }
}

/// At a start an expired certificate is better than none; a reload has a better one, which is live.
fn refuse_expired(tls: &Tls, is_first: bool) -> Result<(), PrepareError> {
    let Some(not_after) = tls.not_after().filter(|not_after| *not_after < SystemTime::now()) else { return Ok(()) };
    let when = OffsetDateTime::from(not_after).format(&Rfc3339).unwrap_or_else(|_| "some time ago".to_owned());
    if is_first {
        warn!(expired = %when, "the certificate of http.tls.cert has expired: clients will refuse it");
        return Ok(());
    }
    Err(PrepareError::new(Blame::Configuration, format!("http.tls.cert: the certificate expired at {when}")))
}

impl Section<Draft> for HttpSection {
    fn name(&self) -> &'static str {
        "http"
    }

    fn prepare<'a>(&'a self, plan: &'a Plan, _draft: &'a mut Draft) -> BoxFuture<'a, Prepare> {
        self.prepare_part(plan).boxed()
    }
}

impl Prepared for PreparedHttp {
    fn commit(self: Box<Self>) -> Box<dyn Retired> {
        let Self { shared, settings, tls, listener } = *self;
        shared.router.set_cluster_domain(&settings.cluster_domain);
        let mut live = shared.live();
        let retired = match listener {
            Listener::Keep => {
                if let Some(server) = &live.http {
                    server.apply(settings, tls);
                }
                None
            }
            Listener::Bound(bound) => {
                let server = bound.with_tls(tls).serve(Arc::clone(&shared.router), settings, &shared.workers);
                live.http.replace(Arc::new(server))
            }
            Listener::Inherited(bound) => {
                if let Some(server) = &live.http {
                    // Until it stops accepting it takes connections beside its successor, by the same rules.
                    server.apply(settings.clone(), tls.clone());
                }
                let server = bound.with_tls(tls).serve(Arc::clone(&shared.router), settings, &shared.workers);
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
