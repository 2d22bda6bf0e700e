//! What became of messages: counted, and said at most now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Chain;
use crate::plugin::guest::{GuestAnswer, GuestCallError};

/// A warning that goes on is said again after this long.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Handled,
    /// The guest said no.
    Refused,
    /// The guest trapped.
    Failed,
    /// The guest took too long.
    Late,
    /// No place was free in time.
    Shed,
    /// The workload was stopped.
    Cut,
}

/// How often each.
#[derive(Debug, Default)]
pub(super) struct Outcomes([AtomicU64; 6]);

impl Outcome {
    const ALL: [Self; 6] = [Self::Handled, Self::Refused, Self::Failed, Self::Late, Self::Shed, Self::Cut];

    /// Of a call; if it went badly, with why.
    pub(super) fn of(answer: &Result<GuestAnswer, GuestCallError>) -> Result<Self, (Self, String)> {
        let outcome = match answer {
            Ok(Ok(())) => return Ok(Self::Handled),
            Ok(Err(refusal)) => return Err((Self::Refused, refusal.clone())),
            Err(GuestCallError::Guest(source)) => return Err((Self::Failed, format!("{source:#}"))),
            Err(GuestCallError::Deadline(_)) => Self::Late,
            Err(GuestCallError::Busy) => Self::Shed,
            Err(GuestCallError::Unavailable) => Self::Cut,
        };
        Err((outcome, answer.as_ref().err().map(|error| Chain(error).to_string()).unwrap_or_default()))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Shed => "shed",
            Self::Cut => "cut",
        }
    }
}

impl Outcomes {
    pub(super) fn count(&self, outcome: Outcome) {
        if let Some(count) = self.0.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All of them, by name.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        Outcome::ALL
            .iter()
            .zip(&self.0)
            .map(|(outcome, count)| (outcome.name(), count.load(Ordering::Relaxed)))
            .collect()
    }
}

/// Lets one report through, then none for a while, and counts those it kept.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// How many were kept since the last one, if this one may be said.
    pub(super) fn may_speak(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, kept) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < REPEAT_AFTER) {
            *kept = kept.saturating_add(1);
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(kept))
    }
}
