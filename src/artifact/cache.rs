//! The cache on disk: bytes by their digest, and what each reference led to.
//!
//! `blobs/sha256/<hex>` holds bytes, `refs/<sha256 of the reference>.json` a [`Record`], `key` the key of the
//! fingerprints. Everything here blocks; callers go through `task::blocking`. Several processes may share a directory:
//! files appear by rename only, and a file being written is locked, so that a sweep can tell it from a leftover.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tempfile::{NamedTempFile, TempDir};
use tracing::{debug, warn};

use super::credentials::Fingerprint;
use crate::error::Chain;
use crate::types::digest::Digest;
use crate::types::reference::ImageReference;

/// Starts the names of files being written.
const UNFINISHED: &str = ".unfinished-";
/// A record with [`FINGERPRINTS_MAX`] fingerprints has less than 2 KiB.
const RECORD_SIZE_MAX: u64 = 64 * 1024;
/// Logins that rotate would make a record grow; whose fingerprint is forgotten asks the registry once.
const FINGERPRINTS_MAX: usize = 16;

/// What a reference led to when the registry was last asked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Record {
    /// Normalised.
    pub(super) reference: String,
    /// `sha256:<hex>` of the manifest or index.
    pub(super) manifest_digest: String,
    /// `sha256:<hex>` of the bytes.
    pub(super) layer_digest: String,
    /// Of the bytes.
    pub(super) size: u64,
    /// When the registry last confirmed the manifest digest, in seconds since 1970.
    pub(super) checked_at: u64,
    /// The logins that have fetched it, oldest first.
    pub(super) fingerprints: Vec<Fingerprint>,
}

impl Record {
    /// Whether `fingerprint` may have the bytes without asking the registry.
    pub(super) fn grants(&self, fingerprint: &Fingerprint) -> bool {
        let anonymous = Fingerprint::anonymous();
        self.fingerprints.iter().any(|known| known == fingerprint || *known == anonymous)
    }

    /// Remembers that `fingerprint` has fetched it.
    pub(super) fn grant(&mut self, fingerprint: &Fingerprint) {
        self.fingerprints.retain(|known| known != fingerprint);
        self.fingerprints.push(fingerprint.clone());
        let forgotten = self.fingerprints.len().saturating_sub(FINGERPRINTS_MAX);
        self.fingerprints.drain(..forgotten);
    }
}

/// What reading bytes came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// They are what the digest says.
    Found(Bytes),
    /// There are none.
    Missing,
    /// They were not what the digest says, and are removed.
    Damaged,
}

/// A directory, or nothing if there is none that can be written to.
#[derive(Debug)]
pub(super) struct Cache {
    directory: Option<PathBuf>,
    key: [u8; 32],
    has_warned: AtomicBool,
    /// Removes a private directory at the end.
    _private: Option<TempDir>,
}

impl Cache {
    /// Opens `directory`, or a private one, and removes what a crash left behind. A directory that cannot be written to
    /// is a warning; only a path that is no directory at all is an error.
    pub(super) fn open(directory: Option<&Path>) -> io::Result<Self> {
        let (opened, private) = match directory {
            Some(path) if path.exists() && !path.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            Some(path) => (make_directories(path).map(|()| path.to_owned()), None),
            None => match tempfile::Builder::new().prefix("washlet-artifacts-").permissions(owner_only()).tempdir() {
                Ok(private) => {
                    let path = private.path().to_owned();
                    (make_directories(&path).map(|()| path), Some(private))
                }
                Err(error) => (Err(error), None),
            },
        };
        let directory = match opened {
            Ok(path) => Some(path),
            Err(error) => {
                let path = directory.unwrap_or_else(|| Path::new("a temporary directory"));
                warn!(path = %path.display(), %error, "artifact cache cannot be made, every start will pull");
                None
            }
        };
        if let Some(path) = &directory {
            sweep(path);
        }
        let key = directory.as_deref().and_then(shared_key).unwrap_or_else(random_key);
        Ok(Self { directory, key, has_warned: AtomicBool::new(false), _private: private })
    }

    /// The key of the fingerprints in the records.
    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// What `reference` last led to.
    pub(super) fn record(&self, reference: &ImageReference) -> Option<Record> {
        let name = reference.to_string();
        let path = record_path(self.directory.as_deref()?, &name);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(RECORD_SIZE_MAX).read_to_string(&mut text)) {
            Ok(_length) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.warn_once(&error);
                return None;
            }
        }
        match serde_json::from_str::<Record>(&text) {
            Ok(record) if record.reference == name => Some(record),
            Ok(_other) => None,
            Err(error) => {
                warn!(path = %path.display(), %error, "artifact cache entry is damaged, ignoring it");
                None
            }
        }
    }

    /// Replaces the record of its reference.
    pub(super) fn save_record(&self, record: &Record) {
        let Some(directory) = self.directory.as_deref() else { return };
        let saved = serde_json::to_vec(record).map_err(io::Error::from).and_then(|text| {
            let mut file = new_file(&directory.join("refs"))?;
            file.write_all(&text)?;
            persist(file, &record_path(directory, &record.reference))
        });
        if let Err(error) = saved {
            self.warn_once(&error);
        }
    }

    /// The bytes of `digest`, which must be `size` long; they are hashed on every read.
    pub(super) fn read(&self, digest: &Digest, size: u64) -> Lookup {
        let Some(path) = self.blob_path(digest) else { return Lookup::Missing };
        let bytes = match read_exactly(&path, size) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Lookup::Missing,
            Err(error) => {
                self.warn_once(&error);
                return Lookup::Missing;
            }
        };
        match bytes {
            Some(bytes) if Digest::of(&bytes) == *digest => Lookup::Found(bytes.into()),
            _ => {
                warn!(path = %path.display(), "cached artifact is damaged, removing it");
                if let Err(error) = fs::remove_file(&path) {
                    self.warn_once(&error);
                }
                Lookup::Damaged
            }
        }
    }

    /// A file to write bytes to before their digest is known to be right.
    pub(super) fn new_blob(&self) -> Option<NamedTempFile> {
        let directory = self.directory.as_deref()?;
        new_file(&blobs(directory)).map_err(|error| self.warn_once(&error)).ok()
    }

    /// Gives the bytes in `file` their name.
    pub(super) fn keep_blob(&self, file: NamedTempFile, digest: &Digest) {
        if let Some(path) = self.blob_path(digest)
            && let Err(error) = persist(file, &path)
        {
            self.warn_once(&error);
        }
    }

    /// The cache only saves work: what goes wrong with it is said once, and the start goes on without.
    pub(super) fn warn_once(&self, error: &io::Error) {
        if self.has_warned.swap(true, Ordering::Relaxed) {
            debug!(error = %Chain(error), "artifact cache cannot be used");
        } else {
            let path = self.directory.as_deref().unwrap_or(Path::new(""));
            warn!(path = %path.display(), error = %Chain(error), "artifact cache cannot be used, pulling into memory");
        }
    }

    fn blob_path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(blobs(self.directory.as_deref()?).join(digest.hex()))
    }
}

fn owner_only() -> fs::Permissions {
    fs::Permissions::from_mode(0o700)
}

fn blobs(directory: &Path) -> PathBuf {
    directory.join("blobs/sha256")
}

fn record_path(directory: &Path, reference: &str) -> PathBuf {
    directory.join("refs").join(format!("{}.json", Digest::of(reference.as_bytes()).hex()))
}

fn make_directories(directory: &Path) -> io::Result<()> {
    for path in [blobs(directory), directory.join("refs")] {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    }
    Ok(())
}

/// `None` if the file has another size.
fn read_exactly(path: &Path, size: u64) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    if file.metadata()?.len() != size {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(size).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Mode 0600, and locked until it is closed.
fn new_file(directory: &Path) -> io::Result<NamedTempFile> {
    let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
    if let Err(error) = file.as_file().try_lock() {
        debug!(%error, "no file locks here: a sweep by another process may remove what is being written");
    }
    Ok(file)
}

/// The bytes are on the disk before the name is, and the name before this returns.
fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes files that were being written when their process died: those that nobody holds a lock on.
fn sweep(directory: &Path) {
    for place in [blobs(directory), directory.join("refs")] {
        let entries = match fs::read_dir(&place) {
            Ok(entries) => entries,
            Err(error) => {
                warn!(path = %place.display(), %error, "cannot look for leftovers in the artifact cache");
                continue;
            }
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED)
                && let Err(error) = remove_if_unlocked(&entry.path())
            {
                warn!(path = %entry.path().display(), %error, "cannot remove a leftover from the artifact cache");
            }
        }
    }
}

fn remove_if_unlocked(path: &Path) -> io::Result<()> {
    match File::open(path)?.try_lock() {
        Ok(()) => fs::remove_file(path),
        Err(fs::TryLockError::WouldBlock) => Ok(()),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The key of a directory, made by whichever process comes first.
fn shared_key(directory: &Path) -> Option<[u8; 32]> {
    let path = directory.join("key");
    let read = || fs::read(&path).ok().and_then(|bytes| bytes.try_into().ok());
    read().or_else(|| {
        let made = new_file(directory).and_then(|mut file| {
            file.write_all(&random_key())?;
            file.as_file().sync_all()?;
            file.persist_noclobber(&path).map_err(|failed| failed.error)
        });
        match made {
            Ok(_file) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => debug!(%error, "the key of the artifact cache cannot be kept"),
        }
        read()
    })
}

fn random_key() -> [u8; 32] {
    // Two random ids hold 244 random bits.
    let halves = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    let mut key = [0; 32];
    for (byte, random) in key.iter_mut().zip(halves.iter().flat_map(uuid::Uuid::as_bytes)) {
        *byte = *random;
    }
    key
}

#[cfg(test)]
#[path = "cache/tests.rs"]
mod tests;
