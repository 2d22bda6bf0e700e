//! Waiting longer after each failure: exponential, capped, with jitter.

use std::time::Duration;

/// The pauses between attempts: `first`, doubled each time up to `max`, each shortened by up to a quarter at random
/// so that many hosts do not act at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts over at `first`.
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.max);
        // The top byte of a random id is random enough for jitter, and `uuid` is here anyway.
        let random = u32::from(uuid::Uuid::new_v4().as_bytes().first().copied().unwrap_or(0));
        pause - pause * random / 1024
    }

    /// After a success: the next pause is the first one again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for whole in [100, 200, 350, 350] {
            let pause = backoff.pause().as_millis();
            assert!(pause <= whole && pause >= whole * 3 / 4, "{pause} of {whole}");
        }
        backoff.reset();
        assert!(backoff.pause().as_millis() <= 100);
    }
}
