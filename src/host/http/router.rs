//! The live routes: one pointer, read by every request, swapped by every change.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::host::http::meter::Totals;
use crate::host::http::table::RouteTable;
use crate::workload::http::{HttpBinding, HttpTarget, RouteSink};

/// Finds the workload of a request. Shared by all servers of a host, and outlives each of them.
#[derive(Debug, Default)]
pub(crate) struct HttpRouter {
    table: ArcSwap<RouteTable>,
    /// Held while the next table is made of the last one, by those who change it; never by a request.
    change: Mutex<()>,
    /// Here because it outlives the servers.
    totals: Arc<Totals>,
}

impl HttpRouter {
    /// What all its servers count together.
    pub(crate) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }

    /// From now on `<x>.svc.<domain>` is read as `<x>.svc`, in requests and in bindings.
    pub(crate) fn set_cluster_domain(&self, domain: &str) {
        self.update(|table| {
            let is_new = !table.cluster_domain().eq_ignore_ascii_case(domain);
            is_new.then(|| table.with_cluster_domain(domain))
        });
    }

    /// Who answers a request for `host` (in its normal form) and `path`; `wanted` is its `X-Workload-Id`.
    pub(super) fn find(&self, host: &str, path: &str, wanted: Option<&[u8]>) -> Option<Arc<dyn HttpTarget>> {
        self.table.load().find(host, path)?.pick(wanted).map(Arc::clone)
    }

    fn update(&self, next: impl FnOnce(&RouteTable) -> Option<RouteTable>) {
        // A poisoned lock guards nothing: a table is whole before it is stored.
        let _held = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = next(&self.table.load()) {
            self.table.store(Arc::new(next));
        }
    }
}

impl RouteSink for HttpRouter {
    fn publish(&self, binding: &HttpBinding, target: Arc<dyn HttpTarget>) {
        self.update(|table| Some(table.with(binding.clone(), target)));
    }

    fn withdraw(&self, target: &Arc<dyn HttpTarget>) {
        self.update(|table| table.without(target));
    }
}
