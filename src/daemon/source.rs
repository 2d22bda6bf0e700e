//! Where configurations come from: the file and what it refers to, the environment and the flags.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt as _};
use tracing::warn;

use crate::config::files::{
    FileRead, Files, MOUNTINFO, Mounts, REFERENCED_BYTES_MAX, ReadFailure, Snapshot, Urgency, Writers, read_regular,
};
use crate::config::rules::{self, Broken};
use crate::config::{self, Base, Config, ConfigDiff, FileInput, FlagValue, Problem, Problems, Severity, Sources};
use crate::daemon::Launch;
use crate::error::Blame;
use crate::reload::{Change, ConfigSource, Fault, Hashes, Loaded, Reason, Rejection, SettledFiles};
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
    base: Base,
    path: Option<PathBuf>,
    env: Vec<(String, String)>,
    flags: Vec<FlagValue>,
    working_dir: PathBuf,
}

impl Layers {
    fn new(launch: Launch, env: Vec<(String, String)>) -> Self {
        let Launch { base, config_path: path, flags } = launch;
        let working_dir = std::env::current_dir().unwrap_or_default();
        Self { base, path, env, flags, working_dir }
    }

    fn with(&self, bytes: Option<&[u8]>) -> Sources {
        let file = match (&self.path, bytes) {
            (Some(path), Some(bytes)) => Some(FileInput { path: path.clone(), bytes: bytes.to_vec() }),
            (Some(_), None) | (None, _) => None,
        };
        let (env, flags) = (self.env.clone(), self.flags.clone());
        let (base, working_dir) = (self.base, self.working_dir.clone());
        Sources { base, file, env, flags, working_dir, tolerate_missing_images: false }
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
        Self::with_environment(launch, config::env::capture())
    }

    /// As [`new`](Self::new), whatever the environment of the process says.
    pub(super) fn with_environment(launch: Launch, env: Vec<(String, String)>) -> Self {
        let layers = Arc::new(Layers::new(launch, env));
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
            warn_once(&unreachable_updates(layers.path.as_deref(), &loaded.config, Path::new(MOUNTINFO)), &warned);
            Ok(Loaded {
                plugins_switched_off: switched_off(&loaded),
                origins: origins(&loaded),
                hashes: Hashes {
                    file: sources.file.is_some().then_some(loaded.file_hash),
                    config: Some(loaded.config_hash),
                },
                pinned: loaded.pinned,
                config: loaded.config,
            })
        };
        async move {
            task::blocking("load configuration", load).await.unwrap_or_else(|| {
                Err(Rejection {
                    reason: Reason::Invalid,
                    blame: Blame::Host,
                    passing: false,
                    errors: vec!["reading the configuration panicked, which is a bug".to_owned().into()],
                })
            })
        }
        .boxed()
    }

    fn effective(&self, live: &Config, new: &Config) -> Result<Config, Rejection> {
        let (effective, _waiting) = config::diff::effective(live, new);
        let errors: Vec<Fault> = contradictions(&effective).into_iter().map(Fault::from).collect();
        if errors.is_empty() {
            return Ok(effective);
        }
        Err(Rejection { reason: Reason::Invalid, blame: Blame::Configuration, passing: false, errors })
    }

    fn changes(&self, old: &Config, new: &Config) -> Vec<Change> {
        let ConfigDiff { changed } = ConfigDiff::between(old, new);
        changed.into_iter().map(|change| Change { key: change.key, verb: change.verb.as_str() }).collect()
    }
}

/// Why the configuration cannot run until a restart, although the file is right: of two keys that belong together one
/// keeps its running value.
pub(super) fn contradictions(effective: &Config) -> Vec<String> {
    let told = |Broken { key, other, message }: Broken| {
        format!("{key}: {message} ({other} keeps its running value until a restart)")
    };
    rules::broken(effective).into_iter().map(told).collect()
}

fn rejection(problems: Problems) -> Rejection {
    let errors = problems.0.iter().filter(|problem| problem.severity == Severity::Error);
    let fault = |problem: &Problem| Fault { line: problem.to_string(), parts: Some(problem.json()) };
    Rejection {
        reason: Reason::Invalid,
        blame: Blame::Configuration,
        passing: false,
        errors: errors.map(fault).collect(),
    }
}

/// Files of which no update will be seen, because they are mounts of their own. Without `/proc` nobody can tell.
pub(crate) fn unreachable_updates(path: Option<&Path>, config: &Config, mountinfo: &Path) -> Vec<Problem> {
    let Ok(mounts) = Mounts::read(mountinfo) else { return Vec::new() };
    let files = path.into_iter().chain(config.referenced_files.iter().map(PathBuf::as_path));
    mounts.of_files(files).iter().map(Problem::of_mount).collect()
}

/// How the first lines are to look, before the configuration is read for good. What they say passes the default filter:
/// a file that hides errors and is wrong would else end the process without a word.
pub(super) fn first_log(launch: &Launch) -> Option<config::Log> {
    let layers = Layers::new(launch.clone(), config::env::capture());
    let read = |path: &PathBuf| read_regular(path, u64::try_from(config::FILE_BYTES_MAX).unwrap_or(u64::MAX)).ok();
    let config::Log { level: _, format } =
        config::log_of(&layers.with(layers.path.as_ref().and_then(read).as_deref()))?;
    Some(config::Log { format, ..config::Log::default() })
}

/// Where the values of keys are from; what is in lists is not asked for.
fn origins(loaded: &config::Loaded) -> BTreeMap<String, String> {
    let single = loaded.values.iter().filter(|value| !value.key.contains('['));
    single.map(|value| (value.key.clone(), value.origin.clone())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FILE_BYTES_MAX;
    use crate::config::files::Seen;
    use crate::config::load;

    #[test]
    fn every_file_that_is_a_mount_is_warned_of_once_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let (file, token, mountinfo) = (dir.path().join("w.toml"), dir.path().join("token"), dir.path().join("mounts"));
        let line = |root: &str, point: &Path| format!("9 1 8:1 {root} {} rw - ext4 /dev/sda1 rw\n", point.display());
        std::fs::write(&mountinfo, line("/a", &file) + &line("/b//deleted", &token) + &line("/", dir.path())).unwrap();
        let config = Config { referenced_files: vec![token, dir.path().join("other")], ..Config::default() };
        let found: Vec<String> =
            unreachable_updates(Some(&file), &config, &mountinfo).iter().map(Problem::to_string).collect();
        let [of_file, of_token] = found.as_slice() else { panic!("{found:?}") };
        assert!(of_file.contains("w.toml: this file is a mount of its own: it never sees an update"), "{of_file}");
        assert!(of_token.contains("token: this file is a mount of its own, and already stale"), "{of_token}");
        assert!(found.iter().all(|text| text.ends_with("(mount the directory that holds it, without a subPath)")));
        assert_eq!(unreachable_updates(Some(&file), &config, Path::new("/nowhere")), []);
    }

    fn source(path: &Path) -> FileSource {
        FileSource::new(Launch { config_path: Some(path.to_owned()), ..Launch::default() })
    }

    fn lines(rejection: &Rejection) -> Vec<String> {
        rejection.errors.iter().map(|fault| fault.line.clone()).collect()
    }

    /// As `washlet check` reads it.
    fn check(path: &Path) -> Result<config::Loaded, Problems> {
        let bytes = read_regular(path, FILE_BYTES_MAX as u64).unwrap();
        let file = Some(FileInput { path: path.to_owned(), bytes });
        let sources = Sources { file, working_dir: std::env::current_dir().unwrap(), ..Sources::default() };
        load(&sources, &|file| read_regular(file, REFERENCED_BYTES_MAX))
    }

    /// What a start, or a reload of a running host, says of it.
    async fn verdict(path: &Path, is_start: bool) -> Result<Config, Vec<String>> {
        let mut source = source(path);
        let layers = Arc::clone(&source.layers);
        let files = Files::new(layers.path.clone(), Box::new(move |bytes| layers.references(bytes)));
        let Seen::Set(snapshot) = files.read_once() else { panic!("{}", path.display()) };
        source.has_loaded.store(!is_start, Ordering::SeqCst);
        source.load(Arc::new(snapshot)).await.map(|loaded| loaded.config).map_err(|rejection| lines(&rejection))
    }

    #[tokio::test]
    async fn check_and_start_and_reload_judge_every_file_alike() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
        let (mut right, mut wrong) = (0, 0);
        for folder in ["valid", "invalid"] {
            for entry in std::fs::read_dir(corpus.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let told = |Problems(problems): Problems| problems.iter().map(Problem::to_string).collect::<Vec<_>>();
                let checked = check(&path).map(|loaded| loaded.config).map_err(told);
                assert_eq!(verdict(&path, false).await, checked, "{}", path.display());
                let started = verdict(&path, true).await;
                // There is nothing to keep at a start: a workload whose image is missing fails alone.
                let is_lenient = |told: &String| told.contains(".image: cannot read ");
                match (started, checked) {
                    (Err(started), Err(mut checked)) => {
                        checked.retain(|told| !is_lenient(told));
                        assert_eq!(started, checked, "{}", path.display());
                        wrong += 1;
                    }
                    (Ok(_), Err(checked)) => assert!(checked.iter().all(is_lenient), "{checked:?}"),
                    (Ok(started), Ok(checked)) => {
                        assert_eq!(started, checked);
                        right += 1;
                    }
                    (Err(started), Ok(_)) => panic!("{started:?}"),
                }
            }
        }
        assert!(right >= 11 && wrong >= 380, "{right} right, {wrong} wrong");
    }

    #[test]
    fn what_contradicts_the_running_value_of_a_restart_key_is_refused() {
        let config = |max_instances: u32, pool_size: u32| {
            let text = format!(
                "[engine]\nmax_instances = {max_instances}\n[[workloads]]\nname = \"a\"\n[[workloads.components]]\n\
                 name = \"c\"\nimage = \"a/b:1\"\npool_size = {pool_size}\n"
            );
            let file = Some(FileInput { path: "washlet.toml".into(), bytes: text.into_bytes() });
            load(&Sources { file, ..Sources::default() }, &|path| std::fs::read(path))
        };
        let alone = config(100, 200).unwrap_err().to_string();
        assert!(
            alone.starts_with("washlet.toml:8:1: workloads[0].components[0].pool_size: expected at most 100"),
            "{alone}"
        );
        let (live, new) = (config(100, 50).unwrap(), config(1000, 200).unwrap());
        let source = source(Path::new("washlet.toml"));
        let refused = source.effective(&live.config, &new.config).unwrap_err();
        assert_eq!((refused.reason, refused.passing), (Reason::Invalid, false));
        assert_eq!(
            lines(&refused),
            ["workloads[0].components[0].pool_size: expected at most 100, as many instances as the engine has \
              (engine.max_instances keeps its running value until a restart)"]
        );
        assert_eq!(crate::daemon::forecast(&live, &new).refused, lines(&refused));
        let right = config(1000, 100).unwrap();
        assert_eq!(source.effective(&live.config, &right.config).unwrap().engine, live.config.engine);
    }
}
