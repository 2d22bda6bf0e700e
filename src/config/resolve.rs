//! `FileConfig` -> `Config`: rules within and across tables; every problem is collected, none stops the others.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::file::FileConfig;
use crate::config::hash::sha256_hex;
use crate::config::pem::{PemError, PemFile};
use crate::config::report::{Origin, Report};
use crate::config::rules::{self, Broken};
use crate::config::scalar::FileDuration;
use crate::config::{Config, Secret, workloads};
use crate::error::Chain;

/// How a referenced file is read.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Larger files hold no secret that anything takes.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// Larger files hold no certificates that anyone sends or trusts.
const PEM_BYTES_MAX: usize = 1 << 20;

/// What the tables need to resolve themselves.
pub(crate) struct Resolver<'a> {
    pub(crate) report: &'a mut Report,
    pub(crate) read: ReadFile<'a>,
    /// The directory of the configuration file.
    pub(crate) file_dir: PathBuf,
    /// The working directory.
    pub(crate) working_dir: PathBuf,
    /// As in `Sources`.
    pub(crate) tolerate_missing_images: bool,
    referenced_files: BTreeSet<PathBuf>,
    file_digests: BTreeMap<String, Secret>,
    /// Of images read so far: many workloads share one.
    image_digests: BTreeMap<PathBuf, String>,
}

/// What a referenced file must hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FileKind {
    Certificate,
    PrivateKey,
    NatsCredentials,
    NkeySeed,
}

impl FileKind {
    /// A text that every such file holds, and what to call it. Whoever uses the file parses it; this finds mix-ups.
    fn mark(self) -> (&'static str, &'static str) {
        match self {
            Self::Certificate => ("-----BEGIN CERTIFICATE-----", "PEM certificate"),
            Self::PrivateKey => ("PRIVATE KEY-----", "PEM private key"),
            Self::NatsCredentials => ("-----BEGIN NATS USER JWT-----", "NATS credentials"),
            // Seeds are base32; user seeds start so.
            Self::NkeySeed => ("SU", "nkey seed of a user"),
        }
    }
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(report: &'a mut Report, read: ReadFile<'a>, file_dir: PathBuf, working_dir: PathBuf) -> Self {
        Self {
            report,
            read,
            file_dir,
            working_dir,
            tolerate_missing_images: false,
            referenced_files: BTreeSet::new(),
            file_digests: BTreeMap::new(),
            image_digests: BTreeMap::new(),
        }
    }

    /// All tables. What comes back counts only if the report has no errors.
    pub(crate) fn resolve(mut self, file: FileConfig) -> Config {
        let FileConfig {
            host,
            nats,
            http,
            registry,
            artifacts,
            engine,
            volumes: _,
            limits,
            egress: _,
            drain,
            admin,
            log,
            telemetry: _,
            reload,
            plugins,
            component_plugins: _,
            workloads,
        } = file;
        let config = Config {
            host: host.resolve(&mut self),
            nats: nats.resolve(&mut self),
            http: http.resolve(&mut self),
            registry: registry.resolve(&mut self),
            artifacts: artifacts.resolve(&mut self),
            engine: engine.resolve(),
            limits: limits.resolve(&mut self),
            drain: drain.resolve(),
            admin: admin.resolve(),
            log: log.resolve(&mut self),
            reload: reload.resolve(&mut self),
            plugins: plugins.resolve(&mut self),
            workloads: workloads::resolve(workloads, &mut self),
            referenced_files: self.referenced_files.into_iter().collect(),
            file_digests: self.file_digests,
        };
        for Broken { key, other, message } in rules::broken(&config) {
            // Where a workload was left out, those behind it have other numbers.
            if !(key.starts_with("workloads") && self.report.is_tainted("workloads")) {
                self.report.error_both(&key, &other, &message);
            }
        }
        config
    }

    pub(crate) fn error(&mut self, path: &str, message: impl AsRef<str>) {
        self.report.error(path, message.as_ref());
    }

    pub(crate) fn error_with_hint(&mut self, path: &str, message: &str, hint: Option<String>) {
        self.report.error_with_hint(path, message, hint);
    }

    pub(crate) fn warning(&mut self, path: &str, message: &str) {
        self.report.warning(path, message);
    }

    pub(crate) fn error_at_key(&mut self, path: &str, message: &str) {
        self.report.error_at_key(path, message, None);
    }

    pub(crate) fn error_both(&mut self, path: &str, other: &str, message: &str) {
        self.report.error_both(path, other, message);
    }

    /// Whether an error about `path` has been found already: rules that read it say nothing then.
    pub(crate) fn is_tainted(&self, path: &str) -> bool {
        self.report.is_tainted(path)
    }

    /// `path`, or `path_file` if that is what was given.
    pub(crate) fn present(&self, path: &str) -> String {
        let twin = format!("{path}_file");
        if self.report.origins.contains_key(path) { path.to_owned() } else { twin }
    }

    /// A duration that must not be zero.
    pub(crate) fn positive(&mut self, path: &str, FileDuration(duration): FileDuration) -> Duration {
        if duration.is_zero() {
            self.error(path, "expected more than 0s");
        }
        duration
    }

    /// A path, relative to the directory of the file it is written in.
    pub(crate) fn path(&mut self, path: &str, value: PathBuf) -> PathBuf {
        if value.as_os_str().is_empty() {
            self.error(path, "expected a path");
        }
        match self.report.origin(path) {
            Origin::File => self.file_dir.join(value),
            Origin::Variable(_) | Origin::Flag(_) | Origin::Default => value,
        }
    }

    /// As [`path`](Self::path), absolute.
    pub(crate) fn absolute_path(&mut self, path: &str, value: PathBuf) -> PathBuf {
        let value = self.path(path, value);
        // `.` in the middle says nothing; `..` may cross a link and stays.
        self.working_dir.join(value).components().collect()
    }

    /// The bytes of a file that `path` names. It is watched even if it cannot be read: it may appear.
    pub(crate) fn read_file(&mut self, path: &str, file: &Path) -> Option<Vec<u8>> {
        self.referenced_files.insert(file.to_owned());
        match (self.read)(file) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.error(path, format!("cannot read {}: {error}", file.display()));
                None
            }
        }
    }

    /// The digest of a `file:` image. A missing one that is tolerated has a digest no file has: once the file is there,
    /// the workload is a changed one.
    pub(crate) fn image_digest(&mut self, path: &str, file: &Path) -> Option<String> {
        if let Some(digest) = self.image_digests.get(file) {
            return Some(digest.clone());
        }
        self.referenced_files.insert(file.to_owned());
        match (self.read)(file) {
            Ok(bytes) => {
                let digest = sha256_hex(&bytes);
                self.image_digests.insert(file.to_owned(), digest.clone());
                Some(digest)
            }
            Err(error) => {
                let message = format!("cannot read {}: {error}", file.display());
                if self.tolerate_missing_images {
                    self.report.warning(path, &message);
                    return Some(String::new());
                }
                self.error(path, message);
                None
            }
        }
    }

    /// A file of a known kind, that is read again by whom it is handed to. What is in it is part of the configuration.
    pub(crate) fn file_of(&mut self, path: &str, file: PathBuf, kind: FileKind) -> PathBuf {
        let file = self.path(path, file);
        if let Some(bytes) = self.read_file(path, &file) {
            let (mark, name) = kind.mark();
            if !bytes.windows(mark.len()).any(|window| window == mark.as_bytes()) {
                self.error(path, format!("{} holds no {name}", file.display()));
            }
            self.file_digests.insert(path.to_owned(), Secret::new(sha256_hex(&bytes)));
        }
        file
    }

    /// A file of certificates or keys, to be used as it is now.
    pub(crate) fn pem_file(&mut self, path: &str, file: PathBuf) -> Option<PemFile> {
        let file = self.path(path, file);
        let bytes = self.read_file(path, &file)?;
        if bytes.len() > PEM_BYTES_MAX {
            self.error(path, format!("{} is larger than 1 MiB", file.display()));
            return None;
        }
        Some(PemFile::new(file, bytes))
    }

    /// What a file holds cannot be used, perhaps because someone is about to write it or the one it belongs to.
    pub(crate) fn unfit(&mut self, path: &str, error: &PemError) {
        self.error(path, Chain(error).to_string());
        self.report.may_pass(path);
    }

    /// A secret, said at `path` or in the file that `path_file` names.
    pub(crate) fn secret(&mut self, path: &str, value: Option<Secret>, file: Option<PathBuf>) -> Option<Secret> {
        self.secret_and_file(path, value, file).map(|(secret, _file)| secret)
    }

    /// The same, with the file that it came from.
    pub(crate) fn secret_and_file(
        &mut self,
        path: &str,
        value: Option<Secret>,
        file: Option<PathBuf>,
    ) -> Option<(Secret, Option<PathBuf>)> {
        let file_path = format!("{path}_file");
        let Some(file) = file else {
            if value.as_ref().is_some_and(|value| value.expose().is_empty()) {
                self.error(path, "expected a secret, found nothing");
            }
            return value.map(|value| (value, None));
        };
        if value.is_some() {
            self.error_both(&file_path, path, "a secret is given twice: in place and in a file");
            return None;
        }
        let file = self.path(&file_path, file);
        let bytes = self.read_file(&file_path, &file)?;
        if bytes.len() > SECRET_BYTES_MAX {
            self.error(&file_path, format!("{} is larger than 64 KiB", file.display()));
            return None;
        }
        let Ok(text) = String::from_utf8(bytes) else {
            self.error(&file_path, format!("{} is not UTF-8 text", file.display()));
            return None;
        };
        let secret = Secret::of_file(&text);
        if secret.expose().is_empty() {
            self.error(&file_path, format!("{} is empty", file.display()));
        }
        Some((secret, Some(file)))
    }
}
