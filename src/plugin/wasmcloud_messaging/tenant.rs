//! What is kept of one workload, whatever version of it runs: where it may reply to.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a message may be replied to where guests may not send otherwise.
const REPLY_TIME_MAX: Duration = Duration::from_secs(600);

/// Of 100 bytes each. Past it the oldest is forgotten.
const REPLIES_MAX: usize = 16_384;

/// Lives as long as a binding of the workload.
#[derive(Debug, Default)]
pub(super) struct Tenant(Mutex<Replies>);

#[derive(Debug, Default)]
struct Replies {
    until: HashMap<String, Instant>,
    /// In the order in which they were expected; one that was expected again is in it twice.
    order: VecDeque<(Instant, String)>,
}

impl Tenant {
    /// A message with this `reply-to` was received.
    pub(super) fn expect_reply(&self, reply_to: &str, now: Instant) {
        let mut replies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = now + REPLY_TIME_MAX;
        replies.until.insert(reply_to.to_owned(), until);
        replies.order.push_back((until, reply_to.to_owned()));
        while let Some((expected, _subject)) = replies.order.front()
            && (replies.order.len() > REPLIES_MAX || *expected <= now)
            && let Some((expected, subject)) = replies.order.pop_front()
        {
            if replies.until.get(&subject) == Some(&expected) {
                replies.until.remove(&subject);
            }
        }
    }

    /// Whether the workload received a message that is to be replied to there.
    pub(super) fn may_reply(&self, subject: &str, now: Instant) -> bool {
        let replies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        replies.until.get(subject).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_expected_for_ten_minutes() {
        let (tenant, start) = (Tenant::default(), Instant::now());
        tenant.expect_reply("_INBOX.1", start);
        assert!(tenant.may_reply("_INBOX.1", start + REPLY_TIME_MAX / 2));
        assert!(!tenant.may_reply("_INBOX.2", start) && !tenant.may_reply("_INBOX.1", start + REPLY_TIME_MAX));
        tenant.expect_reply("_INBOX.1", start + REPLY_TIME_MAX / 2);
        tenant.expect_reply("_INBOX.3", start + REPLY_TIME_MAX);
        assert!(tenant.may_reply("_INBOX.1", start + REPLY_TIME_MAX), "expected again");
    }

    #[test]
    fn no_more_replies_are_remembered_than_fit() {
        let (tenant, now) = (Tenant::default(), Instant::now());
        for number in 0..=REPLIES_MAX {
            tenant.expect_reply(&number.to_string(), now);
        }
        let replies = tenant.0.lock().unwrap();
        assert_eq!((replies.until.len(), replies.order.len()), (REPLIES_MAX, REPLIES_MAX));
        assert!(!replies.until.contains_key("0"));
    }
}
