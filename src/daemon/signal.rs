//! SIGTERM and SIGINT. SIGHUP belongs to the reload task.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Terminate,
    Interrupt,
}

impl Ending {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Terminate => 15,
            Self::Interrupt => 2,
        }
    }
}

/// From the moment it is made, these signals no longer end the process by themselves; as PID 1 they never did.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Ending {
        // Both streams live as long as the process, so `None` does not come; if it did, ending is what was asked for.
        tokio::select! {
            _signal = self.terminate.recv() => Ending::Terminate,
            _signal = self.interrupt.recv() => Ending::Interrupt,
        }
    }
}
