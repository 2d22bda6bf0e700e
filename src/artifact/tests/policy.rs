//! When the registry is asked, and how often.

use super::*;

#[tokio::test]
async fn cached_images_are_used_without_any_request() {
    let bench = Bench::new().await;
    let manifest = bench.registry.push("1", &component("a"));
    let by_digest = format!("@{manifest}");
    bench.get(":1", PullPolicy::IfNotPresent).await.unwrap();
    bench.get(&by_digest, PullPolicy::IfNotPresent).await.unwrap();
    bench.registry.push("1", &component("moved"));
    let before = bench.registry.seen().len();
    for (version, policy) in [
        (":1", PullPolicy::IfNotPresent),
        (":1", PullPolicy::Never),
        (&by_digest, PullPolicy::IfNotPresent),
        (&by_digest, PullPolicy::Never),
        (&by_digest, PullPolicy::Unspecified),
    ] {
        let artifact = bench.get(version, policy).await.unwrap();
        assert_eq!((&artifact.bytes[..], artifact.origin), (&component("a")[..], ArtifactOrigin::Cache));
    }
    assert_eq!(bench.registry.seen().len(), before);

    let restarted = open(bench.home.path(), insecure());
    get(&restarted, &bench.registry.image(":1"), PullPolicy::Never, None).await.unwrap();
    assert_eq!(bench.registry.seen().len(), before);
}

#[tokio::test]
async fn never_says_that_nothing_is_cached_without_any_request() {
    let bench = Bench::new().await;
    bench.registry.push("1", &component("a"));
    let (error, blame) = bench.fails(":1", PullPolicy::Never).await;
    assert_eq!(error, "component not found in cache and pull policy is 'Never'");
    assert_eq!((blame, bench.registry.seen().len()), (Blame::Workload, 0));
}

#[tokio::test]
async fn always_asks_but_takes_unchanged_bytes_from_the_cache() {
    let bench = Bench::new().await;
    bench.registry.push("1", &component("a"));
    assert_eq!(bench.get(":1", PullPolicy::Always).await.unwrap().origin, ArtifactOrigin::Registry);
    assert_eq!(bench.get(":1", PullPolicy::Always).await.unwrap().origin, ArtifactOrigin::Cache);
    assert_eq!(bench.registry.count("/manifests/"), 2);
    bench.registry.push("1", &component("moved"));
    assert_eq!(bench.get(":1", PullPolicy::Always).await.unwrap().bytes, component("moved"));
    bench.registry.always("/manifests/", Trouble::Status(404, "", "gone"));
    let (error, _) = bench.fails(":1", PullPolicy::Always).await;
    assert!(error.contains(&bench.registry.name()) && error.contains("404"), "{error}");
}

#[tokio::test]
async fn an_unspecified_policy_notices_a_moved_tag_once_per_ttl() {
    let bench = Bench::with(Registry { tag_ttl: Duration::ZERO, ..insecure() }).await;
    let unspecified = PullPolicy::Unspecified;
    bench.registry.push("1", &component("a"));
    bench.get(":1", unspecified).await.unwrap();
    assert_eq!(bench.get(":1", unspecified).await.unwrap().origin, ArtifactOrigin::Cache);
    assert_eq!(bench.registry.seen().last().unwrap().method, "HEAD");
    bench.registry.push("1", &component("moved"));
    assert_eq!(bench.get(":1", unspecified).await.unwrap().bytes, component("moved"));

    bench.artifacts.apply(insecure());
    let before = bench.registry.seen().len();
    bench.registry.push("1", &component("moved again"));
    assert_eq!(bench.get(":1", unspecified).await.unwrap().bytes, component("moved"));
    assert_eq!(bench.registry.seen().len(), before);
}

#[tokio::test]
async fn an_unspecified_policy_does_without_a_registry_that_refuses_or_hangs() {
    let bench = Bench::with(Registry { tag_ttl: Duration::ZERO, ..insecure() }).await;
    bench.registry.push("1", &component("a"));
    bench.get(":1", PullPolicy::Unspecified).await.unwrap();
    bench.registry.trouble("/manifests/", [Trouble::Status(403, "", "no"), Trouble::Status(403, "", "no")]);
    assert_eq!(bench.get(":1", PullPolicy::Unspecified).await.unwrap().origin, ArtifactOrigin::Cache);
    bench.registry.always("/manifests/", Trouble::Hang);
    let artifact = bench.get(":1", PullPolicy::Unspecified).await.unwrap();
    assert_eq!(artifact.origin, ArtifactOrigin::Cache);
    assert!(artifact.took < Duration::from_secs(4), "{:?}", artifact.took);
}

#[tokio::test]
async fn a_damaged_copy_is_pulled_again_and_with_never_an_error() {
    let bench = Bench::new().await;
    let wasm = component("a");
    bench.registry.push("1", &wasm);
    bench.get(":1", PullPolicy::IfNotPresent).await.unwrap();
    fs::write(bench.blob(&wasm), [&wasm[..wasm.len() - 1], b"!"].concat()).unwrap();
    let artifact = bench.get(":1", PullPolicy::IfNotPresent).await.unwrap();
    assert_eq!((&artifact.bytes[..], artifact.origin), (&wasm[..], ArtifactOrigin::Registry));
    assert_eq!(fs::read(bench.blob(&wasm)).unwrap(), wasm);

    fs::write(bench.blob(&wasm), &wasm[..100]).unwrap();
    let (error, _) = bench.fails(":1", PullPolicy::Never).await;
    assert!(error.contains("is damaged and pull policy is 'Never'"), "{error}");
}

#[tokio::test]
async fn twenty_gets_at_once_are_one_layer_request() {
    let bench = Bench::new().await;
    bench.registry.push("1", &component("a"));
    let gets = (0..20).map(|_| bench.get(":1", PullPolicy::Always));
    let artifacts = futures::future::try_join_all(gets).await.unwrap();
    assert!(artifacts.iter().all(|artifact| artifact.bytes == component("a")));
    assert_eq!(bench.registry.count("/blobs/"), 1);
}

#[tokio::test]
async fn a_cancelled_get_leaves_the_pull_to_others() {
    let bench = Bench::new().await;
    bench.registry.push("1", &component("a"));
    let image = bench.registry.image(":1");
    tokio::select! {
        biased;
        result = get(&bench.artifacts, &image, PullPolicy::IfNotPresent, None) => panic!("too early: {result:?}"),
        () = bench.registry.until_seen("/manifests/", 1) => {}
    }
    let artifact = bench.get(":1", PullPolicy::IfNotPresent).await.unwrap();
    assert_eq!(artifact.bytes, component("a"));
    assert_eq!(bench.registry.count("/blobs/"), 1);
}
