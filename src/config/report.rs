//! Collects problems while a configuration is read, and gives each its place without showing a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::config::path::parent;
use crate::config::problem::{Place, Problem, Severity};
use crate::config::snippet::Snippet;

/// More are not listed: nobody reads them, and a file that is no configuration at all would make one per key.
const PROBLEMS_MAX: usize = 100;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The file.
    File,
    /// The variable of this name.
    Variable(String),
    /// The flag of this name.
    Flag(String),
}

/// Where a key and its value stand in the file, in bytes.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// Whether the key or the value is meant.
#[derive(Debug, Clone, Copy)]
enum Part {
    Key,
    Value,
}

/// The file's text, what is known of where its values came from, and the problems found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The path as it was given.
    pub(crate) file: String,
    pub(crate) text: String,
    /// Where each line of the text but the first starts, in bytes.
    lines: Vec<usize>,
    /// By key path.
    pub(crate) spans: BTreeMap<String, Span>,
    /// By key path.
    pub(crate) origins: BTreeMap<String, Origin>,
    /// Parts of the text that must not be shown.
    pub(crate) masks: Vec<Range<usize>>,
    /// Keys that do no harm while they are not implemented: a warning is enough.
    may_wait: BTreeSet<String>,
    /// Keys with an error: nothing more is said of them.
    tainted: BTreeSet<String>,
    found: Vec<Found>,
}

#[derive(Debug)]
struct Found {
    severity: Severity,
    key: String,
    at: At,
    also: Option<At>,
    message: String,
    hint: Option<String>,
    may_pass: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    WholeFile,
    Text { start: usize, end: usize, is_syntax: bool },
    Variable(String),
    Flag(String),
    Nowhere,
}

impl Report {
    /// Takes the text of the file.
    pub(crate) fn read(&mut self, text: &str) {
        text.clone_into(&mut self.text);
        self.lines = text.match_indices('\n').map(|(at, _)| at.saturating_add(1)).collect();
    }

    /// The number of the line that `at` is in, from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).saturating_add(1)
    }

    /// The value at `path` is wrong.
    pub(crate) fn error(&mut self, path: &str, message: &str) {
        self.error_with_hint(path, message, None);
    }

    /// As [`error`](Self::error), with what could be meant.
    pub(crate) fn error_with_hint(&mut self, path: &str, message: &str, hint: Option<String>) {
        let at = self.locate(path, Part::Value);
        self.push(path, at, None, message, hint);
    }

    /// The value at `path` may not do what is wanted.
    pub(crate) fn warning(&mut self, path: &str, message: &str) {
        let at = self.locate(path, Part::Value);
        self.found.push(Found::new(Severity::Warning, path, at, message));
    }

    /// The key at `path` is wrong.
    pub(crate) fn error_at_key(&mut self, path: &str, message: &str, hint: Option<String>) {
        let at = self.locate(path, Part::Key);
        self.push(path, at, None, message, hint);
    }

    /// The two keys contradict each other.
    pub(crate) fn error_both(&mut self, path: &str, other: &str, message: &str) {
        if self.is_tainted(other) {
            return;
        }
        let also = self.locate(other, Part::Key);
        let at = self.locate(path, Part::Key);
        self.push(path, at, Some(also), message, Some(format!("the other one is {other}")));
    }

    /// The text cannot be parsed at `span`.
    pub(crate) fn syntax_error(&mut self, span: Range<usize>, message: &str) {
        let at = At::Text { start: span.start, end: span.end, is_syntax: true };
        self.found.push(Found::new(Severity::Error, "", at, message));
    }

    /// The file as a whole is wrong.
    pub(crate) fn error_in_file(&mut self, message: &str) {
        self.found.push(Found::new(Severity::Error, "", At::WholeFile, message));
    }

    /// Something about the variable or flag `origin`, before it is known to be a key.
    pub(crate) fn outside(
        &mut self,
        severity: Severity,
        origin: &Origin,
        key: &str,
        message: &str,
        hint: Option<String>,
    ) {
        let at = match origin {
            Origin::Variable(name) => At::Variable(name.clone()),
            Origin::Flag(name) => At::Flag(name.clone()),
            Origin::File => At::WholeFile,
            Origin::Default => At::Nowhere,
        };
        if severity == Severity::Error && !key.is_empty() {
            self.tainted.insert(key.to_owned());
        }
        self.found.push(Found { hint, ..Found::new(severity, key, at, message) });
    }

    /// The key at `path` may be set although it is not implemented yet.
    pub(crate) fn let_wait(&mut self, path: String) {
        self.may_wait.insert(path);
    }

    /// Whether the key at `path` may be set although it is not implemented yet.
    pub(crate) fn may_wait(&self, path: &str) -> bool {
        self.may_wait.contains(path)
    }

    /// Nothing more is to be said of `path`.
    pub(crate) fn taint(&mut self, path: String) {
        self.tainted.insert(path);
    }

    /// What was found at `path` may be a file in the middle of being written.
    pub(crate) fn may_pass(&mut self, path: &str) {
        self.found.iter_mut().filter(|found| found.key == path).for_each(|found| found.may_pass = true);
    }

    /// Whether an error was found at `path` or at anything below it.
    pub(crate) fn is_tainted(&self, path: &str) -> bool {
        let below = |tainted: &String| parents(tainted).any(|parent| parent == path);
        self.tainted.range(path.to_owned()..).take_while(|tainted| tainted.starts_with(path)).any(below)
    }

    /// Where the value at `path` came from: it, or the table or list it is in.
    pub(crate) fn origin(&self, path: &str) -> Origin {
        parents(path).find_map(|path| self.origins.get(path)).cloned().unwrap_or(Origin::Default)
    }

    /// Errors and warnings, each in the order of the file, then variables, then flags.
    pub(crate) fn finish(&mut self) -> (Vec<Problem>, Vec<Problem>) {
        let mut found = std::mem::take(&mut self.found);
        found.sort_by(|a, b| a.at.cmp(&b.at));
        self.masks.sort_by_key(|mask| (mask.start, mask.end));
        self.masks.dedup();
        let errors = found.iter().filter(|found| found.severity == Severity::Error).count();
        let mut problems: Vec<_> = found.iter().map(|found| self.problem(found)).collect();
        let warnings = problems.extract_if(.., |problem| problem.severity == Severity::Warning).collect();
        problems.truncate(PROBLEMS_MAX);
        if errors > PROBLEMS_MAX {
            let message = format!("{} further errors are not listed", errors.saturating_sub(PROBLEMS_MAX));
            let found = Found::new(Severity::Error, "", At::Nowhere, &message);
            problems.push(self.problem(&found));
        }
        (problems, warnings)
    }

    fn push(&mut self, path: &str, at: At, also: Option<At>, message: &str, hint: Option<String>) {
        if self.is_tainted(path) {
            return;
        }
        self.tainted.insert(path.to_owned());
        self.found.push(Found { also, hint, ..Found::new(Severity::Error, path, at, message) });
    }

    fn locate(&self, path: &str, part: Part) -> At {
        match self.origin(path) {
            Origin::Variable(name) => At::Variable(name),
            Origin::Flag(name) => At::Flag(name),
            Origin::File => {
                let span = parents(path).find_map(|at| self.spans.get(at).map(|span| (at == path, span)));
                let Some((is_exact, span)) = span else { return At::WholeFile };
                let range = match part {
                    Part::Key if is_exact => &span.key,
                    Part::Key | Part::Value => &span.value,
                };
                At::Text { start: range.start, end: range.end, is_syntax: false }
            }
            Origin::Default => At::Nowhere,
        }
    }

    fn problem(&self, found: &Found) -> Problem {
        let Found { severity, key, at, also, message, hint, may_pass } = found;
        Problem {
            severity: *severity,
            key: key.clone(),
            place: self.place(at),
            also: also.as_ref().and_then(|at| self.place(at)),
            message: message.clone(),
            hint: hint.clone(),
            may_pass: *may_pass,
        }
    }

    fn place(&self, at: &At) -> Option<Place> {
        match at {
            At::Nowhere => None,
            At::WholeFile => Some(Place::WholeFile(self.file.clone())),
            At::Variable(name) => Some(Place::Variable(name.clone())),
            At::Flag(name) => Some(Place::Flag(name.clone())),
            At::Text { start, end, is_syntax } => {
                let line = self.line_of(*start);
                let start_of = |line: usize| line.checked_sub(2).and_then(|i| self.lines.get(i)).copied().unwrap_or(0);
                let line_start = start_of(line);
                let line_end = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
                let column = self.text.get(line_start..*start).unwrap_or_default().chars().count();
                let line_text = self.text.get(line_start..line_end).unwrap_or_default().trim_end_matches(['\n', '\r']);
                let snippet = match *is_syntax {
                    true => Snippet::of_syntax(line_text, start.saturating_sub(line_start)),
                    false => Some(Snippet::new(line_text, line_start, *start..*end, &self.masks)),
                };
                Some(Place::File { file: self.file.clone(), line, column: column.saturating_add(1), snippet })
            }
        }
    }
}

impl Found {
    fn new(severity: Severity, key: &str, at: At, message: &str) -> Self {
        let (key, message) = (key.to_owned(), message.to_owned());
        Self { severity, key, at, also: None, message, hint: None, may_pass: false }
    }
}

/// `path` and everything it is in, inside out.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| parent(path))
}
