//! Where configurations come from: the file and what it refers to, the environment and the flags.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt as _};
use tracing::warn;

use crate::config::files::{
    FileRead, Files, REFERENCED_BYTES_MAX, ReadFailure, Snapshot, Urgency, Writers, read_regular,
};
use crate::config::{self, Config, ConfigDiff, FileInput, FlagValue, Problem, Problems, Severity, Sources};
use crate::daemon::Launch;
use crate::error::Blame;
use crate::reload::{Change, ConfigSource, Loaded, Reason, Rejection, SettledFiles};
use crate::task;

/// Begins each block of a PEM file.
const PEM_MARK: &[u8] = b"-----BEGIN ";

/// Environment and flags are captured once and laid over the file at every reload, so that precedence never changes
/// while the process runs.
pub(super) struct FileSource {
    files: SettledFiles,
    layers: Arc<Layers>,
    /// Whether a configuration was loaded before: then there is something to keep.
    has_loaded: Arc<AtomicBool>,
    /// Warnings that were logged: each is worth one line, not one a reload.
    warned: Arc<Mutex<BTreeSet<String>>>,
}

/// All layers but the bytes of the file.
#[derive(Debug)]
struct Layers {
    path: Option<PathBuf>,
    env: Vec<(String, String)>,
    flags: Vec<FlagValue>,
    working_dir: PathBuf,
}

impl Layers {
    fn with(&self, bytes: Option<&[u8]>) -> Sources {
        let file = match (&self.path, bytes) {
            (Some(path), Some(bytes)) => Some(FileInput { path: path.clone(), bytes: bytes.to_vec() }),
            (Some(_), None) | (None, _) => None,
        };
        let (env, flags) = (self.env.clone(), self.flags.clone());
        Sources { file, env, flags, working_dir: self.working_dir.clone(), tolerate_missing_images: false }
    }

    /// The files that a configuration asks for while it is loaded.
    fn references(&self, bytes: Option<&[u8]>) -> Vec<PathBuf> {
        let asked = Mutex::new(BTreeSet::new());
        let read = |path: &Path| {
            asked.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
            read_regular(path, REFERENCED_BYTES_MAX)
        };
        // Wrong or not: what it asks for is watched, so that a wrong file that is put right is noticed.
        drop(config::load(&self.with(bytes), &read));
        asked.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
    }

    /// Whether files do not fit together that may be in the middle of being replaced: a certificate and its key.
    fn is_doubtful(&self, snapshot: &Snapshot) -> bool {
        let is_pem = |file: &FileRead| match file {
            FileRead::Present { bytes: Some(bytes), .. } => bytes.windows(PEM_MARK.len()).any(|part| part == PEM_MARK),
            FileRead::Present { bytes: None, .. } | FileRead::Absent { .. } => false,
        };
        let problems = || config::load(&self.with(snapshot.config.as_deref()), &|path| snapshot.read(path)).err();
        snapshot.files.values().any(is_pem)
            && problems().is_some_and(|Problems(problems)| problems.iter().any(|problem| problem.may_pass))
    }
}

impl FileSource {
    pub(super) fn new(launch: Launch) -> Self {
        let layers = Arc::new(Layers {
            path: launch.config_path,
            env: config::env::capture(),
            flags: launch.flags,
            working_dir: std::env::current_dir().unwrap_or_default(),
        });
        let of_files = Arc::clone(&layers);
        let references = Box::new(move |bytes: Option<&[u8]>| of_files.references(bytes));
        let of_doubt = Arc::clone(&layers);
        let doubt = Box::new(move |snapshot: &Snapshot| of_doubt.is_doubtful(snapshot));
        let files = SettledFiles::new(Files::new(layers.path.clone(), references).doubting(doubt));
        Self { files, layers, has_loaded: Arc::default(), warned: Arc::default() }
    }
}

impl ConfigSource for FileSource {
    fn read(&mut self, urgency: Urgency) -> BoxFuture<'_, Result<Snapshot, ReadFailure>> {
        self.files.read(urgency).boxed()
    }

    fn writers(&self) -> Writers {
        self.files.writers()
    }

    fn load(&mut self, snapshot: Arc<Snapshot>) -> BoxFuture<'_, Result<Loaded, Rejection>> {
        let (layers, warned) = (Arc::clone(&self.layers), Arc::clone(&self.warned));
        let has_loaded = Arc::clone(&self.has_loaded);
        let load = move || {
            let tolerate_missing_images = !has_loaded.load(Ordering::SeqCst);
            let sources = Sources { tolerate_missing_images, ..layers.with(snapshot.config.as_deref()) };
            let loaded = config::load(&sources, &|path| snapshot.read(path)).map_err(rejection)?;
            has_loaded.store(true, Ordering::SeqCst);
            warn_once(&loaded.warnings, &warned);
            Ok(Loaded {
                plugins_switched_off: switched_off(&loaded),
                file_hash: sources.file.is_some().then_some(loaded.file_hash),
                config: loaded.config,
            })
        };
        async move {
            task::blocking("load configuration", load).await.unwrap_or_else(|| {
                Err(Rejection {
                    reason: Reason::Invalid,
                    blame: Blame::Host,
                    passing: false,
                    errors: vec!["reading the configuration panicked, which is a bug".to_owned()],
                })
            })
        }
        .boxed()
    }

    fn effective(&self, live: &Config, new: &Config) -> Result<Config, Rejection> {
        let (effective, _waiting) = config::diff::effective(live, new);
        Ok(effective)
    }

    fn changes(&self, old: &Config, new: &Config) -> Vec<Change> {
        let ConfigDiff { changed } = ConfigDiff::between(old, new);
        changed.into_iter().map(|change| Change { key: change.key, verb: change.verb.as_str() }).collect()
    }
}

fn rejection(problems: Problems) -> Rejection {
    let errors = problems.0.iter().filter(|problem| problem.severity == Severity::Error);
    Rejection {
        reason: Reason::Invalid,
        blame: Blame::Configuration,
        passing: false,
        errors: errors.map(Problem::to_string).collect(),
    }
}

fn warn_once(warnings: &[Problem], warned: &Mutex<BTreeSet<String>>) {
    let mut warned = warned.lock().unwrap_or_else(PoisonError::into_inner);
    for warning in warnings {
        let text = warning.to_string();
        if !warned.contains(&text) {
            warn!(problem = %text, "configuration warning");
            warned.insert(text);
        }
    }
}

/// Plugins that the configuration names with `enabled = false`: a statement, not an absence.
pub(super) fn switched_off(loaded: &config::Loaded) -> Vec<String> {
    loaded
        .values
        .iter()
        .filter(|value| value.value == serde_json::Value::Bool(false))
        .filter_map(|value| value.key.strip_prefix("plugins.")?.strip_suffix(".enabled").map(str::to_owned))
        .collect()
}
