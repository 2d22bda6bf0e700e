//! What a workload says about one component: its subscriptions, its group, its limits. Pure.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::{group, subject};
use crate::config::QueueGroup;
use crate::plugin::guest::{Attach, AttachError};

/// How long a message waits for a place unless the workload says otherwise, and at the longest.
const ADMISSION_WAIT: Duration = Duration::from_secs(30);
const ADMISSION_WAIT_MAX: Duration = Duration::from_secs(600);

/// Subscriptions of one component: each is a subscription at the server.
const SUBSCRIPTIONS_MAX: usize = 256;

/// What a component asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) subscriptions: Vec<String>,
    group: GroupWish,
    /// Can only lower what the host allows.
    pub(super) max_in_flight: Option<NonZeroUsize>,
    pub(super) admission_wait: Duration,
    /// Settings that cannot be read and count as not made, each with its key.
    pub(super) ignored: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum GroupWish {
    Derived,
    Named(String),
    /// Every subscriber gets every message.
    Broadcast,
}

impl Wishes {
    /// The component's settings come before those of the entries.
    pub(super) fn of(attach: &Attach) -> Result<Self, AttachError> {
        let layers = std::iter::once(&attach.local_resources.config).chain(attach.entries.iter().map(|e| &e.config));
        Self::read(&layers.collect::<Vec<_>>())
    }

    fn read(layers: &[&BTreeMap<String, String>]) -> Result<Self, AttachError> {
        let get = |key: &str| layers.iter().find_map(|layer| layer.get(key)).map(|text| text.trim());
        let listed = get("subscriptions").unwrap_or_default();
        let mut subscriptions: Vec<String> = Vec::new();
        for pattern in listed.split(',').map(str::trim).filter(|_| !listed.is_empty()) {
            if !subject::is_pattern(pattern) {
                return Err(AttachError::Settings(format!("subscription '{pattern}' is not a NATS subject")));
            }
            if !subscriptions.iter().any(|known| known == pattern) {
                subscriptions.push(pattern.to_owned());
            }
        }
        if subscriptions.len() > SUBSCRIPTIONS_MAX {
            let message = format!("a component has at most {SUBSCRIPTIONS_MAX} subscriptions");
            return Err(AttachError::Settings(message));
        }
        let group = match get("consumer_group") {
            None => GroupWish::Derived,
            Some("broadcast") => GroupWish::Broadcast,
            Some(name) if subject::is_group(name) => GroupWish::Named(name.to_owned()),
            Some(name) => {
                return Err(AttachError::Settings(format!("consumer_group '{name}' is not the name of a queue group")));
            }
        };
        let mut ignored = Vec::new();
        let mut unread = |key: &'static str, text: &str| ignored.push((key, text.to_owned()));
        let max_in_flight = get("max_in_flight").and_then(|text| {
            let number = text.parse().ok();
            if number.is_none() {
                unread("max_in_flight", text);
            }
            number
        });
        let admission_wait = get("admission_wait").and_then(|text| {
            let wait = seconds(text).or_else(|| humantime::parse_duration(text).ok());
            if wait.is_none() {
                unread("admission_wait", text);
            }
            wait
        });
        let admission_wait = admission_wait.unwrap_or(ADMISSION_WAIT).min(ADMISSION_WAIT_MAX);
        Ok(Self { subscriptions, group, max_in_flight, admission_wait, ignored })
    }

    /// The queue group; `None` without one.
    pub(super) fn group(&self, attach: &Attach, rule: QueueGroup) -> Option<String> {
        let workload = match rule {
            QueueGroup::Deployment if attach.is_replica => group::deployment_of(&attach.workload_name),
            QueueGroup::Deployment | QueueGroup::Workload => &attach.workload_name,
        };
        match &self.group {
            GroupWish::Broadcast => None,
            GroupWish::Named(name) => Some(name.clone()),
            GroupWish::Derived => {
                Some(group::queue_group(&attach.workload_namespace, workload, attach.component.as_str()))
            }
        }
    }
}

/// A number without a unit is of seconds.
fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Wishes, String> {
        Wishes::read(&[&config(pairs)]).map_err(|error| error.to_string())
    }

    #[test]
    fn without_settings_nothing_is_subscribed_and_a_message_waits_half_a_minute() {
        let wishes = read(&[]).unwrap();
        assert!(wishes.subscriptions.is_empty() && wishes.ignored.is_empty());
        assert_eq!((wishes.max_in_flight, wishes.admission_wait), (None, Duration::from_secs(30)));
        assert_eq!(wishes.group, GroupWish::Derived);
    }

    #[test]
    fn the_component_comes_before_the_entry() {
        let component = config(&[("subscriptions", "a.b , c.*,,"), ("admission_wait", "0")]);
        let entry = config(&[("subscriptions", "x"), ("consumer_group", "broadcast")]);
        let error = Wishes::read(&[&component, &entry]).unwrap_err();
        assert_eq!(error.to_string(), "subscription '' is not a NATS subject");
        let component = config(&[("subscriptions", "a.b , c.*, a.b"), ("admission_wait", "0")]);
        let wishes = Wishes::read(&[&component, &entry]).unwrap();
        assert_eq!(wishes.subscriptions, ["a.b", "c.*"]);
        assert_eq!((wishes.group, wishes.admission_wait), (GroupWish::Broadcast, Duration::ZERO));
    }

    #[test]
    fn waits_are_seconds_or_have_a_unit_and_end_after_ten_minutes() {
        for (text, wait) in [("5", 5_000), ("1.5", 1_500), ("250ms", 250), ("2m", 120_000), ("2h", 600_000)] {
            assert_eq!(
                read(&[("admission_wait", text)]).unwrap().admission_wait,
                Duration::from_millis(wait),
                "{text}"
            );
        }
    }

    #[test]
    fn limits_that_cannot_be_read_count_as_not_made_and_are_named() {
        let wishes = read(&[("max_in_flight", "0"), ("admission_wait", "soon")]).unwrap();
        assert_eq!((wishes.max_in_flight, wishes.admission_wait), (None, ADMISSION_WAIT));
        let named = [("max_in_flight", "0".to_owned()), ("admission_wait", "soon".to_owned())];
        assert_eq!(wishes.ignored, named);
        assert_eq!(read(&[("max_in_flight", "3")]).unwrap().max_in_flight, NonZeroUsize::new(3));
    }

    #[test]
    fn wrong_subjects_and_groups_are_refused_by_name() {
        assert_eq!(read(&[("subscriptions", "a b")]).unwrap_err(), "subscription 'a b' is not a NATS subject");
        for group in ["", "a b", "*", "x.>"] {
            let expected = format!("consumer_group '{group}' is not the name of a queue group");
            assert_eq!(read(&[("consumer_group", group)]).unwrap_err(), expected);
        }
    }
}
