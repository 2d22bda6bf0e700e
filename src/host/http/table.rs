//! The routes as one immutable value: host, wildcard, path -> targets. Pure: every change makes a new table.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host::http::authority::without_cluster_domain;
use crate::types::WorkloadId;
use crate::workload::http::{HttpBinding, HttpTarget};

/// All routes. A copy shares every host that did not change, so that a change costs one copy of the index.
#[derive(Debug, Clone, Default)]
pub(super) struct RouteTable {
    entries: HashMap<WorkloadId, Arc<Entry>>,
    exact: HashMap<Arc<str>, Arc<HostRoutes>>,
    /// By suffix, without `*.`.
    wildcards: HashMap<Arc<str>, Arc<HostRoutes>>,
    cluster_domain: Arc<str>,
}

#[derive(Debug)]
struct Entry {
    binding: HttpBinding,
    target: Arc<dyn HttpTarget>,
}

/// The routes of one host, the longest path first.
#[derive(Debug, Clone, Default)]
struct HostRoutes(Vec<Arc<PathRoute>>);

/// Who serves one path prefix of one host.
#[derive(Debug)]
pub(super) struct PathRoute {
    /// Without a slash at its end; the root is empty.
    prefix: Box<str>,
    pub(super) targets: Vec<Arc<dyn HttpTarget>>,
    /// Whose turn it is among equals.
    turn: AtomicUsize,
}

impl RouteTable {
    /// The same routes, read with another cluster domain.
    pub(super) fn with_cluster_domain(&self, domain: &str) -> Self {
        let mut next = Self { cluster_domain: Arc::from(domain.to_ascii_lowercase()), ..Self::default() };
        for entry in self.entries.values() {
            next.insert(Arc::clone(entry));
        }
        next
    }

    /// The cluster domain that names are read with.
    pub(super) fn cluster_domain(&self) -> &str {
        &self.cluster_domain
    }

    /// These routes and those of `target`, which takes the place of a target of the same workload.
    pub(super) fn with(&self, binding: HttpBinding, target: Arc<dyn HttpTarget>) -> Self {
        let mut next = self.clone();
        next.remove(target.workload());
        next.insert(Arc::new(Entry { binding, target }));
        next
    }

    /// These routes without `target`; `None` if it has none (any more).
    pub(super) fn without(&self, target: &Arc<dyn HttpTarget>) -> Option<Self> {
        let entry = self.entries.get(target.workload())?;
        if !Arc::ptr_eq(&entry.target, target) {
            return None;
        }
        let mut next = self.clone();
        next.remove(target.workload());
        Some(next)
    }

    /// The route of a request: `host` in its normal form, `path` as the client sent it.
    ///
    /// The host decides first: exact, then the longest suffix. The path decides among the routes of that host.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&PathRoute> {
        let host = without_cluster_domain(host, &self.cluster_domain);
        let routes = self.exact.get(host).or_else(|| self.find_wildcard(host))?;
        routes.0.iter().find(|route| route.covers(path)).map(Arc::as_ref)
    }

    fn find_wildcard(&self, host: &str) -> Option<&Arc<HostRoutes>> {
        if self.wildcards.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_label, suffix)) = rest.split_once('.') {
            if let Some(routes) = self.wildcards.get(suffix) {
                return Some(routes);
            }
            rest = suffix;
        }
        None
    }

    fn insert(&mut self, entry: Arc<Entry>) {
        for host in &entry.binding.hosts {
            let (index, name) = self.place(host);
            let routes = index.entry(name).or_default();
            *routes = Arc::new(routes.with(&entry.binding.path, &entry.target));
        }
        self.entries.insert(entry.target.workload().clone(), entry);
    }

    fn remove(&mut self, workload: &WorkloadId) {
        let Some(entry) = self.entries.remove(workload) else { return };
        for host in &entry.binding.hosts {
            let (index, name) = self.place(host);
            let Some(routes) = index.get_mut(&name) else { continue };
            *routes = Arc::new(routes.without(workload));
            if routes.0.is_empty() {
                index.remove(&name);
            }
        }
    }

    /// The index that `host` belongs in, and its name there.
    fn place(&mut self, host: &str) -> (&mut HashMap<Arc<str>, Arc<HostRoutes>>, Arc<str>) {
        let host = without_cluster_domain(host, &self.cluster_domain);
        match host.strip_prefix("*.") {
            Some(suffix) => (&mut self.wildcards, Arc::from(suffix)),
            None => (&mut self.exact, Arc::from(host)),
        }
    }
}

impl HostRoutes {
    fn with(&self, path: &str, target: &Arc<dyn HttpTarget>) -> Self {
        let prefix = path.trim_end_matches('/');
        let mut routes = self.0.clone();
        match routes.iter_mut().find(|route| &*route.prefix == prefix) {
            // Two names of one workload may become the same name under the cluster domain.
            Some(route) if route.targets.iter().any(|known| Arc::ptr_eq(known, target)) => {}
            Some(route) => {
                let targets = route.targets.iter().chain([target]).map(Arc::clone).collect();
                *route = Arc::new(PathRoute { prefix: prefix.into(), targets, turn: AtomicUsize::default() });
            }
            None => {
                let targets = vec![Arc::clone(target)];
                routes.push(Arc::new(PathRoute { prefix: prefix.into(), targets, turn: AtomicUsize::default() }));
                routes.sort_by_key(|route| Reverse(route.prefix.len()));
            }
        }
        Self(routes)
    }

    fn without(&self, workload: &WorkloadId) -> Self {
        let keep = |target: &&Arc<dyn HttpTarget>| target.workload() != workload;
        let routes = self.0.iter().filter_map(|route| {
            let targets: Vec<_> = route.targets.iter().filter(keep).map(Arc::clone).collect();
            if targets.len() == route.targets.len() {
                return Some(Arc::clone(route));
            }
            let prefix = route.prefix.clone();
            (!targets.is_empty()).then(|| Arc::new(PathRoute { prefix, targets, turn: AtomicUsize::default() }))
        });
        Self(routes.collect())
    }
}

impl PathRoute {
    /// Whether `path` is the prefix or lies below it: `/api` covers `/api` and `/api/x`, not `/apix`.
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&*self.prefix)
            .is_some_and(|rest| self.prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }

    /// The target of the next request: the one named `wanted`, else the one with the least in flight, in turn among
    /// equals. One that is stopping is chosen only while all are.
    pub(super) fn pick(&self, wanted: Option<&[u8]>) -> Option<&Arc<dyn HttpTarget>> {
        if let [only] = self.targets.as_slice() {
            return Some(only);
        }
        let all_stopping = self.targets.iter().all(|target| target.is_stopping());
        let candidates = || self.targets.iter().filter(|target| all_stopping || !target.is_stopping());
        if let Some(wanted) = wanted
            && let Some(named) = candidates().find(|target| target.workload().as_str().as_bytes() == wanted)
        {
            return Some(named);
        }
        let least = candidates().map(|target| target.in_flight()).min()?;
        let equals = || candidates().filter(|target| target.in_flight() <= least);
        // Both counts are read while requests come and go: whoever is left by then is as good as any.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let nth = turn.checked_rem(equals().count()).unwrap_or(0);
        equals().nth(nth).or_else(|| candidates().next()).or_else(|| self.targets.first())
    }
}
