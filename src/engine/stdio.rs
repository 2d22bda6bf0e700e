//! What a guest writes to stdout and stderr, as log lines with its name on them.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::{info, warn};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::engine::ctx::ItemCtx;

/// Lines of one workload in one second, from all its instances; what is over is dropped and counted.
const LINES_PER_SECOND_MAX: u64 = 1000;

/// Bytes of one line; a longer one is cut into several.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Bytes a guest may write in one go: bounds what one call of the host works on.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// How much one workload may log: shared by all its instances, its output and its calls of `wasi:logging`.
#[derive(Debug)]
pub(crate) struct GuestLog {
    started: Instant,
    /// The second since `started` that `lines` counts, in the upper half; the lines in it, in the lower half.
    window: AtomicU64,
    dropped: AtomicU64,
}

impl GuestLog {
    /// Nothing logged yet.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), window: AtomicU64::new(0), dropped: AtomicU64::new(0) }
    }

    /// Whether one more line may be written now; a refused one is counted, and reported when lines may be written again.
    pub(crate) fn admit(&self) -> bool {
        let second = self.started.elapsed().as_secs() & u64::from(u32::MAX);
        let counted = self.window.try_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
            if window >> 32 != second {
                return Some(second << 32 | 1);
            }
            (window & u64::from(u32::MAX) < LINES_PER_SECOND_MAX).then_some(window + 1)
        });
        match counted {
            Ok(before) => {
                if before >> 32 != second {
                    let dropped = self.dropped.swap(0, Ordering::Relaxed);
                    if dropped > 0 {
                        warn!(target: "guest", dropped, "guest output was dropped: more lines a second than allowed");
                    }
                }
                true
            }
            Err(_over) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

/// Which stream a line was written to.
#[derive(Debug, Clone, Copy)]
pub(super) enum OutputStreamName {
    Stdout,
    Stderr,
}

/// The standard output of one store: a line is logged when it is complete, too long, or the store ends.
#[derive(Debug, Clone)]
pub(super) struct GuestOutput(Arc<Lines>);

#[derive(Debug)]
struct Lines {
    item: Arc<ItemCtx>,
    stream: OutputStreamName,
    pending: Mutex<Vec<u8>>,
}

impl GuestOutput {
    pub(super) fn new(item: &Arc<ItemCtx>, stream: OutputStreamName) -> Self {
        Self(Arc::new(Lines { item: Arc::clone(item), stream, pending: Mutex::new(Vec::new()) }))
    }
}

impl Lines {
    fn take_in(&self, bytes: &[u8]) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for chunk in piece.chunks(LINE_BYTES_MAX) {
                if pending.len() + chunk.len() > LINE_BYTES_MAX {
                    self.log(&std::mem::take(&mut *pending));
                }
                pending.extend_from_slice(chunk);
            }
            if pending.ends_with(b"\n") {
                self.log(&std::mem::take(&mut *pending));
            }
        }
    }

    fn log(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\r', '\n']);
        if !self.item.guest_log.admit() {
            return;
        }
        let stream = match self.stream {
            OutputStreamName::Stdout => "stdout",
            OutputStreamName::Stderr => "stderr",
        };
        let ItemCtx { workload_id, workload_name, workload_namespace, component, .. } = &*self.item;
        info!(
            target: "guest",
            { workload.id = %workload_id, workload.name = %workload_name, workload.namespace = %workload_namespace,
              component = %component, stream, text },
            "guest output"
        );
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let rest = std::mem::take(self.pending.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !rest.is_empty() {
            self.log(&rest);
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.take_in(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.take_in(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_at_the_rate_and_counted() {
        let log = GuestLog::new();
        let admitted = (0..5000).filter(|_| log.admit()).count();
        // The flood may straddle the edge of two windows.
        assert!((1000..=2000).contains(&admitted), "{admitted}");
        assert!(log.dropped.load(Ordering::Relaxed) >= 3000);
    }
}
