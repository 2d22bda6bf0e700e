//! Compiling: on threads of its own, one at a time per digest, with a deadline for whoever waits.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Semaphore;
use tracing::info;
use wasmtime::component::Component;

use crate::engine::inspect::Inspected;
use crate::task;
use crate::telemetry::millis;

/// How long a start waits for a compile. The compile itself cannot be cancelled: its thread goes on.
const COMPILE_TIME_MAX: Duration = Duration::from_secs(60);

/// How long it is kept for whoever went away meanwhile and comes back: a reload that ran out of time tries again.
const KEPT_TIME: Duration = Duration::from_secs(60);

/// A component in machine code.
pub(crate) struct Compiled {
    /// Digest of the bytes it was made from.
    pub(crate) digest: Arc<str>,
    /// What it imports and exports.
    pub(crate) inspected: Inspected,
    pub(super) component: Component,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// Why there is no machine code.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CompileError {
    /// The bytes are not a component that this engine runs.
    #[error("{0}")]
    Invalid(Arc<str>),
    /// It took too long.
    #[error("not compiled after {}", humantime::format_duration(COMPILE_TIME_MAX))]
    Deadline,
    /// A bug in the compiler.
    #[error("the compiler failed")]
    Panicked,
}

type Compiling = Shared<BoxFuture<'static, Result<Arc<Compiled>, CompileError>>>;

/// Compiles, or joins a compile under way, or finds what is still in use.
pub(super) struct Compiler {
    /// Threads for the functions of one component; a core is left for I/O.
    threads: Arc<rayon::ThreadPool>,
    /// Compiles at once.
    slots: Arc<Semaphore>,
    known: Arc<Mutex<HashMap<Arc<str>, Known>>>,
}

enum Known {
    Compiling(Compiling),
    Compiled(Weak<Compiled>),
}

impl Compiler {
    pub(super) fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.saturating_sub(1).max(1);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("washlet-compile-{index}"))
            .build()
            .map_err(io::Error::other)?;
        Ok(Self {
            threads: Arc::new(pool),
            slots: Arc::new(Semaphore::new(threads)),
            known: Arc::new(Mutex::new(HashMap::new())),
        })
    }

    /// A waiter that goes away leaves the compile to the others, and to the next start.
    pub(super) async fn compile(
        &self,
        engine: &wasmtime::Engine,
        digest: &str,
        bytes: Bytes,
    ) -> Result<Arc<Compiled>, CompileError> {
        let compiling = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(digest) {
                Some(Known::Compiling(compiling)) => compiling.clone(),
                Some(Known::Compiled(compiled)) if let Some(compiled) = compiled.upgrade() => return Ok(compiled),
                _ => {
                    known.retain(|_digest, known| match known {
                        Known::Compiling(_) => true,
                        Known::Compiled(compiled) => compiled.strong_count() > 0,
                    });
                    let digest: Arc<str> = Arc::from(digest);
                    let compiling = self.begin(engine.clone(), Arc::clone(&digest), bytes);
                    known.insert(digest, Known::Compiling(compiling.clone()));
                    compiling
                }
            }
        };
        tokio::time::timeout(COMPILE_TIME_MAX, compiling).await.unwrap_or(Err(CompileError::Deadline))
    }

    fn begin(&self, engine: wasmtime::Engine, digest: Arc<str>, bytes: Bytes) -> Compiling {
        let threads = Arc::clone(&self.threads);
        let slots = Arc::clone(&self.slots);
        let known = Arc::clone(&self.known);
        let compiling = task::spawn("compile", async move {
            let slot = slots.acquire_owned().await;
            let of_compile = Arc::clone(&digest);
            let compiled = task::blocking("compile", move || {
                let compiled = threads.install(|| compile_now(&engine, of_compile, &bytes));
                drop(slot);
                compiled
            })
            .await
            .unwrap_or(Err(CompileError::Panicked));
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            match &compiled {
                Ok(compiled) => {
                    known.insert(digest, Known::Compiled(Arc::downgrade(compiled)));
                    let kept = Arc::clone(compiled);
                    // Ends by itself, or with the runtime.
                    drop(task::spawn("compiled", async move {
                        tokio::time::sleep(KEPT_TIME).await;
                        drop(kept);
                    }));
                }
                Err(_tried_again_by_the_next_start) => {
                    known.remove(&digest);
                }
            }
            compiled
        });
        async move { compiling.await.ok().flatten().unwrap_or(Err(CompileError::Panicked)) }.boxed().shared()
    }
}

fn compile_now(engine: &wasmtime::Engine, digest: Arc<str>, bytes: &[u8]) -> Result<Arc<Compiled>, CompileError> {
    let started = Instant::now();
    let component = Component::from_binary(engine, bytes)
        .map_err(|error| CompileError::Invalid(Arc::from(format!("{error:#}").as_str())))?;
    let inspected = Inspected::of(engine, &component);
    info!(digest = %digest, wasm_bytes = bytes.len(), took_ms = millis(started.elapsed()), "component compiled");
    Ok(Arc::new(Compiled { digest, inspected, component }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_digest_is_compiled_once_for_all_who_ask() {
        let compiler = Compiler::new().unwrap();
        let engine = wasmtime::Engine::default();
        let bytes = Bytes::from(wat::parse_str("(component)").unwrap());
        let both = futures::join!(
            compiler.compile(&engine, "sha256:a", bytes.clone()),
            compiler.compile(&engine, "sha256:a", bytes.clone()),
        );
        let (first, second) = (both.0.unwrap(), both.1.unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        let later = compiler.compile(&engine, "sha256:a", bytes).await.unwrap();
        assert!(Arc::ptr_eq(&first, &later));
    }

    #[tokio::test]
    async fn what_was_compiled_for_nobody_is_there_for_the_next_start() {
        let compiler = Compiler::new().unwrap();
        let engine = wasmtime::Engine::default();
        let bytes = Bytes::from(wat::parse_str("(component)").unwrap());
        drop(compiler.compile(&engine, "sha256:a", bytes.clone()).await.unwrap());
        let known = compiler.known.lock().unwrap();
        let Some(Known::Compiled(compiled)) = known.get("sha256:a") else { panic!("still compiling") };
        assert!(compiled.upgrade().is_some());
    }

    #[tokio::test]
    async fn bytes_that_are_no_component_are_an_error_and_not_remembered() {
        let compiler = Compiler::new().unwrap();
        let engine = wasmtime::Engine::default();
        let wrong = compiler.compile(&engine, "sha256:b", Bytes::from_static(b"not wasm")).await;
        assert!(matches!(wrong, Err(CompileError::Invalid(_))));
        assert!(compiler.known.lock().unwrap().is_empty());
    }
}
