//! The file and everything it refers to, read as one consistent set that has settled.
//!
//! Reading blocks and does not wait; settling says how long to wait and has no clock. Who calls them does the waiting.

mod mounts;
mod read;
mod settle;
mod snapshot;
mod writers;

pub use mounts::{FileMount, MOUNTINFO, Mounts};
pub use read::{Doubt, Files, REFERENCED_BYTES_MAX, References, read_regular};
pub use settle::{Settle, Urgency, Verdict};
pub use snapshot::{FileRead, FileStat, InputHash, ReadFailure, Seen, Snapshot};
pub use writers::{Writers, Writing};
