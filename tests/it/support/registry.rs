//! Pushing components to the OCI registry that `scripts/test` started.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, LOCATION};
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::http::{Answer, full, send};
use super::server;

/// The media type of a manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

/// The content of the one config blob; registries want one, nobody reads it.
const EMPTY: &[u8] = b"{}";

/// The registry, over plain HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    addr: SocketAddr,
}

impl Registry {
    /// The one that `scripts/test` started. Tests share it: a name is the test's own.
    pub(crate) fn shared() -> Self {
        let addr = server("WASHLET_TEST_REGISTRY").parse().expect("WASHLET_TEST_REGISTRY is an address");
        Self { addr }
    }

    /// Where it listens, the first part of an image reference.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The reference of an image of it.
    pub(crate) fn image(&self, name: &str, tag: &str) -> String {
        format!("{}/{name}:{tag}", self.addr)
    }

    /// Pushes `wasm` as `name:tag` and returns the digest of its manifest.
    pub(crate) async fn push(&self, name: &str, tag: &str, wasm: impl Into<Bytes>) -> String {
        let wasm = wasm.into();
        let manifest = manifest(&wasm);
        self.push_blob(name, wasm).await;
        self.push_blob(name, EMPTY.into()).await;
        let digest = digest(&manifest);
        let path = format!("/v2/{name}/manifests/{tag}");
        let answer = self.send(Method::PUT, &path, Some(MANIFEST), manifest).await;
        assert_eq!(answer.status, StatusCode::CREATED, "manifest of {name}:{tag}: {}", answer.text());
        digest
    }

    async fn push_blob(&self, name: &str, blob: Bytes) {
        let started = self.send(Method::POST, &format!("/v2/{name}/blobs/uploads/"), None, Bytes::new()).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "upload of a blob of {name}: {}", started.text());
        let location = started.headers.get(LOCATION).expect("a place to upload to").to_str().expect("plain text");
        let location: hyper::Uri = location.parse().expect("a URI");
        let path = location.path_and_query().expect("a path").as_str();
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}digest={}", digest(&blob));
        let ended = self.send(Method::PUT, &path, Some("application/octet-stream"), blob).await;
        assert_eq!(ended.status, StatusCode::CREATED, "blob of {name}: {}", ended.text());
    }

    async fn send(&self, method: Method, path: &str, content_type: Option<&str>, body: Bytes) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.addr.to_string());
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        send(self.addr, request.body(full(body)).expect("a valid request")).await
    }
}

/// The manifest of a component.
pub(crate) fn manifest(wasm: &[u8]) -> Bytes {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": digest(EMPTY), "size": EMPTY.len() },
        "layers": [{ "mediaType": LAYER, "digest": digest(wasm), "size": wasm.len() }],
    });
    manifest.to_string().into()
}

/// `sha256:…` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}
