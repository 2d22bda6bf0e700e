//! Reads the file and everything it refers to once, as one consistent set.
//!
//! Paths are walked link by link and files opened by what the links led to, so that all files of a ConfigMap come
//! from one `..data`. If afterwards a link points elsewhere, or a file differs from when it was opened, the set is
//! torn and to be read again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::snapshot::{FileRead, FileStat, InputHash, ReadFailure, Seen, Snapshot};
use super::writers::Writers;
use crate::types::ByteSize;

/// The configuration file: larger ones are not written by people. Larger referenced files (components) are read
/// again only when their [`FileStat`] changes, and their bytes are not kept.
const SIZE_MAX: u64 = 1024 * 1024;

/// Of a file that the configuration names: components are the largest, and no engine takes one of 1 GiB.
pub const REFERENCED_BYTES_MAX: u64 = 1 << 30;

/// Links on the way to one file: a ConfigMap has two; more than this is a loop or a mistake.
const LINKS_MAX: usize = 8;

/// A file changed less than this ago may change again without its times showing it: they tick in steps of
/// milliseconds, or of two seconds on some network file systems.
const STAT_TRUST_AGE: Duration = Duration::from_secs(3);

/// Given the bytes of the configuration file, the files that it refers to, as opened from the working directory.
pub type References = Box<dyn Fn(Option<&[u8]>) -> Vec<PathBuf> + Send + Sync>;

/// Whether a set of files looks as if one of them is still being written, or about to be.
pub type Doubt = Box<dyn Fn(&Snapshot) -> bool + Send + Sync>;

/// The configuration file, and how to find out what it refers to.
pub struct Files {
    path: Option<PathBuf>,
    references: References,
    doubt: Option<Doubt>,
    writers: Writers,
    cache: Mutex<Cache>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What need not be done again.
#[derive(Default)]
struct Cache {
    references: Option<(InputHash, Vec<PathBuf>)>,
    doubt: Option<(InputHash, bool)>,
    digests: HashMap<PathBuf, (FileStat, [u8; 32])>,
}

impl Files {
    /// `path`: the configuration file as given, if there is one.
    #[must_use]
    pub fn new(path: Option<PathBuf>, references: References) -> Self {
        Self { path, references, doubt: None, writers: Writers::default(), cache: Mutex::new(Cache::default()) }
    }

    /// Waits longer for a set of which `doubt` says so. Asked once for each set.
    #[must_use]
    pub fn doubting(self, doubt: Doubt) -> Self {
        Self { doubt: Some(doubt), ..self }
    }

    /// Where to tell who writes: what somebody has not closed yet is waited for.
    #[must_use]
    pub fn writers(&self) -> &Writers {
        &self.writers
    }

    /// The configuration file as given.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads everything once. Blocks on the disk.
    #[must_use]
    pub fn read_once(&self) -> Seen {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reading = Reading::default();
        let config = match &self.path {
            None => None,
            Some(path) => match reading.config(path) {
                Ok(read) => Some(read),
                // A swap takes names away for a moment: only what is gone while nothing moves is missing.
                Err(_) if reading.has_moved() => return Seen::Torn,
                Err(failure) => return Seen::Failed(failure),
            },
        };
        let (config, config_stat) = config.unzip();
        let config_id = config_stat.map(|stat| stat.id());
        let bytes = config.as_deref();
        let mut files = BTreeMap::new();
        for path in cache.references(bytes, &self.references) {
            let file = reading.file(&path, &mut cache.digests);
            files.insert(path, file);
        }
        cache.digests.retain(|path, _digest| files.contains_key(path));
        // Asked before the last look at the files: what is closed by now was written before that look, and shows in it.
        let writing = self.writers.of(&reading.opened);
        if reading.has_moved() {
            return Seen::Torn;
        }
        let hash = hash(bytes, &files);
        let is_old = reading.is_old();
        let directories = reading.directories.into_iter().collect();
        let path = self.path.clone();
        let mut snapshot =
            Snapshot { config, path, files, hash, directories, config_id, is_old, is_doubtful: false, writing };
        snapshot.is_doubtful = self.doubt.as_ref().is_some_and(|doubt| cache.doubts(&snapshot, doubt));
        Seen::Set(snapshot)
    }
}

impl Cache {
    fn references(&mut self, config: Option<&[u8]>, references: &References) -> Vec<PathBuf> {
        let hash = InputHash::of(config.unwrap_or_default());
        match &self.references {
            Some((known, paths)) if *known == hash => paths.clone(),
            Some(_) | None => {
                let paths = references(config);
                self.references = Some((hash, paths.clone()));
                paths
            }
        }
    }

    fn doubts(&mut self, snapshot: &Snapshot, doubt: &Doubt) -> bool {
        match self.doubt {
            Some((known, is_doubtful)) if known == snapshot.hash => is_doubtful,
            Some(_) | None => {
                let is_doubtful = doubt(snapshot);
                self.doubt = Some((snapshot.hash, is_doubtful));
                is_doubtful
            }
        }
    }
}

/// One pass over all files.
#[derive(Default)]
struct Reading {
    /// Every name walked through, and where it led if it was a link.
    names: HashMap<PathBuf, Option<PathBuf>>,
    opened: Vec<(PathBuf, FileStat)>,
    directories: BTreeSet<PathBuf>,
}

impl Reading {
    fn config(&mut self, path: &Path) -> Result<(Arc<[u8]>, FileStat), ReadFailure> {
        let unreadable = |cause: String| ReadFailure::Unreadable { path: path.to_owned(), cause };
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => ReadFailure::Missing { path: path.to_owned() },
            _ => unreadable(error.to_string()),
        };
        let (mut file, stat) = self.open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells "too large" from "just fits", however the file grows meanwhile.
        file.by_ref().take(SIZE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > SIZE_MAX) {
            return Err(unreadable("it is larger than 1 MiB".to_owned()));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ReadFailure::Empty { path: path.to_owned() });
        }
        Ok((Arc::from(bytes), stat))
    }

    fn file(&mut self, path: &Path, digests: &mut HashMap<PathBuf, (FileStat, [u8; 32])>) -> FileRead {
        let read = self.open(path).and_then(|(mut file, stat)| {
            if stat.size() > SIZE_MAX {
                let known = digests.get(path).filter(|(known, _digest)| *known == stat);
                let digest = match known {
                    Some((_stat, digest)) => *digest,
                    None => digest_of(&mut file)?,
                };
                if stat.is_older_than(STAT_TRUST_AGE, SystemTime::now()) {
                    digests.insert(path.to_owned(), (stat, digest));
                }
                return Ok(FileRead::Present { digest, bytes: None });
            }
            let mut bytes = Vec::new();
            file.by_ref().take(SIZE_MAX).read_to_end(&mut bytes)?;
            Ok(FileRead::Present { digest: Sha256::digest(&bytes).into(), bytes: Some(Arc::from(bytes)) })
        });
        read.unwrap_or_else(|error| FileRead::Absent { cause: error.to_string() })
    }

    fn open(&mut self, path: &Path) -> io::Result<(File, FileStat)> {
        let place = self.walk(path)?;
        let file = open_regular(&place, REFERENCED_BYTES_MAX)?;
        let stat = FileStat::from(&file.metadata()?);
        self.opened.push((place, stat));
        Ok((file, stat))
    }

    /// Where `path` leads, link by link; notes each link and the directory in which it would be replaced.
    fn walk(&mut self, path: &Path) -> io::Result<PathBuf> {
        let mut ahead: VecDeque<OsString> = names(&std::path::absolute(path)?).collect();
        let mut place = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                place.pop();
                continue;
            }
            let next = place.join(&name);
            let target = match self.link(&next) {
                Ok(target) => target,
                Err(error) => {
                    // Where it would appear.
                    self.directories.insert(place);
                    return Err(error);
                }
            };
            let Some(target) = target else {
                place = next;
                continue;
            };
            links += 1;
            if links > LINKS_MAX {
                return Err(io::Error::other(format!("more than {LINKS_MAX} links lead to it")));
            }
            self.directories.insert(place.clone());
            if target.is_absolute() {
                place = PathBuf::from("/");
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                ahead.push_front(name);
            }
        }
        self.directories.extend(place.parent().map(Path::to_owned));
        Ok(place)
    }

    /// Where `place` leads if it is a link: the same answer for all files of this pass.
    fn link(&mut self, place: &Path) -> io::Result<Option<PathBuf>> {
        if let Some(known) = self.names.get(place) {
            return Ok(known.clone());
        }
        let target = read_link(place)?;
        self.names.insert(place.to_owned(), target.clone());
        Ok(target)
    }

    /// Whether anything is no longer what was read.
    fn has_moved(&self) -> bool {
        let link_moved = |(place, target): (&PathBuf, &Option<PathBuf>)| {
            target.is_some() && !read_link(place).is_ok_and(|now| now == *target)
        };
        let file_changed = |(place, stat): &(PathBuf, FileStat)| !FileStat::of(place).is_ok_and(|now| now == *stat);
        self.names.iter().any(link_moved) || self.opened.iter().any(file_changed)
    }

    fn is_old(&self) -> bool {
        let now = SystemTime::now();
        self.opened.iter().all(|(_place, stat)| stat.is_older_than(Duration::from_secs(1), now))
    }
}

/// The whole of a regular file of at most `bytes_max`. Blocks on the disk, and on nothing else.
///
/// # Errors
///
/// If it cannot be read, is something else than a regular file, or is larger.
pub fn read_regular(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed, should it grow meanwhile.
    open_regular(path, bytes_max)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(bytes)
}

fn open_regular(path: &Path, bytes_max: u64) -> io::Result<File> {
    // Asked before opening, because opening a pipe would wait for its writer.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    File::open(path)
}

fn too_large(bytes_max: u64) -> io::Error {
    io::Error::other(format!("it is larger than {}", ByteSize::bytes(bytes_max)))
}

/// The names to walk; `..` stays, `/` and `.` go.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

fn read_link(place: &Path) -> io::Result<Option<PathBuf>> {
    match fs::read_link(place) {
        Ok(target) => Ok(Some(target)),
        // EINVAL: there, and not a link.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}

fn digest_of(file: &mut File) -> io::Result<[u8; 32]> {
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
        sha.update(read);
    }
    Ok(sha.finalize().into())
}

/// Lengths before contents, so that no two different sets look the same.
fn hash(config: Option<&[u8]>, files: &BTreeMap<PathBuf, FileRead>) -> InputHash {
    let mut sha = Sha256::new();
    let mut field = |tag: u8, bytes: &[u8]| {
        sha.update([tag]);
        sha.update(bytes.len().to_le_bytes());
        sha.update(bytes);
    };
    field(u8::from(config.is_some()), config.unwrap_or_default());
    for (path, file) in files {
        field(2, path.as_os_str().as_encoded_bytes());
        match file {
            FileRead::Present { digest, bytes: _ } => field(3, digest),
            FileRead::Absent { cause } => field(4, cause.as_bytes()),
        }
    }
    InputHash::from_digest(sha.finalize().into())
}
