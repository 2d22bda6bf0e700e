//! Components read from a file of the machine, every time anew.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;

use super::content::check_component;
use super::error::ArtifactError;
use crate::task;
use crate::types::ByteSize;
use crate::types::digest::Digest;

/// Reads `path`, which must be a regular file of at most `max`, and hashes it.
pub(super) async fn read(path: &Path, max: ByteSize) -> Result<(Digest, Bytes), ArtifactError> {
    let path = path.to_owned();
    let read = move || read_blocking(&path, max).map(|bytes| (Digest::of(&bytes), bytes));
    task::blocking("artifact file", read).await.ok_or(ArtifactError::Task)?
}

fn read_blocking(path: &Path, max: ByteSize) -> Result<Bytes, ArtifactError> {
    let failed = |source| ArtifactError::ReadFile { path: path.to_owned(), source };
    // Asked before it is opened: opening a pipe waits for its writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(ArtifactError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(max.get())).unwrap_or(0));
    File::open(path).map_err(failed)?.take(max.get().saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max.get() {
        return Err(ArtifactError::FileTooLarge { path: path.to_owned(), max });
    }
    check_component(&bytes).map_err(|source| ArtifactError::FileContent { path: path.to_owned(), source })?;
    Ok(bytes.into())
}
