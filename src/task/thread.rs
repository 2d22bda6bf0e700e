//! A named thread with a single-threaded runtime of its own: what must answer while everything else is busy runs here.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};

use crate::task::Shutdown;

/// Ends, with everything spawned on it, when it is dropped or [`ControlThread::stop`] is called.
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
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(until.wait()))?;
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

    /// Ends the thread; what still runs on it is dropped at its next await.
    pub(crate) fn stop(&self) {
        self.stop.trigger();
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
