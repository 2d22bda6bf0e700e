//! How work is spawned: named, traced, and loud when it dies.
//!
//! Only this room calls `tokio::spawn` and its like. A panic in a task is caught at the task's edge and logged with
//! the task's name; whoever awaits the handle learns of it as a `JoinError`.

mod backoff;
mod shutdown;
mod thread;

pub(crate) use backoff::Backoff;
pub(crate) use shutdown::Shutdown;
pub(crate) use thread::{ControlThread, os_thread};

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{Instrument as _, Span, error};

/// Spawns `future` on the current runtime under `name`. A panic is logged; the handle then yields `None`.
pub(crate) fn spawn<F>(name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_on(&Handle::current(), name, future)
}

/// As [`spawn`], on the runtime of `handle`.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub(crate) fn spawn_on<F>(handle: &Handle, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let guarded = async move {
        match AssertUnwindSafe(future).catch_unwind().await {
            Ok(output) => Some(output),
            Err(panic) => {
                error!(task = name, panic = panic_text(&*panic), "task panicked");
                None
            }
        }
    };
    handle.spawn(guarded.instrument(Span::current()))
}

/// Runs blocking `work` (files, name lookups, compiles) on the runtime's blocking threads.
///
/// `None` means that it panicked, which was logged.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub(crate) async fn blocking<T, F>(name: &'static str, work: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Some(value),
        Err(join_error) => {
            error!(task = name, error = %join_error, "blocking work did not finish");
            None
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_task_yields_none_and_not_an_abort() {
        let task = spawn("test", async { assert_eq!(1, 2, "boom") });
        assert_eq!(task.await.unwrap(), None);
    }
}
