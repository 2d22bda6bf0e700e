//! Which manifest of an index and which layer of a manifest hold the component; pure.

use serde::Deserialize;

use crate::types::digest::Digest;

/// Media types that a registry may answer with, in the order of preference.
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Media types of a layer that is a component: today's, and the one that older tools pushed.
const WASM_LAYER_TYPES: [&str; 2] = ["application/wasm", "application/vnd.module.wasm.content.layer.v1+wasm"];
/// Enough to see what an index or a manifest is about without letting it fill an error.
const LISTED_MAX: usize = 16;

/// What a manifest leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Manifest {
    /// The layer with the component.
    Image(Layer),
    /// The manifest to read instead.
    Index(Digest),
}

/// A layer as its manifest announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layer {
    /// Of its bytes.
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
}

/// Why a manifest leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("it is not a manifest")]
    Parse(#[source] serde_json::Error),
    #[error("manifests of the type {0} are not supported")]
    Type(String),
    #[error("it has neither layers nor manifests")]
    Shape,
    #[error("none of its layers is WebAssembly; found: {0}")]
    NoWasmLayer(String),
    #[error("it has several platforms and none with the architecture wasm; found: {0}")]
    NoWasmPlatform(String),
    #[error("its digest `{0}` is not of the form sha256:<64 hex digits>")]
    Digest(String),
    #[error("the size {0} of its layer cannot be")]
    Size(i64),
    #[error("an index leads to another index")]
    NestedIndex,
}

/// The fields that matter; registries and tools add others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: i64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// Reads a manifest or an index.
pub(super) fn read(body: &[u8]) -> Result<Manifest, ManifestError> {
    let document: Document = serde_json::from_slice(body).map_err(ManifestError::Parse)?;
    if let Some(media_type) = document.media_type
        && !MANIFEST_TYPES.contains(&media_type.as_str())
    {
        return Err(ManifestError::Type(shortened(&media_type)));
    }
    match (document.layers, document.manifests) {
        (Some(layers), _) => choose_layer(&layers).map(Manifest::Image),
        (None, Some(manifests)) => choose_manifest(&manifests).map(Manifest::Index),
        (None, None) => Err(ManifestError::Shape),
    }
}

/// The first layer that is WebAssembly.
fn choose_layer(layers: &[Descriptor]) -> Result<Layer, ManifestError> {
    let layer = layers
        .iter()
        .find(|layer| WASM_LAYER_TYPES.contains(&layer.media_type.as_str()))
        .ok_or_else(|| ManifestError::NoWasmLayer(listed(layers.iter().map(|l| l.media_type.clone()))))?;
    let size = u64::try_from(layer.size).map_err(|_negative| ManifestError::Size(layer.size))?;
    Ok(Layer { digest: digest_of(layer)?, size })
}

/// The manifest for WebAssembly, whatever the system; else the only one.
fn choose_manifest(manifests: &[Descriptor]) -> Result<Digest, ManifestError> {
    let is_wasm = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| p.architecture == "wasm");
    match (manifests.iter().find(is_wasm), manifests) {
        (Some(entry), _) | (None, [entry]) => digest_of(entry),
        (None, _) => Err(ManifestError::NoWasmPlatform(listed(manifests.iter().map(|entry| {
            entry.platform.as_ref().map_or_else(|| "unknown".to_owned(), |p| format!("{}/{}", p.os, p.architecture))
        })))),
    }
}

fn digest_of(descriptor: &Descriptor) -> Result<Digest, ManifestError> {
    descriptor.digest.parse().map_err(|_reason| ManifestError::Digest(shortened(&descriptor.digest)))
}

fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let rest = names.len().saturating_sub(LISTED_MAX);
    let mut text = names.take(LISTED_MAX).map(|name| shortened(&name)).collect::<Vec<_>>().join(", ");
    match (text.is_empty(), rest) {
        (true, _) => "none".clone_into(&mut text),
        (false, 0) => {}
        (false, rest) => text.push_str(&format!(" and {rest} more")),
    }
    text
}

/// Text of a stranger, fit for one line of an error.
pub(super) fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, content: &str, platform: Option<(&str, &str)>) -> serde_json::Value {
        let mut value = serde_json::json!({
            "mediaType": media_type, "digest": Digest::of(content.as_bytes()).to_string(), "size": content.len(),
        });
        if let Some((os, architecture)) = platform {
            value["platform"] = serde_json::json!({"os": os, "architecture": architecture});
        }
        value
    }

    fn image(layers: Vec<serde_json::Value>) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "config": {}, "layers": layers})).unwrap()
    }

    fn index(entries: Vec<serde_json::Value>) -> Vec<u8> {
        let value = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPES[1], "manifests": entries});
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn the_first_wasm_layer_is_taken_under_both_media_types() {
        for media_type in WASM_LAYER_TYPES {
            let layers = vec![
                descriptor("text/markdown", "readme", None),
                descriptor(media_type, "wasm", None),
                descriptor("application/wasm", "later", None),
            ];
            let layer = Layer { digest: Digest::of(b"wasm"), size: 4 };
            assert_eq!(read(&image(layers)).unwrap(), Manifest::Image(layer));
        }
    }

    #[test]
    fn a_manifest_without_wasm_names_what_it_has() {
        let layers = vec![descriptor("text/a", "a", None), descriptor("text/b", "b", None)];
        let error = read(&image(layers)).unwrap_err().to_string();
        assert_eq!(error, "none of its layers is WebAssembly; found: text/a, text/b");
        assert!(read(&image(vec![])).unwrap_err().to_string().ends_with("found: none"));
    }

    #[test]
    fn an_index_leads_to_its_wasm_entry_or_its_only_entry() {
        let linux = || descriptor(MANIFEST_TYPES[0], "linux", Some(("linux", "amd64")));
        let wasm = descriptor(MANIFEST_TYPES[0], "wasm", Some(("wasip2", "wasm")));
        assert_eq!(read(&index(vec![linux(), wasm])).unwrap(), Manifest::Index(Digest::of(b"wasm")));
        assert_eq!(read(&index(vec![linux()])).unwrap(), Manifest::Index(Digest::of(b"linux")));
        let attestation = descriptor(MANIFEST_TYPES[0], "att", None);
        let error = read(&index(vec![linux(), attestation])).unwrap_err().to_string();
        assert!(error.ends_with("found: linux/amd64, unknown"), "{error}");
        assert!(read(&index(vec![])).unwrap_err().to_string().ends_with("found: none"));
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let mut wrong_digest = descriptor("application/wasm", "wasm", None);
        wrong_digest["digest"] = "sha256:../../etc/passwd".into();
        assert!(matches!(read(&image(vec![wrong_digest])), Err(ManifestError::Digest(_))));
        let mut negative = descriptor("application/wasm", "wasm", None);
        negative["size"] = (-1).into();
        assert!(matches!(read(&image(vec![negative])), Err(ManifestError::Size(-1))));
        assert!(matches!(read(b"{}"), Err(ManifestError::Shape)));
        assert!(matches!(read(b"<html>"), Err(ManifestError::Parse(_))));
        assert!(matches!(read(br#"{"mediaType":"x","layers":[]}"#), Err(ManifestError::Type(_))));
    }
}
