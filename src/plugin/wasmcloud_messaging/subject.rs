//! Subjects and patterns of subjects as NATS knows them: validity, matching, overlap. Pure.

/// The longest subject: a line of the protocol has 4 KiB, and holds two of them.
const SUBJECT_BYTES_MAX: usize = 1 << 10;

/// Whether a message can be sent to it: tokens, none of which is empty or a wildcard.
pub(super) fn is_subject(text: &str) -> bool {
    is_pattern(text) && text.split('.').all(|token| !matches!(token, "*" | ">"))
}

/// Whether it can be subscribed to: `*` stands for one token, `>` at the end for one or more.
pub(super) fn is_pattern(text: &str) -> bool {
    let is_token = |token: &str| !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control());
    let rest = text.strip_suffix(".>").unwrap_or(text);
    text.len() <= SUBJECT_BYTES_MAX
        && text.split('.').all(is_token)
        && (text == ">" || rest.split('.').all(|token| token != ">"))
}

/// Whether `name` can be that of a queue group.
pub(super) fn is_group(name: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&name.len())
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>'))
}

/// Whether some subject matches both. A subject is a pattern, which matches itself.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            (Some(_), Some(_) | None) | (None, Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_have_tokens_and_no_wildcards() {
        for good in ["a", "a.b.c", "_INBOX.x.1", "a*.b>c", "ä.b", "$SYS.x"] {
            assert!(is_subject(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nPUB b 0", "*", "a.*", ">", "a.>", "a.*.b"] {
            assert!(!is_subject(bad), "{bad:?}");
        }
        assert!(!is_subject(&"a".repeat(SUBJECT_BYTES_MAX + 1)));
    }

    #[test]
    fn patterns_have_wildcards_as_whole_tokens_and_the_tail_at_the_end() {
        for good in ["a", "*", ">", "a.*", "*.a", "a.*.b", "a.>", "*.>"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["", "a.>.b", ">.a", ">.>", "a..>", "a. b", ".>"] {
            assert!(!is_pattern(bad), "{bad:?}");
        }
    }

    #[test]
    fn groups_have_no_blanks_and_no_wildcards() {
        assert!(is_group("a.b-c_d"));
        for bad in ["", " ", "a b", "a*", ">"] {
            assert!(!is_group(bad), "{bad:?}");
        }
    }

    #[test]
    fn patterns_overlap_when_a_subject_matches_both() {
        for (a, b) in [
            ("a.b", "a.b"),
            ("a.*", "a.b"),
            ("a.>", "a.b.c"),
            ("*.b", "a.*"),
            (">", "runtime.x"),
            ("*.>", "runtime.host.x"),
            ("runtime.>", "runtime.*.y"),
        ] {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in [("a", "a.b"), ("a.>", "a"), ("a.*", "a.b.c"), ("runtime.>", "runtimes.x"), ("*", "a.b")] {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }
}
