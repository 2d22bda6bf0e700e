//! A named thread with a single-threaded runtime of its own: what must answer while everything else is busy runs here.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};

use crate::task::Shutdown;

/// Ends, with everything spawned on it, when it is dropped.
#[derive(Debug)]
pub(crate) struct ControlThread {
    handle: Handle,
    stop: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl ControlThread {
    /// Starts the thread and its runtime.
    #[expect(clippy::disallowed_methods, reason = "the one place that starts a thread")]
    pub(crate) fn start(name: &'static str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().thread_name(name).max_blocking_threads(8).build()?;
        let handle = runtime.handle().clone();
        let stop = Shutdown::default();
        let until = stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(until.wait());
            // Dropped, it would wait for its blocking threads: one that hangs on a disk would keep the process.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop, thread: Some(thread) })
    }

    /// Where to spawn.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `future` on the thread, and waits for it here.
    pub(crate) async fn run<F>(&self, name: &'static str, future: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        crate::task::spawn_on(&self.handle, name, future).await.ok().flatten()
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        self.stop.trigger();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control thread panicked");
        }
    }
}

/// Starts a plain named thread: for a loop that must not depend on any runtime.
#[expect(clippy::disallowed_methods, reason = "the one place that starts a thread")]
pub(crate) fn os_thread(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_end_of_the_thread_does_not_wait_for_blocking_work() {
        let control = ControlThread::start("test").unwrap();
        let (began_tx, began) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        drop(crate::task::spawn_on(&control.handle, "test", async move {
            crate::task::blocking("test", move || {
                began_tx.send(()).unwrap();
                ends.recv().unwrap_err();
            })
            .await
        }));
        began.recv().unwrap();
        drop(control);
        // Only now may the blocking work end.
        drop(end);
    }
}
