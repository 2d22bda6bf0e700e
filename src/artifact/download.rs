//! Where the bytes of a layer go while they arrive: a file of the cache, or memory where there is none.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::cache::Cache;
use super::content::check_component;
use super::error::{Detail, PullError};
use crate::task;
use crate::types::digest::Digest;

/// Enough to make a turn on a blocking thread worth it, little enough for eight pulls at once.
const BUFFER_SIZE: usize = 256 * 1024;

/// A layer being downloaded. A full disk moves it to memory.
#[derive(Debug)]
pub(super) struct Download {
    cache: Arc<Cache>,
    /// `None`: in memory.
    file: Option<NamedTempFile>,
    /// What is not in the file.
    buffer: Vec<u8>,
    length: u64,
}

impl Download {
    /// Begins with nothing.
    pub(super) async fn begin(cache: &Arc<Cache>) -> Self {
        let owned = Arc::clone(cache);
        let file = task::blocking("artifact download", move || owned.new_blob()).await.flatten();
        Self { cache: Arc::clone(cache), file, buffer: Vec::new(), length: 0 }
    }

    /// The number of bytes that have arrived.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Forgets what has arrived.
    pub(super) async fn restart(&mut self) {
        *self = Self::begin(&self.cache).await;
    }

    /// Takes the next bytes.
    pub(super) async fn write(&mut self, chunk: &[u8]) -> Result<(), PullError> {
        self.buffer.extend_from_slice(chunk);
        self.length += chunk.len() as u64;
        if self.file.is_some() && self.buffer.len() >= BUFFER_SIZE { self.flush().await } else { Ok(()) }
    }

    /// Checks what has arrived, keeps it in the cache if possible, and returns it.
    pub(super) async fn finish(mut self, digest: Digest, registry: &str) -> Result<Bytes, PullError> {
        self.flush().await?;
        let registry = registry.to_owned();
        let finish = move || {
            let bytes = match &mut self.file {
                Some(file) => read_back(file, self.length).map_err(|source| PullError::ReadBack { source })?,
                None => self.buffer,
            };
            let actual = Digest::of(&bytes);
            if actual != digest {
                let source = Detail::of_text(&format!("expected {digest}, got {actual}"));
                return Err(PullError::Digest { registry, source });
            }
            check_component(&bytes).map_err(|source| PullError::Content { digest, source })?;
            if let Some(file) = self.file {
                self.cache.keep_blob(file, &digest);
            }
            Ok(Bytes::from(bytes))
        };
        task::blocking("artifact download", finish).await.unwrap_or(Err(PullError::Gone))
    }

    async fn flush(&mut self) -> Result<(), PullError> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.length - buffer.len() as u64;
        let cache = Arc::clone(&self.cache);
        let flush = move || match file.write_all(&buffer) {
            Ok(()) => Ok((Some(file), Vec::new())),
            Err(error) => {
                cache.warn_once(&error);
                let mut bytes = read_back(&mut file, written).map_err(|source| PullError::ReadBack { source })?;
                bytes.extend_from_slice(&buffer);
                Ok((None, bytes))
            }
        };
        (self.file, self.buffer) = task::blocking("artifact download", flush).await.unwrap_or(Err(PullError::Gone))?;
        Ok(())
    }
}

/// The first `length` bytes of `file`.
fn read_back(file: &mut NamedTempFile, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.seek(SeekFrom::Start(0))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[tokio::test]
    async fn a_disk_that_fails_half_way_moves_the_download_to_memory() {
        let cache = Arc::new(Cache::open(None).unwrap());
        let component =
            wat::parse_str(format!("(component (core module (@custom \"x\" \"{}\")))", "x".repeat(600_000)));
        let component = component.unwrap();
        let digest = Digest::of(&component);
        let mut download = Download::begin(&cache).await;
        let (on_disk, rest) = component.split_at(BUFFER_SIZE);
        download.write(on_disk).await.unwrap();
        assert!(download.buffer.is_empty(), "it is on the disk");
        // From now on every write fails.
        let (_writable, path) = download.file.take().unwrap().into_parts();
        download.file = Some(NamedTempFile::from_parts(File::open(&path).unwrap(), path));
        for chunk in rest.chunks(100_000) {
            download.write(chunk).await.unwrap();
        }
        assert!(download.file.is_none());
        assert_eq!(download.finish(digest, "r.example").await.unwrap(), component);
    }
}
