//! The line of the file that a problem is in: secrets masked, cut to what fits a terminal, a caret below. Pure.

use std::ops::Range;

/// As many characters of a line are shown; a longer one is cut around what is meant.
const CHARS_MAX: usize = 120;

/// As many of them stand before what is meant, if the line is cut.
const CHARS_BEFORE: usize = 40;

/// What stands for a secret.
const MASK: &str = "***";

/// Stands where a line was cut.
const CUT: char = '…';

/// A line of the file with the part that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The line, or the part of it that is shown; secrets masked.
    text: String,
    /// Where the marked part starts, in characters of the text from 0.
    start: usize,
    /// How many characters are marked, at least one.
    len: usize,
}

impl Snippet {
    /// The line that starts at `line_start`, `marked` and the sorted `masks` in bytes of the same text as that.
    pub(super) fn new(line: &str, line_start: usize, marked: Range<usize>, masks: &[Range<usize>]) -> Self {
        let at = marked.start.saturating_sub(line_start).min(line.len());
        let (before, behind) = line.split_at_checked(at).unwrap_or((line, ""));
        let is_short = line.char_indices().nth(CHARS_MAX).is_none();
        let first =
            if is_short { 0 } else { before.char_indices().rev().take(CHARS_BEFORE).last().map_or(at, |(i, _)| i) };
        let shown_before = before.get(first..).unwrap_or_default().chars().count();
        let room = CHARS_MAX.saturating_sub(shown_before);
        let last = if is_short { None } else { behind.char_indices().nth(room) };
        let end = last.map_or(line.len(), |(i, _)| at.saturating_add(i));

        let (mut text, mut start, mut len) = (String::new(), None, 0_usize);
        if first > 0 {
            text.push(CUT);
        }
        let mut shown_mask = None;
        for (offset, c) in line.get(first..end).unwrap_or_default().char_indices() {
            let at = line_start.saturating_add(first).saturating_add(offset);
            let is_marked = marked.contains(&at);
            if is_marked && start.is_none() {
                start = Some(text.chars().count());
            }
            let next = masks.partition_point(|mask| mask.start <= at);
            let mask = next.checked_sub(1).filter(|i| masks.get(*i).is_some_and(|mask| mask.contains(&at)));
            let shown = match mask {
                Some(_) if mask == shown_mask => continue,
                Some(_) => {
                    text.push_str(MASK);
                    MASK.len()
                }
                None => {
                    // What moves the cursor or rings the bell stays in the file.
                    text.push(if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c });
                    1
                }
            };
            shown_mask = mask;
            len = if is_marked { len.saturating_add(shown) } else { len };
        }
        let start = start.unwrap_or_else(|| text.chars().count());
        if end < line.len() {
            text.push(CUT);
        }
        Self { text, start, len: len.max(1) }
    }

    /// Behind a syntax error nobody knows what is a secret: nothing right of the first `=` is shown, and nothing at
    /// all if what is left of it is no key. `at` is in bytes of the line.
    pub(super) fn of_syntax(line: &str, at: usize) -> Option<Self> {
        let is_of_key = |c: char| c.is_alphanumeric() || " \t_-.\"'".contains(c);
        let (shown, _hidden) = line.split_once('=').filter(|(key, _)| key.chars().all(is_of_key))?;
        let start = line.get(..at)?.chars().count();
        // Behind the first word of `password hunter2 = …` stands what may be meant for a value.
        let words = shown.trim_start();
        let indent = shown.len().saturating_sub(words.len());
        let word_end = words.find(char::is_whitespace).map(|end| end.saturating_add(indent));
        if let Some((word, rest)) = word_end.and_then(|end| shown.split_at_checked(end))
            && !rest.trim().is_empty()
        {
            let width = word.chars().count();
            return Some(Self { text: format!("{word} {MASK}"), start: start.min(width.saturating_add(1)), len: 1 });
        }
        let width = shown.chars().count();
        if width > CHARS_MAX {
            return None;
        }
        Some(Self { text: format!("{shown}= {MASK}"), start: start.min(width.saturating_add(2)), len: 1 })
    }

    /// With the number of the line before it and carets under what is meant.
    pub(super) fn text(&self, line: usize) -> String {
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        let mut lead = String::new();
        for c in self.text.chars().take(self.start) {
            match c {
                // Tabs stay tabs, so that the caret stands where the terminal puts the text.
                '\t' => lead.push('\t'),
                c => lead.extend(std::iter::repeat_n(' ', columns(c))),
            }
        }
        let marked: usize = self.text.chars().skip(self.start).take(self.len).map(columns).sum();
        let carets = "^".repeat(marked.max(1));
        format!("{gutter} |\n{number} | {}\n{gutter} | {lead}{carets}\n", self.text)
    }
}

/// How many columns of a terminal a character takes: the wide blocks of Unicode's UAX 11, and what combines with the
/// character before.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASKED: [Range<usize>; 2] = [4..12, 90..91];

    fn shown(line: &str, meant: &str, masks: &[Range<usize>]) -> String {
        let at = line.find(meant).unwrap();
        Snippet::new(line, 0, at..at + meant.len(), masks).text(7)
    }

    #[test]
    fn the_caret_stands_below_what_is_meant() {
        assert_eq!(shown("a = 10", "10", &[]), "  |\n7 | a = 10\n  |     ^^\n");
        assert_eq!(shown("\ta = 10", "10", &[]), "  |\n7 | \ta = 10\n  | \t    ^^\n");
        assert_eq!(shown("日本 = 語, b = 1", "b", &[]), "  |\n7 | 日本 = 語, b = 1\n  |            ^\n");
        assert_eq!(shown("a = 日本", "日本", &[]), "  |\n7 | a = 日本\n  |     ^^^^\n");
        assert_eq!(shown("a = e\u{301}, b", "b", &[]), "  |\n7 | a = e\u{301}, b\n  |        ^\n");
        assert_eq!(shown("k = 'canary', b", "b", &MASKED), "  |\n7 | k = ***, b\n  |          ^\n");
        assert_eq!(shown("k = 'canary', b", "'canary'", &MASKED), "  |\n7 | k = ***, b\n  |     ^^^\n");
        assert_eq!(shown("a\u{1b}[2J = 1", "1", &[]), "  |\n7 | a\u{fffd}[2J = 1\n  |         ^\n");
    }

    #[test]
    fn a_long_line_is_cut_around_what_is_meant() {
        let line = format!("{}HERE{}", "é".repeat(500), "ü".repeat(500));
        let cut = format!("…{}HERE{}…", "é".repeat(40), "ü".repeat(76));
        assert_eq!(shown(&line, "HERE", &[]), format!("  |\n7 | {cut}\n  | {}^^^^\n", " ".repeat(41)));
        let all = Snippet::new(&line, 0, 1000..line.len(), &[]).text(7);
        assert!(all.lines().all(|line| line.chars().count() < 130), "{all}");
        assert!(shown(&line, "HERE", std::slice::from_ref(&(0..1000))).starts_with("  |\n7 | …***HEREü"));
        let at_the_end = Snippet::new(&line, 0, line.len()..line.len(), &[]).text(7);
        assert!(at_the_end.ends_with(&format!("ü\n  | {}^\n", " ".repeat(41))), "{at_the_end}");
    }

    #[test]
    fn behind_a_syntax_error_no_value_is_shown() {
        let text = Snippet::of_syntax("password = \"canary", 18).unwrap().text(3);
        assert_eq!(text, "  |\n3 | password = ***\n  |            ^\n");
        assert_eq!(Snippet::of_syntax("password: canary", 8), None);
        let text = Snippet::of_syntax(" password canary = 1", 10).unwrap().text(3);
        assert_eq!(text, "  |\n3 |  password ***\n  |           ^\n");
        assert_eq!(Snippet::of_syntax(&format!("{}=1", "a".repeat(500)), 8), None);
    }
}
