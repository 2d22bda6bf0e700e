//! Registries, layers and disks that are not as they should be.

use super::*;

#[tokio::test]
async fn passing_failures_are_tried_again() {
    let bench = Bench::new().await;
    bench.registry.push("1", &component("a"));
    bench
        .registry
        .trouble("/manifests/", [Trouble::Status(503, "", "soon"), Trouble::Status(429, "retry-after: 1\r\n", "")]);
    bench.registry.trouble("/blobs/", [Trouble::Status(500, "", ""), Trouble::CutAfter(100)]);
    assert_eq!(bench.get(":1", PullPolicy::Always).await.unwrap().bytes, component("a"));
    assert_eq!((bench.registry.count("/manifests/"), bench.registry.count("/blobs/")), (3, 3));
    assert_eq!(bench.registry.seen().last().unwrap().headers["range"], "bytes=100-", "the rest was asked for");
}

#[tokio::test]
async fn retries_end() {
    let bench = Bench::with(Registry { pull_retries: 1, ..insecure() }).await;
    bench.registry.always("/manifests/", Trouble::Status(503, "", "down for\r\nmaintenance"));
    let (error, blame) = bench.fails(":1", PullPolicy::IfNotPresent).await;
    let (image, name) = (bench.registry.image(":1"), bench.registry.name());
    let expected = format!(
        "failed to pull component from {image}: cannot get the manifest from registry {name}: it answered 503: \
         down for  maintenance"
    );
    assert_eq!((error, blame), (expected, Blame::Remote));
    assert_eq!(bench.registry.count("/manifests/"), 2);
}

#[tokio::test]
async fn permanent_failures_are_not_tried_again() {
    for status in [401, 403, 404] {
        let bench = Bench::new().await;
        bench.registry.always("/manifests/", Trouble::Status(status, "", "no"));
        let (error, blame) = bench.fails(":1", PullPolicy::IfNotPresent).await;
        assert!(error.contains(&status.to_string()), "{error}");
        assert_eq!((bench.registry.count("/manifests/"), blame), (1, Blame::Workload));
    }
}

#[tokio::test]
async fn layers_that_are_not_what_the_manifest_says_are_refused_at_once() {
    let wasm = component("a");
    let longer = [&wasm[..], &[0; 100_000]].concat();
    let other = component("b");
    for (size, sent, expected) in [
        (wasm.len(), other, "not what its digest says"),
        (wasm.len(), longer, "more bytes than"),
        (wasm.len() - 1, wasm.clone(), "more bytes than"),
        (wasm.len() + 1, wasm.clone(), "fewer bytes than"),
        (300 << 20, wasm.clone(), "more than registry.max_artifact_size, 256MiB"),
    ] {
        let bench = Bench::new().await;
        bench.registry.push_manifest("1", &wasm, size, "application/wasm");
        bench.registry.always("/blobs/", Trouble::Body(sent));
        let (error, _) = bench.fails(":1", PullPolicy::IfNotPresent).await;
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(bench.registry.count("/blobs/") <= 1 && !bench.blob(&wasm).exists());
        let left = fs::read_dir(bench.home.path().join("blobs/sha256")).unwrap().count();
        assert_eq!(left, 0, "nothing is left behind");
    }
}

#[tokio::test]
async fn what_is_no_component_is_named_and_not_cached() {
    let module = wat::parse_str("(module)").unwrap();
    for (layer, expected) in [
        (&module[..], "it is a core module"),
        (b"\x7fELF code", "precompiled"),
        (b"hello", "it is text"),
        (b"", "it is empty"),
        (&component("a")[..200], "truncated"),
    ] {
        let bench = Bench::new().await;
        bench.registry.push("1", layer);
        let (error, blame) = bench.fails(":1", PullPolicy::IfNotPresent).await;
        assert!(error.contains(expected) && blame == Blame::Workload, "{error}");
        assert!(!bench.blob(layer).exists());
    }
    let bench = Bench::new().await;
    bench.registry.push_manifest("1", b"x", 1, "text/plain");
    let (error, _) = bench.fails(":1", PullPolicy::IfNotPresent).await;
    assert!(error.contains("none of its layers is WebAssembly; found: text/plain"), "{error}");
}

#[tokio::test]
async fn a_registry_that_hangs_is_given_up_at_the_deadline() {
    let bench = Bench::with(Registry { pull_timeout: Duration::from_millis(300), ..insecure() }).await;
    bench.registry.push("1", &component("a"));
    bench.registry.always("/blobs/", Trouble::Hang);
    let (error, blame) = bench.fails(":1", PullPolicy::IfNotPresent).await;
    let image = bench.registry.image(":1");
    assert_eq!(error, format!("timeout pulling component from {image} after 300ms: deadline has elapsed"));
    assert_eq!(blame, Blame::Remote);
}

#[tokio::test]
async fn hanging_registries_hold_up_no_other_pull() {
    let bench = Bench::new().await;
    bench.registry.push("1", &component("a"));
    let hanging = FakeRegistry::start().await;
    hanging.always("/manifests/", Trouble::Hang);
    let images: Vec<String> = (0..20).map(|n| hanging.image(&format!(":{n}"))).collect();
    let stuck = images.iter().map(|image| get(&bench.artifacts, image, PullPolicy::Always, None));
    let other = async {
        hanging.until_seen("/manifests/", 20).await;
        bench.get(":1", PullPolicy::Always).await.unwrap()
    };
    tokio::select! {
        _results = futures::future::join_all(stuck) => panic!("nothing should have come of these"),
        artifact = other => assert_eq!(artifact.bytes, component("a")),
    }
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_to_costs_only_pulls() {
    let registry = FakeRegistry::start().await;
    registry.push("1", &component("a"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let artifacts = open(&file.path().join("cache"), insecure());
    for _ in 0..2 {
        let artifact = get(&artifacts, &registry.image(":1"), PullPolicy::IfNotPresent, None).await.unwrap();
        assert_eq!((&artifact.bytes[..], artifact.origin), (&component("a")[..], ArtifactOrigin::Registry));
    }
}
