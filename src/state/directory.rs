//! The state directory: made, locked, and read once at the start.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tracing::{error, info, warn};

use crate::error::Blame;
use crate::state::format;
use crate::state::identity::Identity;
use crate::state::journal::{JournalFile, Kept};
use crate::types::{HostId, WorkloadId};

/// Of a journal that is read: far more than a host can run, and little enough to hold at once.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
/// Of the small files.
const SMALL_FILE_BYTES_MAX: u64 = 4 << 10;

/// What was found in the directory, and its lock. Dropping it lets another process have the directory.
#[derive(Debug)]
pub(crate) struct State {
    /// Who the host is.
    pub(crate) identity: Identity,
    /// The accepted starts that were never ended, in the order in which they came.
    pub(crate) starts: Vec<(WorkloadId, Bytes)>,
    /// When the operator last heard of the host.
    pub(crate) last_heartbeat: Option<SystemTime>,
    /// For what comes.
    pub(crate) journal: JournalFile,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("cannot use the state directory {path}", path = path.display())]
    Directory {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot {action} {path}", path = path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "the state directory is locked by another washlet{holder}: {path} (give each host a host.state_dir of its own)",
        path = path.display()
    )]
    Locked { path: PathBuf, holder: String },
    #[error("{path} is not what a washlet wrote (put it right, or remove it: the host then gets a new id)", path = path.display())]
    Identity { path: PathBuf },
}

impl StateError {
    /// Who has to act.
    pub(crate) fn blame(&self) -> Blame {
        match self {
            // What the configuration names is not a directory of this host's own.
            Self::Locked { .. } | Self::Directory { .. } => Blame::Configuration,
            Self::File { .. } | Self::Identity { .. } => Blame::Host,
        }
    }
}

impl State {
    /// Opens `directory`, or makes it, and reads what is there. Blocks.
    ///
    /// A journal that is damaged is set aside and not trusted. `name_of` makes the name of a new host.
    pub(crate) fn open(directory: &Path, name_of: impl FnOnce(&HostId) -> String) -> Result<Self, StateError> {
        make(directory).map_err(|cause| StateError::Directory { path: directory.to_owned(), cause })?;
        let lock = lock(&directory.join("lock"))?;
        let identity = identity(&directory.join("identity.json"), name_of)?;
        let (starts, kept) = read_journal(&directory.join("journal"))?;
        let beat = open(&directory.join("last-heartbeat"))?;
        let last_heartbeat = read_heartbeat(&beat);
        let journal = JournalFile::open(directory, kept, beat, lock).map_err(|cause| StateError::File {
            action: "open",
            path: directory.join("journal"),
            cause,
        })?;
        Ok(Self { identity, starts, last_heartbeat, journal })
    }
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let metadata = fs::metadata(directory)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        // A mounted volume belongs to its group: what is inside is 0600 all the same.
        if let Err(error) = fs::set_permissions(directory, fs::Permissions::from_mode(0o700)) {
            warn!(path = %directory.display(), error = %error, "others may enter the state directory");
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, StateError> {
    let mut file = open(path)?;
    let failed = |action, cause| StateError::File { action, path: path.to_owned(), cause };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message.
            drop(file.take(SMALL_FILE_BYTES_MAX).read_to_string(&mut holder));
            let holder =
                holder.trim().parse::<u32>().map_or_else(|_none| String::new(), |pid| format!(" (process {pid})"));
            return Err(StateError::Locked { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(cause)) => return Err(failed("lock", cause)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|cause| failed("write", cause))?;
    Ok(file)
}

fn identity(path: &Path, name_of: impl FnOnce(&HostId) -> String) -> Result<Identity, StateError> {
    let failed = |action, cause| StateError::File { action, path: path.to_owned(), cause };
    match fs::read(path) {
        Ok(bytes) => Identity::decode(&bytes).ok_or_else(|| StateError::Identity { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = Identity::random(name_of);
            write_whole(path, identity.encode().as_bytes()).map_err(|cause| failed("write", cause))?;
            Ok(identity)
        }
        Err(cause) => Err(failed("read", cause)),
    }
}

type Starts = Vec<(WorkloadId, Bytes)>;

/// The starts that were never ended, and how much of the file can be kept.
fn read_journal(path: &Path) -> Result<(Starts, Kept), StateError> {
    let failed = |action, cause| StateError::File { action, path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = open(path)?;
    file.take(JOURNAL_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|cause| failed("read", cause))?;
    if bytes.len() as u64 > JOURNAL_BYTES_MAX {
        let cause = io::Error::other(format!("it holds more than {JOURNAL_BYTES_MAX} bytes"));
        return Err(failed("read", cause));
    }
    let records = match format::decode(&bytes) {
        Ok(records) => records,
        Err(damage) => {
            let aside = path.with_extension("damaged");
            fs::rename(path, &aside).map_err(|cause| failed("set aside", cause))?;
            error!(journal = %aside.display(), error = %damage, "the journal is damaged and set aside: no workload is brought back");
            return Ok((Vec::new(), Kept::default()));
        }
    };
    if records.whole < bytes.len() {
        info!(bytes = bytes.len() - records.whole, "the last record of the journal was not finished, and is dropped");
    }
    let bytes = Bytes::from(bytes);
    let mut starts = Starts::new();
    for record in &records.records {
        starts.retain(|(id, _request)| *id != record.id);
        if record.op == format::Op::Start {
            starts.push((record.id.clone(), bytes.slice(record.request.clone())));
        }
    }
    Ok((starts, Kept::of(records)))
}

/// `None`: never, or the clock was wrong.
fn read_heartbeat(file: &File) -> Option<SystemTime> {
    let mut text = String::new();
    file.take(SMALL_FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    let millis: u64 = text.trim().parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// A file of ours, made if it is missing, seen by nobody else.
pub(super) fn open(path: &Path) -> Result<File, StateError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|cause| StateError::File { action: "open", path: path.to_owned(), cause })
}

/// Writes a file whole or not at all, and onto the disk.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let temporary = path.with_extension("new");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // From here on this is the file, whatever becomes of the directory's own flush.
    let flushed = path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all());
    if let Err(error) = flushed {
        warn!(path = %path.display(), %error, "cannot flush the state directory");
    }
    Ok(file)
}
