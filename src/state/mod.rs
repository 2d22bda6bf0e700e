//! What outlives the process: who the host is, and which workloads it was given.
//!
//! ```text
//! <state_dir>/           0700
//!   lock                 held for the life of the process; names its holder
//!   identity.json        host id and generated name
//!   journal              accepted starts, each until it is stopped or has failed
//!   last-heartbeat       when the operator last heard of the host
//! ```
//!
//! All files are 0600: the journal holds what the operator sent, pull secrets included. Identity and journal are written
//! whole or not at all, and flushed to the disk before anybody relies on them. Absent on purpose: what a workload is, and
//! when one is brought back; that is `cluster`'s business.

mod directory;
mod format;
mod identity;
mod journal;
#[cfg(test)]
mod tests;

pub(crate) use directory::{State, StateError};
pub(crate) use identity::Identity;
pub(crate) use journal::{Journal, Recorded};
