//! Which workload answers a request: by host name, path and `x-workload-id`.

use std::collections::BTreeSet;

use crate::support::http::{self, full, request};
use crate::support::{Standalone, Workload};

/// `http2`, with a variable that tells which of several it is.
fn named(name: &str) -> Workload {
    Workload::new(name, "http2").key(&format!("environment = {{ NAME = {name:?} }}"))
}

/// The workload that answers for `host` and `path`; its status if none does.
async fn who(host: &Standalone, name: &str, path: &str) -> String {
    let answer = host.get(name, path).await;
    match answer.status.as_u16() {
        200 => answer.text().trim_start_matches("NAME=").trim_end().to_owned(),
        status => format!("{status} {}", answer.headers.get("x-washlet-reason").map_or("", |r| r.to_str().unwrap())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_names_are_normalised_and_the_most_specific_wins() {
    let workloads = [
        named("shop").binding("host", "Shop.Example.").binding("host-aliases", "shop.team, shop.team.svc"),
        named("apps").binding("host", "*.apps.example"),
        named("deep").binding("host", "*.deep.apps.example"),
        named("exact").binding("host", "one.deep.apps.example"),
    ];
    let host = Standalone::start("", &workloads).await;
    for name in [
        "shop.example",
        "SHOP.example",
        "shop.example:8080",
        "shop.example.",
        "shop.example.:80",
        "shop.team",
        "shop.team.svc",
        "shop.team.svc.cluster.local",
    ] {
        assert_eq!(who(&host, name, "/env").await, "shop", "{name}");
    }
    assert_eq!(who(&host, "a.apps.example", "/env").await, "apps");
    assert_eq!(who(&host, "a.b.apps.example", "/env").await, "apps");
    assert_eq!(who(&host, "two.deep.apps.example", "/env").await, "deep");
    assert_eq!(who(&host, "one.deep.apps.example", "/env").await, "exact");
    for name in ["apps.example", "example", "shop.example.org", "xshop.example", "shop.team.cluster.local"] {
        assert_eq!(who(&host, name, "/env").await, "404 no-route", "{name}");
    }
    for name in ["", "user@shop.example", "shop.example:80:80", "shop example"] {
        assert_eq!(who(&host, name, "/env").await, "400 bad-host", "{name}");
    }
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_path_prefix_wins_on_segment_borders() {
    let workloads = [
        named("root").binding("host", "site.test"),
        named("env").binding("host", "site.test").binding("path", "/env"),
        named("inner").binding("host", "site.test").binding("path", "/env/inner/"),
        named("only").binding("host", "only.test").binding("path", "/env"),
    ];
    let host = Standalone::start("", &workloads).await;
    assert_eq!(who(&host, "site.test", "/env").await, "env");
    assert_eq!(who(&host, "site.test", "/env?x=/env/inner").await, "env");
    assert_eq!(who(&host, "only.test", "/").await, "404 no-route");
    assert_eq!(who(&host, "only.test", "/envx").await, "404 no-route");
    assert_eq!(who(&host, "only.test", "/env").await, "only");
    // The guest sees the whole path: here none of its own.
    assert_eq!(host.get("site.test", "/env/inner/x").await.text(), "no such path\n");
    assert_eq!(host.get("site.test", "/request").await.text().lines().last(), Some("path=/request"));
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_of_one_host_share_its_requests_unless_one_is_named() {
    let workloads = [named("one").binding("host", "shared.test"), named("two").binding("host", "shared.test")];
    let host = Standalone::start("", &workloads).await;
    let mut seen = BTreeSet::new();
    for _ in 0..32 {
        seen.insert(who(&host, "shared.test", "/env").await);
    }
    assert_eq!(seen, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    for name in ["one", "two"] {
        for _ in 0..8 {
            let mut request = request("GET", "shared.test", "/env", full(""));
            request.headers_mut().insert("x-workload-id", format!("static/default/{name}").parse().unwrap());
            assert_eq!(http::send(host.addr, request).await.text(), format!("NAME={name}\n"));
        }
    }
    // One that is not there does not matter.
    let mut request = request("GET", "shared.test", "/env", full(""));
    request.headers_mut().insert("x-workload-id", "static/default/three".parse().unwrap());
    assert_eq!(http::send(host.addr, request).await.status, 200);
    host.finish().await;
}
