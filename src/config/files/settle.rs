//! When a set of files that may still be in the middle of being written counts as settled: pure, time is an argument.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::snapshot::{FileRead, InputHash, ReadFailure, Seen, Snapshot};
use super::writers::Writing;

/// Between two reads that must agree.
const STILL: Duration = Duration::from_millis(50);

/// For a file that is written in place and does not end in a newline, since most cut-off files end inside a line, or
/// of which nobody would know whether its writer is done.
const STILL_CUT_OFF: Duration = Duration::from_secs(1);

/// For a file that is gone or empty: editors that save by delete and create stay well below.
const STILL_GONE: Duration = Duration::from_secs(2);

/// For a certificate and a key that do not fit: renewers write two files, one after the other.
const STILL_DOUBTFUL: Duration = Duration::from_secs(5);

/// For a file that its writer has not closed: who pauses for longer, or never closes, has written what is wanted. Shorter
/// than [`SETTLE_TIMEOUT`], so that such a file is read at all.
const STILL_OPEN: Duration = Duration::from_secs(9);

/// Before a set that moved while it was read is read again.
const TORN_PAUSE: Duration = Duration::from_millis(20);

/// After this nothing will settle.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// The host starts: what is missing is missing, and what was not touched for a second has settled.
    Start,
    /// Something may have changed.
    Change,
}

/// What to do after a reading.
#[derive(Debug)]
pub enum Verdict {
    /// It holds still.
    Settled(Result<Snapshot, ReadFailure>),
    /// Read again after this pause.
    Again(Duration),
}

/// Follows the readings of one attempt.
#[derive(Debug)]
pub struct Settle {
    urgency: Urgency,
    path: PathBuf,
    previous: Option<Snapshot>,
    /// What was seen last, and since when.
    last: Option<(Key, Duration)>,
}

/// Whether two readings saw the same.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Set(InputHash),
    Failed(ReadFailure),
}

impl Settle {
    /// `previous` is what settled last time.
    #[must_use]
    pub fn new(urgency: Urgency, path: Option<&Path>, previous: Option<Snapshot>) -> Self {
        Self { urgency, path: path.map(Path::to_owned).unwrap_or_default(), previous, last: None }
    }

    /// Judges what was seen `now`, counted from the first reading.
    pub fn observe(&mut self, seen: Seen, now: Duration) -> Verdict {
        let (key, still, result) = match seen {
            Seen::Torn => {
                self.last = None;
                return self.again(TORN_PAUSE, now);
            }
            Seen::Failed(failure) => {
                let still = self.stillness_of_failure(&failure);
                (Key::Failed(failure.clone()), still, Err(failure))
            }
            Seen::Set(snapshot) => (Key::Set(snapshot.hash), self.stillness(&snapshot), Ok(snapshot)),
        };
        let since = match &self.last {
            Some((last, since)) if *last == key => *since,
            Some(_) | None => now,
        };
        let held = now.saturating_sub(since);
        if held >= still {
            return Verdict::Settled(result);
        }
        self.last = Some((key, since));
        self.again(STILL.min(still.saturating_sub(held)), now)
    }

    fn again(&self, pause: Duration, now: Duration) -> Verdict {
        if now < SETTLE_TIMEOUT {
            return Verdict::Again(pause);
        }
        Verdict::Settled(Err(ReadFailure::Unsettled { path: self.path.clone(), after: SETTLE_TIMEOUT }))
    }

    fn stillness_of_failure(&self, failure: &ReadFailure) -> Duration {
        match (self.urgency, failure) {
            (Urgency::Start, ReadFailure::Empty { .. }) => STILL,
            (Urgency::Start, _) => Duration::ZERO,
            (Urgency::Change, _) => STILL_GONE,
        }
    }

    fn stillness(&self, snapshot: &Snapshot) -> Duration {
        if self.urgency == Urgency::Start {
            return if snapshot.is_old { Duration::ZERO } else { STILL };
        }
        let Some(previous) = &self.previous else { return STILL };
        if previous.hash == snapshot.hash {
            return Duration::ZERO;
        }
        if snapshot.writing == Writing::UnderWay {
            return STILL_OPEN;
        }
        if snapshot.is_doubtful {
            return STILL_DOUBTFUL;
        }
        let is_newly_absent = |(path, file): (&PathBuf, &FileRead)| {
            matches!(file, FileRead::Absent { .. })
                && !matches!(previous.files.get(path), Some(FileRead::Absent { .. }))
        };
        if snapshot.files.iter().any(is_newly_absent) {
            return STILL_GONE;
        }
        let ends_in_newline = snapshot.config.as_ref().is_none_or(|config| config.ends_with(b"\n"));
        let is_in_place = snapshot.config_id == previous.config_id && snapshot.config != previous.config;
        let may_be_cut_off = is_in_place && !ends_in_newline;
        if may_be_cut_off || snapshot.writing == Writing::Unknown { STILL_CUT_OFF } else { STILL }
    }
}
