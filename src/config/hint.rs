//! "did you mean": the nearest of some words, or the one that a word is short or long for. Pure.

/// The word nearest to `word`, if it is near enough to have been meant: at most 2 edits, or a third of its length; in
/// a word of up to three letters 1, since nearly every short word is two edits from some other.
pub(crate) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nearest_within(usize::MAX, word, words)
}

/// As [`nearest`], at most `edits` away.
pub(crate) fn nearest_within<'a>(edits: usize, word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let length = word.chars().count();
    let limit = if length <= 3 { 1 } else { (length / 3).max(2) }.min(length.saturating_sub(1)).min(edits);
    let rated = words.map(|near| {
        let folded = near.to_ascii_lowercase();
        let distance = strsim::osa_distance(&word, &folded);
        // Among equally near ones: fingers slip inside of a word more often than at its first letter.
        let has_other_start = word.chars().next() != folded.chars().next();
        (distance, has_other_start, length.abs_diff(folded.chars().count()), near)
    });
    rated.filter(|(distance, ..)| *distance <= limit).min().map(|(.., near)| near)
}

/// The only one of `words` that `word` may be short for: `endpoint` for `otlp_endpoint`, `size_max` for
/// `max_artifact_size`, `env` for `environment`, `lvl` for `level`.
pub(crate) fn short_for<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let words: Vec<&str> = words.collect();
    let only = |is_meant: &dyn Fn(&str, &str) -> bool| only(word, &words, is_meant);
    only(&|word, other| has_parts_of(other, word))
        .or_else(|| only(&|word, other| is_long_enough(word) && other.starts_with(word)))
        .or_else(|| only(&is_abbreviation))
}

/// The only one of `words` that `word` may be a longer form of: `username` of `user`, `memory_limit` of `memory`.
pub(crate) fn long_for<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let words: Vec<&str> = words.collect();
    let only = |is_meant: &dyn Fn(&str, &str) -> bool| only(word, &words, is_meant);
    only(&has_parts_of)
        .or_else(|| only(&|word, other| is_long_enough(other) && (word.starts_with(other) || word.ends_with(other))))
}

fn only<'a>(word: &str, words: &[&'a str], is_meant: &dyn Fn(&str, &str) -> bool) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let mut meant = words.iter().filter(|other| is_meant(&word, &other.to_ascii_lowercase()));
    meant.next().filter(|_| meant.next().is_none()).copied()
}

/// Shorter ones are part of everything.
fn is_long_enough(word: &str) -> bool {
    word.chars().count() >= 3
}

/// Whether every part of `few` is one of `many`, in any order: parts are what stands between `_` and `-`.
fn has_parts_of(many: &str, few: &str) -> bool {
    let parts = |text: &str| text.split(['_', '-']).map(str::to_owned).collect::<Vec<_>>();
    let many = parts(many);
    is_long_enough(few) && parts(few).iter().all(|part| many.contains(part))
}

/// Whether `word` has first and last letter of `other` and, between, some of its letters in their order.
fn is_abbreviation(word: &str, other: &str) -> bool {
    let mut letters = other.chars();
    is_long_enough(word)
        && word.chars().next() == other.chars().next()
        && word.chars().next_back() == other.chars().next_back()
        && word.chars().all(|c| letters.any(|letter| letter == c))
}

#[cfg(test)]
mod tests {
    use super::{long_for, nearest, short_for};

    #[test]
    fn a_near_word_is_found_and_a_far_one_is_not() {
        let words = || ["listen", "request_timeout", "header_read_timeout"].into_iter();
        assert_eq!(nearest("lisen", words()), Some("listen"));
        assert_eq!(nearest("request-timeout", words()), Some("request_timeout"));
        assert_eq!(nearest("header_timeout", words()), None);
        assert_eq!(nearest("port", words()), None);
    }

    #[test]
    fn a_short_word_is_taken_for_its_neighbours_only() {
        let words = || ["ca", "key", "cert", "first"].into_iter();
        assert_eq!(nearest("caa", words()), Some("ca"));
        assert_eq!(nearest("kez", words()), Some("key"));
        assert_eq!(nearest("tls", words()), None);
        assert_eq!(nearest("c", words()), None);
    }

    #[test]
    fn a_short_or_a_long_form_is_found_if_only_one_can_be_meant() {
        let words = ["user", "password", "otlp_endpoint", "max_artifact_size", "level", "pull_timeout", "call_timeout"];
        let short_for = |word: &str| short_for(word, words.into_iter());
        assert_eq!(long_for("username", words.into_iter()), Some("user"));
        assert_eq!(long_for("log_level", words.into_iter()), Some("level"));
        assert_eq!(long_for("timeouts", words.into_iter()), None);
        assert_eq!(short_for("endpoint"), Some("otlp_endpoint"));
        assert_eq!(short_for("size_max"), Some("max_artifact_size"));
        assert_eq!(short_for("lvl"), Some("level"));
        assert_eq!(short_for("pass"), Some("password"));
        assert_eq!(short_for("timeout"), None);
        assert_eq!(short_for("us"), None);
    }
}
