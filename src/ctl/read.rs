//! The workload to start: a TOML file in the shape of `[[workloads]]`, JSON as on the wire, or a few flags.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::files::read_regular;
use crate::config::{Base, FILE_BYTES_MAX, FileInput, Problem, Problems, Sources, StaticWorkload, load};
use crate::control::tool;
use crate::types::{ArtifactSource, WorkloadSpec};

/// The simplest workload: one component that may answer HTTP.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shorthand {
    pub(crate) image: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) http_host: Option<String>,
}

/// Why there is no workload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The TOML file is wrong; each problem has its place.
    #[error("{}", .0.text())]
    Problems(Problems),
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("{} is not JSON", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// Several, or none.
    #[error("{} lists {} workloads: pick one with --workload{}", path.display(), names.len(), list(names))]
    Count {
        /// Which file.
        path: PathBuf,
        /// What they are called.
        names: Vec<String>,
    },
    /// A host would refuse it.
    #[error("no host would take this workload: {0}")]
    Refused(String),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

impl Shorthand {
    /// As a request carries it.
    pub(crate) fn workload(&self) -> Result<Value, ReadError> {
        let Self { image, name, namespace, http_host } = self;
        let interfaces: Vec<Value> = http_host
            .iter()
            .map(|host| {
                json!({
                    "namespace": "wasi",
                    "package": "http",
                    "interfaces": ["incoming-handler"],
                    "config": { "host": host },
                })
            })
            .collect();
        checked(json!({
            "namespace": namespace,
            "name": name,
            "witWorld": { "components": [{ "name": name, "image": image }], "hostInterfaces": interfaces },
        }))
    }
}

/// The workload in the file at `path`; if there are several, the one called `name`.
pub(crate) fn read_workload(path: &Path, name: Option<&str>) -> Result<Value, ReadError> {
    let bytes_max = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let bytes = read_regular(path, bytes_max).map_err(|source| ReadError::Read { path: path.to_owned(), source })?;
    if bytes.trim_ascii_start().first() == Some(&b'{') { of_json(path, &bytes) } else { of_toml(path, bytes, name) }
}

/// A start request, or the workload in one.
fn of_json(path: &Path, bytes: &[u8]) -> Result<Value, ReadError> {
    let document: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|source| ReadError::Json { path: path.to_owned(), source })?;
    checked(document.get("workload").cloned().unwrap_or(Value::Object(document)))
}

fn of_toml(path: &Path, bytes: Vec<u8>, name: Option<&str>) -> Result<Value, ReadError> {
    let file = FileInput { path: path.to_owned(), bytes };
    let sources = Sources {
        base: Base::Standalone,
        file: Some(file),
        working_dir: std::env::current_dir().unwrap_or_default(),
        ..Sources::default()
    };
    // No file is needed for what a host pulls; one that the text names is told below.
    let read = |_path: &Path| Ok(Vec::new());
    let loaded = load(&sources, &read).map_err(ReadError::Problems)?;
    let is_wanted = |workload: &&StaticWorkload| name.is_none_or(|name| workload.spec.name == name);
    let wanted: Vec<&StaticWorkload> = loaded.config.workloads.iter().filter(is_wanted).collect();
    let [workload] = wanted.as_slice() else {
        let names = loaded.config.workloads.iter().map(|workload| workload.spec.name.clone()).collect();
        return Err(ReadError::Count { path: path.to_owned(), names });
    };
    refuse_files(&workload.spec)?;
    checked(tool::workload(&workload.spec))
}

/// A file of this machine means nothing to a host.
fn refuse_files(spec: &WorkloadSpec) -> Result<(), ReadError> {
    let images = spec.components.iter().map(|component| &component.image);
    let mut images = images.chain(spec.service.iter().map(|service| &service.image));
    match images.find(|image| matches!(image, ArtifactSource::File(_))) {
        None => Ok(()),
        Some(image) => {
            let reason = format!("a host pulls its images from a registry, and {image} is a file of this machine");
            Err(ReadError::Refused(reason))
        }
    }
}

fn checked(workload: Value) -> Result<Value, ReadError> {
    tool::check(&workload).map_err(ReadError::Refused)?;
    Ok(workload)
}

impl ReadError {
    /// The problems of a TOML file, which have a form of their own.
    pub(crate) fn problems(&self) -> Option<&[Problem]> {
        match self {
            Self::Problems(Problems(problems)) => Some(problems),
            Self::Read { .. } | Self::Json { .. } | Self::Count { .. } | Self::Refused(_) => None,
        }
    }
}
