//! Who may have what, and where a login goes.

use super::*;

#[tokio::test]
async fn a_private_image_needs_a_login_even_when_it_is_cached() {
    let bench = Bench::new().await;
    bench.registry.push("1", &component("a"));
    bench.registry.require("dXNlcjpyaWdodA==");
    let image = bench.registry.image(":1");
    let (right, wrong, empty) =
        (secret("right"), secret("wrong"), PullSecret { username: String::new(), ..secret("") });
    get(&bench.artifacts, &image, PullPolicy::IfNotPresent, Some(&right)).await.unwrap();
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never, PullPolicy::Unspecified, PullPolicy::Always] {
        for (secret, login) in [
            (None, "anonymous access"),
            (Some(&empty), "anonymous access"),
            (Some(&wrong), "the login of the image pull secret"),
        ] {
            let error = get(&bench.artifacts, &image, policy, secret).await.unwrap_err();
            let text = Chain(&error).to_string();
            assert!(text.contains(&format!("refused {login} with 401")), "{policy:?}: {text}");
            assert!(!text.contains("wrong") && !format!("{error:?}").contains("wrong"));
        }
        assert!(
            bench
                .registry
                .seen()
                .iter()
                .all(|seen| seen.headers.get("authorization").is_none_or(|h| h != "Basic Og=="))
        );
    }
    let before = bench.registry.seen().len();
    get(&bench.artifacts, &image, PullPolicy::Never, Some(&right)).await.unwrap();
    assert_eq!(bench.registry.seen().len(), before, "the login that fetched it is known");
    for entry in fs::read_dir(bench.home.path().join("refs")).unwrap() {
        assert!(!fs::read_to_string(entry.unwrap().path()).unwrap().contains("right"));
    }
}

#[tokio::test]
async fn another_login_that_the_registry_accepts_shares_the_cached_copy() {
    let bench = Bench::new().await;
    bench.registry.push("1", &component("a"));
    let image = bench.registry.image(":1");
    get(&bench.artifacts, &image, PullPolicy::IfNotPresent, Some(&secret("one"))).await.unwrap();
    let two = secret("two");
    for _ in 0..2 {
        let artifact = get(&bench.artifacts, &image, PullPolicy::IfNotPresent, Some(&two)).await.unwrap();
        assert_eq!(artifact.origin, ArtifactOrigin::Cache);
    }
    assert_eq!((bench.registry.count("/manifests/"), bench.registry.count("/blobs/")), (2, 1));
}

#[tokio::test]
async fn plain_http_and_logins_are_settings_of_one_registry() {
    let bench = Bench::with(Registry { pull_retries: 0, ..Registry::default() }).await;
    bench.registry.push("1", &component("a"));
    bench.registry.require("dXNlcjpyaWdodA==");
    let (error, _) = bench.fails(":1", PullPolicy::IfNotPresent).await;
    assert!(error.contains(&format!("registry {}", bench.registry.name())), "{error}");
    assert_eq!(bench.registry.seen().len(), 0);
    let login = Some(("user".to_owned(), Secret::new("right")));
    let hosts = [(bench.registry.name(), RegistryHost { insecure: true, login })].into();
    bench.artifacts.apply(Registry { hosts, ..Registry::default() });
    bench.get(":1", PullPolicy::IfNotPresent).await.unwrap();
}

#[tokio::test]
async fn a_redirect_to_another_host_carries_no_login() {
    let bench = Bench::new().await;
    let wasm = component("a");
    bench.registry.push("1", &wasm);
    bench.registry.require("dXNlcjpyaWdodA==");
    let storage = FakeRegistry::start().await;
    storage.push("1", &wasm);
    let blob = format!("/v2/team/hello/blobs/{}", Digest::of(&wasm));
    bench.registry.always("/blobs/", Trouble::Redirect(format!("http://{}{blob}?signature=hush", storage.name())));
    let image = bench.registry.image(":1");
    get(&bench.artifacts, &image, PullPolicy::Always, Some(&secret("right"))).await.unwrap();
    assert_eq!(storage.seen().len(), 1);
    assert!(storage.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));

    fs::remove_file(bench.blob(&wasm)).unwrap();
    storage.trouble("hush", [Trouble::CutAfter(10), Trouble::Status(400, "", "bad")]);
    let error = get(&bench.artifacts, &image, PullPolicy::Always, Some(&secret("right"))).await.unwrap_err();
    assert!(!Chain(&error).to_string().contains("hush") && !format!("{error:?}").contains("hush"));
}
