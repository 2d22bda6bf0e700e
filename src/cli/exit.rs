//! Exit codes, and the last words before them. A closed pipe is not an error: nobody listens any more.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::config::Problems;
use crate::daemon::RunError;
use crate::error::{Blame, Chain};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// All is well.
    Success,
    /// It could not start, or failed.
    Failure,
    /// The command line is wrong.
    Usage,
    /// The configuration is wrong (`EX_CONFIG` of sysexits.h).
    Configuration,
    /// A second signal ended it before the drain was over: 128 and the signal's number, as shells say it.
    Interrupted(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Configuration => 78,
            Exit::Interrupted(signal) => 128_u8.saturating_add(signal),
        })
    }
}

/// Help and version are asked for, and go to standard output; anything else is a mistake.
pub(super) fn of_usage(error: &clap::Error) -> Exit {
    // Printing fails only if nobody reads it.
    let _unread = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}

/// A run that ended; its error has not been printed yet.
pub(super) fn of_run(outcome: Result<(), RunError>) -> Exit {
    let Err(error) = outcome else { return Exit::Success };
    if let RunError::Interrupted { signal } = error {
        return Exit::Interrupted(signal);
    }
    say(&format!("error: {}\n", Chain(&error)));
    match error.blame() {
        Blame::Configuration => Exit::Configuration,
        Blame::Workload | Blame::Caller | Blame::Remote | Blame::Host => Exit::Failure,
    }
}

/// A configuration that cannot be used.
pub(super) fn of_problems(problems: &Problems) -> Exit {
    say(&problems.text());
    let count = problems.errors();
    let plural = if count == 1 { "" } else { "s" };
    say(&format!("\n{count} error{plural}\n"));
    Exit::Configuration
}

/// Prints to standard output.
pub(super) fn print(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Success,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
        Err(error) => {
            say(&format!("error: cannot write to standard output: {error}\n"));
            Exit::Failure
        }
    }
}

/// Prints to standard error.
pub(super) fn say(text: &str) {
    // There is no place left to report that standard error is gone.
    let _unread = io::stderr().lock().write_all(text.as_bytes());
}
