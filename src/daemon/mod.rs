//! The composition root of the binary.

use std::path::PathBuf;

use crate::config::FlagValue;
use crate::error::Blame;

/// What the command line asks to run.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// The configuration file, as given.
    pub config_path: Option<PathBuf>,
    /// Flags that set keys.
    pub flags: Vec<FlagValue>,
}

/// Why the host could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// To come.
    #[error("running is not implemented yet")]
    NotImplemented,
}

impl RunError {
    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotImplemented => Blame::Host,
        }
    }
}

/// Runs the host until it is told to stop.
///
/// # Errors
///
/// If it cannot start.
pub fn run(_launch: Launch) -> Result<(), RunError> {
    Err(RunError::NotImplemented)
}
