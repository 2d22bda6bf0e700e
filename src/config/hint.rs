//! "did you mean": the nearest of some words.

/// The word nearest to `word`, if it is near enough to have been meant: at most 2 edits, or a third of its length.
pub(crate) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    let limit = (length / 3).max(2).min(length.saturating_sub(1));
    let distance = |near: &&'a str| strsim::osa_distance(&word.to_ascii_lowercase(), &near.to_ascii_lowercase());
    words.map(|near| (distance(&near), near)).filter(|(distance, _)| *distance <= limit).min().map(|(_, near)| near)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_near_word_is_found_and_a_far_one_is_not() {
        let words = || ["listen", "request_timeout", "header_read_timeout"].into_iter();
        assert_eq!(nearest("lisen", words()), Some("listen"));
        assert_eq!(nearest("request-timeout", words()), Some("request_timeout"));
        assert_eq!(nearest("header_timeout", words()), None);
        assert_eq!(nearest("port", words()), None);
    }
}
