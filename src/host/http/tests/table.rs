//! The table against a plain reading of the rules, and how a target is picked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::BoxFuture;
use proptest::prelude::*;

use crate::host::http::table::{PathRoute, RouteTable};
use crate::types::WorkloadId;
use crate::workload::http::{Body, CallError, HttpBinding, HttpTarget};

#[derive(Debug)]
struct Fake {
    id: WorkloadId,
    in_flight: AtomicUsize,
    is_stopping: AtomicBool,
}

impl HttpTarget for Fake {
    fn workload(&self) -> &WorkloadId {
        &self.id
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    fn call(self: Arc<Self>, _: http::Request<Body>) -> BoxFuture<'static, Result<http::Response<Body>, CallError>> {
        unreachable!("tables call nobody")
    }
}

fn fake(id: &str) -> Arc<Fake> {
    Arc::new(Fake { id: WorkloadId::from(id), in_flight: AtomicUsize::new(0), is_stopping: AtomicBool::new(false) })
}

fn bound(hosts: &[&str], path: &str) -> HttpBinding {
    HttpBinding { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), path: path.to_owned() }
}

fn ids(route: Option<&PathRoute>) -> Vec<&str> {
    let mut ids: Vec<_> = route.map_or(&[][..], |route| &route.targets).iter().map(|t| t.workload().as_str()).collect();
    ids.sort_unstable();
    ids
}

fn picked(route: &PathRoute, wanted: Option<&[u8]>) -> String {
    route.pick(wanted).unwrap().workload().to_string()
}

#[test]
fn the_least_busy_wins_and_equals_take_turns() {
    let targets = [fake("a"), fake("b"), fake("c")];
    let mut table = RouteTable::default();
    for target in &targets {
        table = table.with(bound(&["h"], "/"), Arc::clone(target) as _);
    }
    targets[1].in_flight.store(1, Ordering::SeqCst);
    let route = table.find("h", "/").unwrap();
    let mut counts = BTreeMap::new();
    for _ in 0..100 {
        *counts.entry(picked(route, None)).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 50), ("c".to_owned(), 50)]));
    targets[0].in_flight.store(2, Ordering::SeqCst);
    targets[2].in_flight.store(2, Ordering::SeqCst);
    assert_eq!(picked(route, None), "b");
}

#[test]
fn one_that_stops_is_chosen_only_while_all_do() {
    let (stopping, other) = (fake("a"), fake("b"));
    stopping.is_stopping.store(true, Ordering::SeqCst);
    other.in_flight.store(9, Ordering::SeqCst);
    let table = RouteTable::default()
        .with(bound(&["h"], "/"), Arc::clone(&stopping) as _)
        .with(bound(&["h"], "/"), Arc::clone(&other) as _);
    let route = table.find("h", "/").unwrap();
    assert_eq!(picked(route, None), "b");
    assert_eq!(picked(route, Some(b"a")), "b", "it is no candidate, so it cannot be named");
    other.is_stopping.store(true, Ordering::SeqCst);
    assert_eq!(picked(route, None), "a");
    assert_eq!(picked(route, Some(b"b")), "b");
    assert_eq!(picked(route, Some(b"c")), "a");
}

#[test]
fn a_target_takes_the_place_of_its_workloads_last_one_in_one_step() {
    let (old, new) = (fake("a"), fake("a"));
    let old_target: Arc<dyn HttpTarget> = Arc::clone(&old) as _;
    let table = RouteTable::default().with(bound(&["h", "i"], "/x"), Arc::clone(&old_target));
    let table = table.with(bound(&["i", "j"], "/y"), Arc::clone(&new) as _);
    assert!(table.find("h", "/x").is_none() && table.find("i", "/x").is_none());
    assert_eq!(ids(table.find("i", "/y")), ["a"]);
    assert!(table.without(&old_target).is_none(), "it is gone already");
    let new_target: Arc<dyn HttpTarget> = new;
    let table = table.without(&new_target).unwrap();
    assert_eq!(format!("{table:?}"), format!("{:?}", RouteTable::default()), "nothing is left of it");
}

#[test]
fn names_in_the_cluster_domain_are_one_with_the_short_ones() {
    let table = RouteTable::default()
        .with(bound(&["a.t.svc", "a.t.svc.c.local", "*.svc.c.local"], "/"), fake("a") as _)
        .with_cluster_domain("C.local");
    assert_eq!(ids(table.find("a.t.svc", "/")), ["a"]);
    assert_eq!(ids(table.find("a.t.svc.c.local", "/")), ["a"]);
    assert_eq!(ids(table.find("b.t.svc.c.local", "/")), ["a"]);
    assert!(table.with_cluster_domain("d.local").find("a.t.svc.d.local", "/").is_some());
    assert!(table.with_cluster_domain("d.local").find("x.a.t.svc.c.local", "/").is_some());
}

/// The rules read plainly: the best host of all bindings first, then the longest path of that host.
fn expected(entries: &BTreeMap<String, (Vec<String>, String)>, host: &str, path: &str) -> Vec<String> {
    let fits = |pattern: &str| match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix) && host.len() > suffix.len(),
        None => pattern == host,
    };
    let rank = |pattern: &str| (!pattern.starts_with('*'), pattern.len());
    let all = entries.values().flat_map(|(hosts, _)| hosts).filter(|pattern| fits(pattern));
    let Some(best) = all.max_by_key(|pattern| rank(pattern)) else { return Vec::new() };
    let covers = |prefix: &str| {
        let segments = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        segments(path).starts_with(&segments(prefix.trim_end_matches('/')))
    };
    let of_host = || entries.iter().filter(|(_, (hosts, prefix))| hosts.contains(best) && covers(prefix));
    let longest = of_host().map(|(_, (_, prefix))| prefix.trim_end_matches('/').len()).max();
    of_host()
        .filter(|(_, (_, prefix))| Some(prefix.trim_end_matches('/').len()) == longest)
        .map(|(id, _)| id.clone())
        .collect()
}

fn hosts() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "b.a", "c.b.a", "*.a", "*.b.a", "*.c.b.a"]).prop_map(str::to_owned)
}

fn paths() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["/", "/x", "/x/", "/x/y", "/xy", "/x/y/z"]).prop_map(str::to_owned)
}

#[derive(Debug, Clone)]
enum Change {
    Publish(u8, Vec<String>, String),
    Withdraw(u8),
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0..6_u8, prop::collection::vec(hosts(), 1..3), paths()).prop_map(|(id, h, p)| Change::Publish(id, h, p)),
        1 => (0..6_u8).prop_map(Change::Withdraw),
    ]
}

proptest! {
    #[test]
    fn any_history_of_changes_routes_as_its_outcome_says(history in prop::collection::vec(changes(), 0..24)) {
        let mut table = RouteTable::default();
        let mut entries = BTreeMap::new();
        let mut targets: BTreeMap<String, Arc<dyn HttpTarget>> = BTreeMap::new();
        for change in history {
            match change {
                Change::Publish(id, hosts, path) => {
                    let id = id.to_string();
                    let target: Arc<dyn HttpTarget> = fake(&id);
                    table = table.with(HttpBinding { hosts: hosts.clone(), path: path.clone() }, Arc::clone(&target));
                    entries.insert(id.clone(), (hosts, path));
                    targets.insert(id, target);
                }
                Change::Withdraw(id) => {
                    entries.remove(&id.to_string());
                    if let Some(target) = targets.remove(&id.to_string()) {
                        table = table.without(&target).unwrap();
                    }
                }
            }
        }
        for host in ["a", "b", "b.a", "c.b.a", "d.c.b.a", "e.d.c.b.a", "x.a", "x"] {
            for path in ["/", "/x", "/x/", "/x/y", "/x/yz", "/xy", "/xyz", "/x/y/z/w"] {
                prop_assert_eq!(ids(table.find(host, path)), expected(&entries, host, path), "{} {}", host, path);
            }
        }
    }
}
