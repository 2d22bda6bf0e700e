//! `wasi:cli/run`: one run of a component that is a command, from its instance to its end.

use std::fmt;
use std::sync::Arc;

use wasmtime::Store;
use wasmtime_wasi::{I32Exit, p2, p3};

use crate::engine::Engine;
use crate::engine::ctx::{ItemCtx, SharedCtx};
use crate::engine::inspect::RunVersion;
use crate::engine::link::{LinkError, Linked};

/// A command with its exports looked up, to be instantiated for each run.
pub(crate) enum CommandPre {
    P2(p2::bindings::CommandPre<SharedCtx>),
    P3(p3::bindings::CommandPre<SharedCtx>),
}

impl fmt::Debug for CommandPre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P2(_) => "CommandPre(wasi:cli/run 0.2)",
            Self::P3(_) => "CommandPre(wasi:cli/run 0.3)",
        })
    }
}

/// A fresh instance in a store of its own. Dropping it, or the future that runs it, ends it.
pub(crate) struct Command {
    store: Store<SharedCtx>,
    exports: Exports,
}

enum Exports {
    P2(p2::bindings::Command),
    P3(p3::bindings::Command),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("store", self.store.data()).finish_non_exhaustive()
    }
}

/// How a run ended that did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// `run` came back with an error, which has no value.
    #[error("run returned an error")]
    Returned,
    /// `wasi:cli/exit`.
    #[error("exit code {0}")]
    Code(i32),
    /// A trap, or an instance that could not be made. The text is the engine's own.
    #[error("{0}")]
    Trap(Arc<str>),
}

impl CommandPre {
    /// Looks up the exports of `linked`.
    pub(crate) fn new(linked: &Linked, version: RunVersion) -> Result<Self, LinkError> {
        let pre = linked.pre.clone();
        let run = |error: wasmtime::Error| LinkError::Run(error.into());
        Ok(match version {
            RunVersion::P2 => Self::P2(p2::bindings::CommandPre::new(pre).map_err(run)?),
            RunVersion::P3 => Self::P3(p3::bindings::CommandPre::new(pre).map_err(run)?),
        })
    }

    /// A fresh instance of `item`. Its initialisers run here, and may take their time.
    pub(crate) async fn instantiate(&self, engine: &Engine, item: &Arc<ItemCtx>) -> Result<Command, RunError> {
        let mut store = engine.store(item);
        let exports = match self {
            Self::P2(pre) => pre.instantiate_async(&mut store).await.map(Exports::P2),
            Self::P3(pre) => pre.instantiate_async(&mut store).await.map(Exports::P3),
        };
        match exports {
            Ok(exports) => Ok(Command { store, exports }),
            // An initialiser that leaves, with whatever code, never let `run` begin.
            Err(error) => Err(ended(&error).err().unwrap_or(RunError::Code(0))),
        }
    }
}

impl Command {
    /// Runs it to its end; there is no deadline.
    pub(crate) async fn run(self) -> Result<(), RunError> {
        let Self { mut store, exports } = self;
        let returned = match exports {
            Exports::P2(command) => command.wasi_cli_run().call_run(&mut store).await,
            Exports::P3(command) => {
                let run = store.run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await);
                run.await.flatten()
            }
        };
        match returned {
            Ok(Ok(())) => Ok(()),
            Ok(Err(())) => Err(RunError::Returned),
            Err(error) => ended(&error),
        }
    }
}

/// What the end of a guest says: leaving by `wasi:cli/exit` looks like a trap.
fn ended(error: &wasmtime::Error) -> Result<(), RunError> {
    match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(0)) => Ok(()),
        Some(I32Exit(code)) => Err(RunError::Code(*code)),
        None => Err(RunError::Trap(Arc::from(format!("{error:#}").as_str()))),
    }
}
