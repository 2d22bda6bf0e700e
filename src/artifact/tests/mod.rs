//! Tests of pulls against a registry in this process.

mod login;
mod policy;
mod registry;
mod trouble;

use std::fs;
use std::path::Path;

use super::*;
use crate::config::{Registry, RegistryHost, Secret};
use crate::error::{Blame, Chain};
use registry::{FakeRegistry, Trouble};

/// A component whose bytes differ by `name`.
fn component(name: &str) -> Vec<u8> {
    let text = format!("(component (core module (@custom \"{name}\" \"{}\")))", "x".repeat(1000));
    wat::parse_str(&text).unwrap()
}

fn insecure() -> Registry {
    Registry { allow_insecure: true, pull_timeout: Duration::from_secs(10), ..Registry::default() }
}

/// Artifacts with a cache that the test can look into.
struct Bench {
    home: tempfile::TempDir,
    artifacts: Artifacts,
    registry: FakeRegistry,
}

impl Bench {
    async fn new() -> Self {
        Self::with(insecure()).await
    }

    async fn with(settings: Registry) -> Self {
        let home = tempfile::tempdir().unwrap();
        let artifacts = open(home.path(), settings);
        Self { home, artifacts, registry: FakeRegistry::start().await }
    }

    async fn get(&self, version: &str, policy: PullPolicy) -> Result<Artifact, ArtifactError> {
        get(&self.artifacts, &self.registry.image(version), policy, None).await
    }

    /// The whole error of a get that fails.
    async fn fails(&self, version: &str, policy: PullPolicy) -> (String, Blame) {
        let error = self.get(version, policy).await.unwrap_err();
        (Chain(&error).to_string(), error.blame())
    }

    fn blob(&self, bytes: &[u8]) -> std::path::PathBuf {
        self.home.path().join("blobs/sha256").join(Digest::of(bytes).hex())
    }
}

fn open(directory: &Path, settings: Registry) -> Artifacts {
    Artifacts::open(&config::Artifacts { cache_dir: Some(directory.to_owned()) }, settings).unwrap()
}

async fn get(
    artifacts: &Artifacts,
    image: &str,
    policy: PullPolicy,
    secret: Option<&PullSecret>,
) -> Result<Artifact, ArtifactError> {
    let source = ArtifactSource::Oci(image.to_owned());
    artifacts.get(ArtifactRequest { source: &source, policy, secret }).await
}

fn secret(password: &str) -> PullSecret {
    PullSecret { username: "user".to_owned(), password: password.to_owned() }
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_by_digest() {
    let bench = Bench::new().await;
    let wasm = component("a");
    let manifest = bench.registry.push("1", &wasm);
    for version in [":1".to_owned(), format!("@{manifest}"), format!(":gone@{manifest}")] {
        let artifact = bench.get(&version, PullPolicy::Always).await.unwrap();
        assert_eq!((artifact.digest, &artifact.bytes[..]), (Digest::of(&wasm), &wasm[..]));
    }
    assert_eq!(bench.registry.count("/blobs/"), 1, "the layer is known by its digest");
    assert_eq!(fs::read(bench.blob(&wasm)).unwrap(), wasm);
}

#[tokio::test]
async fn the_layer_of_older_tools_and_the_wasm_entry_of_an_index_are_taken() {
    let bench = Bench::new().await;
    let wasm = component("old");
    let old = "application/vnd.module.wasm.content.layer.v1+wasm";
    let manifest = bench.registry.push_manifest("old", &wasm, wasm.len(), old);
    let index = "application/vnd.oci.image.index.v1+json";
    let entry = |digest: &Digest, architecture: &str| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(), "size": 1,
            "platform": {"os": "wasi", "architecture": architecture},
        })
    };
    let entries = [entry(&Digest::of(b""), "amd64"), entry(&manifest, "wasm")];
    let digest =
        bench.registry.push_document("multi", index, &serde_json::json!({"schemaVersion": 2, "manifests": entries}));
    for version in [":old".to_owned(), ":multi".to_owned(), format!("@{digest}")] {
        assert_eq!(bench.get(&version, PullPolicy::Unspecified).await.unwrap().bytes, wasm);
    }
}

#[tokio::test]
async fn a_file_is_read_anew_each_time_and_checked() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.wasm");
    let size_max = crate::types::ByteSize::bytes(2000);
    let artifacts = open(home.path(), Registry { max_artifact_size: size_max, ..Registry::default() });
    let source = ArtifactSource::File(path.clone());
    let read = || artifacts.get(ArtifactRequest { source: &source, policy: PullPolicy::IfNotPresent, secret: None });
    for wasm in [component("a"), component("b")] {
        fs::write(&path, &wasm).unwrap();
        let artifact = read().await.unwrap();
        assert_eq!((artifact.digest, artifact.origin), (Digest::of(&wasm), ArtifactOrigin::File));
    }
    for (content, expected) in [
        (&b"(component)"[..], "cannot use {} as a component: it is text, not a component in binary form"),
        (&[0; 2001], "{} is larger than registry.max_artifact_size, 2000B"),
    ] {
        fs::write(&path, content).unwrap();
        let error = read().await.unwrap_err();
        assert_eq!(Chain(&error).to_string(), expected.replace("{}", &path.display().to_string()));
    }
    fs::remove_file(&path).unwrap();
    assert!(Chain(&read().await.unwrap_err()).to_string().starts_with("cannot read "));
    fs::create_dir(&path).unwrap();
    assert!(read().await.unwrap_err().to_string().ends_with(" is not a file"));
}

#[tokio::test]
async fn a_misspelt_reference_is_the_workloads_fault() {
    let bench = Bench::new().await;
    let error = get(&bench.artifacts, "ghcr.io/Upper/Case:1", PullPolicy::Always, None).await.unwrap_err();
    assert!(Chain(&error).to_string().starts_with("invalid image reference `ghcr.io/Upper/Case:1`: the repository"));
    assert_eq!(error.blame(), Blame::Workload);
}
