//! Which of several overlapping connections handles a message that each of them may deliver: pure.
//!
//! While one connection replaces another, both are subscribed to the same subjects. On one server, or in one cluster,
//! each message then arrives twice; on servers that know nothing of each other it arrives once, on either. Equal
//! messages are counted for each side, and a message is handled as often as the side saw it that saw it more: none is
//! lost and none is handled twice, in whatever order they arrive. Only equal messages of which one side saw the first
//! and the other the second can pass for one; requests differ in where their reply goes.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// Two copies of a message lie milliseconds apart; what comes after this long is another message.
const REMEMBERED: Duration = Duration::from_secs(5);
/// Of 200 bytes each. Past it the oldest is forgotten: its copy has had 32,768 messages' time to arrive.
const MESSAGES_MAX: usize = 32_768;

/// What makes two messages the same one: subject, reply subject and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

/// How often each message was seen, by side.
#[derive(Debug)]
pub(crate) struct Handover<S> {
    seen: HashMap<Fingerprint, Vec<(S, u32)>>,
    /// In the order in which they were first seen.
    order: VecDeque<(Instant, Fingerprint)>,
}

impl Fingerprint {
    /// Of a message; `reply` is empty if it wants none.
    pub(crate) fn of(subject: &str, reply: &str, payload: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [subject.as_bytes(), reply.as_bytes(), payload] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl<S> Default for Handover<S> {
    fn default() -> Self {
        Self { seen: HashMap::new(), order: VecDeque::new() }
    }
}

impl<S: Copy + PartialEq> Handover<S> {
    /// Whether to handle a message that `side` saw while others were subscribed as well.
    pub(crate) fn during(&mut self, side: S, message: Fingerprint, now: Instant) -> bool {
        self.forget(now);
        if !self.seen.contains_key(&message) {
            self.order.push_back((now, message));
            if self.order.len() > MESSAGES_MAX
                && let Some((_at, oldest)) = self.order.pop_front()
            {
                self.seen.remove(&oldest);
            }
        }
        count(self.seen.entry(message).or_default(), side)
    }

    /// Whether to handle a message that `side` saw when it was alone again: it may be the copy of an earlier one.
    pub(crate) fn after(&mut self, side: S, message: Fingerprint, now: Instant) -> bool {
        self.forget(now);
        self.seen.get_mut(&message).is_none_or(|counts| count(counts, side))
    }

    /// Whether a copy may still be on its way.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.order.is_empty()
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, oldest)) = self.order.front().copied()
            && now.saturating_duration_since(at) > REMEMBERED
        {
            self.order.pop_front();
            self.seen.remove(&oldest);
        }
    }
}

/// Counts one more for `side`; whether that is more than any side had.
fn count<S: Copy + PartialEq>(counts: &mut Vec<(S, u32)>, side: S) -> bool {
    let handled = counts.iter().map(|(_side, count)| *count).max().unwrap_or(0);
    let count = match counts.iter_mut().find(|(other, _count)| *other == side) {
        Some((_side, count)) => {
            *count = count.saturating_add(1);
            *count
        }
        None => {
            counts.push((side, 1));
            1
        }
    };
    count > handled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(number: u8) -> Fingerprint {
        Fingerprint::of("runtime.host.x.workload.start", &format!("_INBOX.{number}"), b"{}")
    }

    proptest! {
        #[test]
        fn each_message_is_handled_as_often_as_the_side_saw_it_that_saw_it_more(
            arrivals in prop::collection::vec((0..3_u8, 0..6_u8), 0..200)
        ) {
            let now = Instant::now();
            let mut handover = Handover::default();
            let mut handled: HashMap<u8, u32> = HashMap::new();
            let mut seen: HashMap<(u8, u8), u32> = HashMap::new();
            for (side, number) in arrivals {
                *seen.entry((side, number)).or_default() += 1;
                *handled.entry(number).or_default() += u32::from(handover.during(side, message(number), now));
            }
            for (number, handled) in handled {
                let most = (0..3).filter_map(|side| seen.get(&(side, number))).max().copied();
                prop_assert_eq!(Some(handled), most);
            }
        }

        /// Both connections of one server deliver every message, each in order and at its own pace; the old one ends.
        #[test]
        fn nothing_is_lost_or_doubled_however_the_copies_interleave(
            choices in prop::collection::vec(any::<bool>(), 0..100), begin in 0..10_u8, end in 10..20_u8, all in 20..30_u8
        ) {
            let now = Instant::now();
            let mut handover = Handover::default();
            let mut handled = Vec::new();
            let mut old = (0..end).peekable();
            let mut new = (begin..all).peekable();
            let mut choices = choices.into_iter();
            while old.peek().is_some() || new.peek().is_some() {
                let from_old = new.peek().is_none() || (old.peek().is_some() && choices.next().unwrap_or(false));
                let (side, number, is_alone) = if from_old {
                    ("old", old.next().unwrap(), false)
                } else {
                    ("new", new.next().unwrap(), old.peek().is_none())
                };
                let take = if is_alone { Handover::after } else { Handover::during };
                if take(&mut handover, side, message(number), now) {
                    handled.push(number);
                }
            }
            handled.sort_unstable();
            prop_assert_eq!(handled, (0..all).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_came_long_ago_is_another_message() {
        let start = Instant::now();
        let mut handover = Handover::default();
        assert!(handover.during("old", message(1), start));
        assert!(!handover.during("new", message(1), start + REMEMBERED));
        assert!(!handover.is_over(start + REMEMBERED));
        assert!(handover.is_over(start + REMEMBERED * 2));
        assert!(handover.after("new", message(1), start + REMEMBERED * 2));
    }

    #[test]
    fn no_more_messages_are_remembered_than_fit() {
        let now = Instant::now();
        let mut handover = Handover::default();
        for i in 0..=MESSAGES_MAX {
            assert!(handover.during("old", Fingerprint::of("s", &i.to_string(), b""), now));
        }
        assert_eq!((handover.seen.len(), handover.order.len()), (MESSAGES_MAX, MESSAGES_MAX));
        assert!(!handover.during("new", Fingerprint::of("s", "1", b""), now));
    }

    #[test]
    fn subject_reply_and_content_tell_messages_apart() {
        let prints = [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""), ("a", "b", "d"), ("a", "", "bc")]
            .map(|(subject, reply, payload)| Fingerprint::of(subject, reply, payload.as_bytes()));
        for (i, print) in prints.iter().enumerate() {
            assert_eq!(prints.iter().position(|other| other == print), Some(i));
        }
    }
}
