//! Syntax errors as people make them: one for each mistake, where it was made, in words about the text. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// A mistake of syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Where, in bytes.
    pub(crate) span: Range<usize>,
    /// What; never quotes the text, which may be a secret.
    pub(crate) message: String,
}

/// A table header or a key with its value: as much of the text as one mistake can spoil.
#[derive(Debug)]
struct Statement {
    range: Range<usize>,
    /// What is still open where the text ends.
    unclosed: Option<Unclosed>,
}

#[derive(Debug, Clone, Copy)]
enum Unclosed {
    Array(usize),
    InlineTable(usize),
    /// The quote it began with is of this character.
    MultiLine(usize, char),
}

/// What the parser found, reduced to one mistake per statement: what it says behind the first one is about how it went
/// on, not about the text.
pub(crate) fn mistakes(text: &str, mut found: Vec<Mistake>) -> Vec<Mistake> {
    found.sort_by_key(|mistake| mistake.span.start);
    let statements = statements(text);
    let mut first: BTreeMap<usize, Mistake> = BTreeMap::new();
    for mistake in found {
        let at = mistake.span.start;
        let mistake = reworded(text, mistake);
        let next = statements.partition_point(|statement| statement.range.start <= at);
        let statement = next.checked_sub(1).and_then(|i| statements.get(i)).filter(|it| at <= it.range.end);
        let Some(statement) = statement else {
            first.entry(line_start(text, at)).or_insert(mistake);
            continue;
        };
        let is_unclosed_text = mistake.message.contains(" string, expected `");
        let chosen = match statement.unclosed {
            Some(Unclosed::Array(open)) if !is_unclosed_text => unclosed(open, "unclosed array, expected `]`"),
            Some(Unclosed::InlineTable(open)) if !is_unclosed_text => {
                unclosed(open, "unclosed inline table, expected `}`")
            }
            Some(Unclosed::MultiLine(open, '"')) => {
                unclosed(open, "invalid multi-line basic string, expected `\"\"\"`")
            }
            Some(Unclosed::MultiLine(open, _)) => unclosed(open, "invalid multi-line literal string, expected `'''`"),
            Some(Unclosed::Array(_) | Unclosed::InlineTable(_)) | None => mistake,
        };
        let known = first.entry(statement.range.start).or_insert_with(|| chosen.clone());
        // A text that is not closed is why the brackets around it are not.
        if is_unclosed_text && known.message.starts_with("unclosed") {
            *known = chosen;
        }
    }
    first.into_values().collect()
}

fn unclosed(open: usize, message: &str) -> Mistake {
    Mistake { span: open..open, message: message.to_owned() }
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline.saturating_add(1))
}

fn reworded(text: &str, Mistake { span, message }: Mistake) -> Mistake {
    let rest = text.get(span.start..).unwrap_or_default();
    let line = rest.lines().next().unwrap_or_default();
    let before = text.get(line_start(text, span.start)..span.start).unwrap_or_default();
    let is_escape = ["missing escaped value", "too few unicode", "invalid value, expected unicode"];
    let (start, message) = if is_escape.iter().any(|start| message.starts_with(start)) {
        let backslash = text.get(..span.start).and_then(|before| before.rfind('\\')).unwrap_or(span.start);
        (backslash, "unknown escape: a backslash is written `\\\\`, or the text in single quotes".to_owned())
    } else if message.contains(" visible characters") {
        match (rest.starts_with("\r\n"), message.contains("single-quote")) {
            (true, true) => (span.start, "invalid literal string, expected `'`".to_owned()),
            (true, false) => (span.start, "invalid basic string, expected `\"`".to_owned()),
            (false, _) => {
                (span.start, "control character in a text: write it as an escape such as \"\\u0007\"".to_owned())
            }
        }
    } else if message.starts_with("unclosed array table") {
        (span.start, "unclosed array table, expected `]]`".to_owned())
    } else if message.starts_with("key with no value") && is_word(before.trim()) && is_key_and_equals(line) {
        (span.start, "a key with white space needs quotes".to_owned())
    } else if before.trim().is_empty() && line.starts_with('{') {
        (span.start, "expected a key, found `{`: the configuration is TOML, not JSON".to_owned())
    } else if before.trim().is_empty() && line.starts_with("//") {
        (span.start, "expected a key, found `/`: a comment begins with `#`".to_owned())
    } else if line.starts_with(':') && !before.contains(['=', '"', '\'']) {
        (span.start, "expected `=` behind the key, found `:`".to_owned())
    } else {
        (span.start, message)
    };
    Mistake { span: start..span.end.max(start), message }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn is_key_and_equals(line: &str) -> bool {
    line.split_once('=').is_some_and(|(words, _)| words.split_whitespace().all(is_word) && !words.trim().is_empty())
}

/// Every statement of `text`, in order.
fn statements(text: &str) -> Vec<Statement> {
    let mut scan = Scan { text, at: 0 };
    std::iter::from_fn(|| scan.statement()).collect()
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    /// To the end of the line, which is not taken.
    fn skip_line(&mut self) {
        self.skip(self.rest().find('\n').unwrap_or(self.rest().len()));
    }

    fn statement(&mut self) -> Option<Statement> {
        loop {
            let rest = self.rest();
            self.skip(rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()));
            match self.rest().chars().next()? {
                '#' => self.skip_line(),
                _ => break,
            }
        }
        let start = self.at;
        let is_header = self.rest().starts_with('[');
        let mut open: Vec<(char, usize)> = Vec::new();
        let mut unclosed = None;
        while let Some(c) = self.rest().chars().next() {
            match c {
                '\n' if open.is_empty() => break,
                '#' => self.skip_line(),
                '"' | '\'' => unclosed = self.quoted(c),
                '[' | '{' if !is_header => {
                    open.push((c, self.at));
                    self.skip(1);
                }
                ']' | '}' if !is_header => {
                    let opening = if c == ']' { '[' } else { '{' };
                    if let Some(at) = open.iter().rposition(|(open, _)| *open == opening) {
                        open.truncate(at);
                    }
                    self.skip(1);
                }
                _ => self.skip(c.len_utf8()),
            }
        }
        let outermost = open.first().map(|(open, at)| match open {
            '[' => Unclosed::Array(*at),
            _ => Unclosed::InlineTable(*at),
        });
        Some(Statement { range: start..self.at, unclosed: unclosed.or(outermost) })
    }

    /// A text in quotes; what is there if it never ends.
    fn quoted(&mut self, quote: char) -> Option<Unclosed> {
        let start = self.at;
        let triple = [quote; 3].iter().collect::<String>();
        let is_multi_line = self.rest().starts_with(&triple);
        self.skip(if is_multi_line { 3 } else { 1 });
        while let Some(c) = self.rest().chars().next() {
            match c {
                '\n' if !is_multi_line => return None,
                '\\' if quote == '"' => {
                    self.skip(1);
                    // What is escaped is taken with it, but for the end of a line that must not be there.
                    let escaped = self.rest().chars().next().filter(|c| is_multi_line || *c != '\n');
                    self.skip(escaped.map_or(0, char::len_utf8));
                }
                _ if is_multi_line && self.rest().starts_with(&triple) => {
                    // Up to two more quotes belong to the text.
                    let quotes = self.rest().chars().take_while(|c| *c == quote).count();
                    self.skip(quotes.min(5));
                    return None;
                }
                _ if !is_multi_line && c == quote => {
                    self.skip(1);
                    return None;
                }
                _ => self.skip(c.len_utf8()),
            }
        }
        is_multi_line.then_some(Unclosed::MultiLine(start, quote))
    }
}
