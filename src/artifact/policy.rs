//! When the registry is asked for an image that may be cached; pure.

use crate::types::PullPolicy;

/// What the cache says about a reference and a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// This login, or nobody's, has fetched it before: it may be handed out without asking.
    pub(super) is_granted: bool,
    /// The tag was looked up less than `tag_ttl` ago.
    pub(super) is_fresh: bool,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Take the cached copy without a request.
    Use,
    /// Ask for the manifest, to see that this login may have the image; then take the cached copy.
    AskAccess,
    /// Ask briefly whether the tag has moved; the cached copy serves if it has not, or if nobody answers.
    AskDigest,
    /// Ask for the manifest and take what it names.
    Pull,
    /// Not at all.
    Refuse,
}

/// `known` is `None` if nothing is cached under the reference.
pub(super) fn decide(policy: PullPolicy, is_by_digest: bool, known: Option<Known>) -> Decision {
    let Some(known) = known else {
        return match policy {
            PullPolicy::Never => Decision::Refuse,
            PullPolicy::Unspecified | PullPolicy::Always | PullPolicy::IfNotPresent => Decision::Pull,
        };
    };
    match policy {
        PullPolicy::Always => Decision::Pull,
        PullPolicy::IfNotPresent | PullPolicy::Never if known.is_granted => Decision::Use,
        PullPolicy::IfNotPresent | PullPolicy::Never => Decision::AskAccess,
        PullPolicy::Unspecified if !known.is_granted => Decision::Pull,
        PullPolicy::Unspecified if is_by_digest || known.is_fresh => Decision::Use,
        PullPolicy::Unspecified => Decision::AskDigest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PullPolicy::{Always, IfNotPresent, Never, Unspecified};

    const GRANTED: Known = Known { is_granted: true, is_fresh: false };

    #[test]
    fn nothing_cached_is_pulled_unless_the_policy_is_never() {
        for policy in [Always, IfNotPresent, Unspecified] {
            assert_eq!(decide(policy, false, None), Decision::Pull);
        }
        assert_eq!(decide(Never, true, None), Decision::Refuse);
    }

    #[test]
    fn a_granted_copy_is_used_as_the_policy_says() {
        for is_by_digest in [false, true] {
            assert_eq!(decide(Always, is_by_digest, Some(GRANTED)), Decision::Pull);
            assert_eq!(decide(IfNotPresent, is_by_digest, Some(GRANTED)), Decision::Use);
            assert_eq!(decide(Never, is_by_digest, Some(GRANTED)), Decision::Use);
        }
        assert_eq!(decide(Unspecified, true, Some(GRANTED)), Decision::Use);
        assert_eq!(decide(Unspecified, false, Some(GRANTED)), Decision::AskDigest);
        assert_eq!(decide(Unspecified, false, Some(Known { is_fresh: true, ..GRANTED })), Decision::Use);
    }

    #[test]
    fn a_copy_fetched_with_another_login_is_never_used_unasked() {
        for is_fresh in [false, true] {
            let known = Some(Known { is_granted: false, is_fresh });
            for policy in [Always, IfNotPresent, Never, Unspecified] {
                for is_by_digest in [false, true] {
                    let decision = decide(policy, is_by_digest, known);
                    assert!(matches!(decision, Decision::AskAccess | Decision::Pull), "{policy:?}: {decision:?}");
                }
            }
        }
    }
}
