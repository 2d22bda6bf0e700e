//! What reading yields: a snapshot of all inputs, or why there is none.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::read::{REFERENCED_BYTES_MAX, read_regular};
use super::writers::Writing;

/// Identifies all inputs together. Never leaves the process: it would tell whether a guessed secret is right.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InputHash([u8; 32]);

impl InputHash {
    /// For sources that read something else than files.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of everything that went into `digest`.
    pub(super) fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Debug for InputHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<input hash>")
    }
}

/// What the file system says about a file; differs if its content does, give or take the age of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStat {
    /// Of the file that `path` leads to.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::metadata(path)?))
    }

    /// Device and inode: another file, or another directory, has another one.
    #[must_use]
    pub fn id(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn was_modified_after(&self, time: SystemTime) -> bool {
        let (seconds, nanos) = self.modified;
        let Ok(since) = time.duration_since(SystemTime::UNIX_EPOCH) else { return true };
        (seconds, nanos) > (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), i64::from(since.subsec_nanos()))
    }

    pub(super) fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let Ok(seconds) = u64::try_from(self.modified.0.max(self.changed.0)) else { return true };
        // What no clock can say is not old.
        let newest = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.saturating_add(1)));
        newest.and_then(|newest| now.duration_since(newest).ok()).is_some_and(|since| since >= age)
    }
}

impl From<&Metadata> for FileStat {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Why there is no set of files to work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// It kept changing.
    #[error("cannot read {}: it did not hold still for {} s: write beside it, then rename", path.display(), after.as_secs())]
    Unsettled {
        /// The configuration file.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// It is not there.
    #[error("cannot read {}: no such file", path.display())]
    Missing {
        /// The configuration file.
        path: PathBuf,
    },
    /// It holds nothing but white space.
    #[error("{} is empty: a host that is to run on defaults alone says so with a comment line", path.display())]
    Empty {
        /// The configuration file.
        path: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The configuration file.
        path: PathBuf,
        /// What the system says.
        cause: String,
    },
}

/// A file that the configuration refers to.
#[derive(Clone, PartialEq, Eq)]
pub enum FileRead {
    /// It was read.
    Present {
        /// SHA-256 of its content.
        digest: [u8; 32],
        /// Its content; `None` above 1 MiB.
        bytes: Option<Arc<[u8]>>,
    },
    /// It could not be read, and why: for whoever needs it to report.
    Absent {
        /// What the system says.
        cause: String,
    },
}

impl fmt::Debug for FileRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The content may be a secret, and a digest of it tells whether a guess is right.
            Self::Present { .. } => f.write_str("Present"),
            Self::Absent { cause } => f.debug_struct("Absent").field("cause", cause).finish(),
        }
    }
}

/// All inputs as they were at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// The configuration file; `None` if none is named.
    pub config: Option<Arc<[u8]>>,
    /// Where it was read from, as given.
    pub path: Option<PathBuf>,
    /// What it refers to, by the path it was asked for under.
    pub files: BTreeMap<PathBuf, FileRead>,
    /// Of all of the above.
    pub hash: InputHash,
    /// Where a change of any of it shows: the directory of each file and of each link on the way to it.
    pub directories: Vec<PathBuf>,
    /// Device and inode of the configuration file.
    pub(super) config_id: Option<(u64, u64)>,
    /// Whether nothing was touched lately.
    pub(super) is_old: bool,
    /// Whether a file may be missing its other half.
    pub(super) is_doubtful: bool,
    /// Whether somebody is known to be writing one of them.
    pub(super) writing: Writing,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, directories, .. } = self;
        f.debug_struct("Snapshot").field("files", files).field("directories", directories).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// The content of a referenced file as it was read. A large one is read again, and refused if it has changed.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.files.get(path) {
            Some(FileRead::Present { bytes: Some(bytes), .. }) => Ok(bytes.to_vec()),
            Some(FileRead::Present { digest, bytes: None }) => {
                let bytes = read_regular(path, REFERENCED_BYTES_MAX)?;
                let is_same = Sha256::digest(&bytes).as_slice() == digest;
                is_same.then_some(bytes).ok_or_else(|| io::Error::other("it changed while it was read"))
            }
            Some(FileRead::Absent { cause }) => Err(io::Error::other(cause.clone())),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it was not read with the configuration")),
        }
    }

    /// Of something that is not read from files: for tests and embedded sources.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            config: Some(Arc::from(bytes)),
            path: None,
            files: BTreeMap::new(),
            hash: InputHash::of(bytes),
            directories: Vec::new(),
            config_id: None,
            is_old: true,
            is_doubtful: false,
            writing: Writing::Over,
        }
    }
}

/// What one reading found.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A set of files that belong together.
    Set(Snapshot),
    /// Something moved while it was read.
    Torn,
    /// The configuration file itself could not be read.
    Failed(ReadFailure),
}
