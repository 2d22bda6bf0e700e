//! What is wrong with a configuration, and where: for people with a caret, for logs on one line, for tools as JSON.

use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::config::files::FileMount;

/// Whether a problem keeps the configuration from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// The path as it was given.
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The line, secrets masked; absent if nothing of it may be shown.
        snippet: Option<Snippet>,
    },
    /// The file as a whole.
    WholeFile(String),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

/// A line of the file with the part that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The line, secrets masked.
    pub(super) text: String,
    /// Where the marked part starts, in characters from 0.
    pub(super) start: usize,
    /// How many characters are marked, at least one.
    pub(super) len: usize,
}

/// One thing that is wrong. Holds no value of a secret key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// Path of the key; empty if no key is concerned.
    pub key: String,
    /// Where it is.
    pub place: Option<Place>,
    /// The second place, where two keys contradict each other.
    pub also: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What could be meant.
    pub hint: Option<String>,
    /// Whether a file in the middle of being written may be all there is to it.
    pub may_pass: bool,
}

/// Everything that is wrong, in the order of the file, then variables, then flags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    /// One line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl Problems {
    /// How many are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// With the lines of the file and a caret under what is meant.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().map(Problem::text).collect::<Vec<_>>().join("\n")
    }

    /// For tools: an array of objects.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        self.0.iter().map(Problem::json).collect()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column, snippet: _ } => write!(f, "{file}:{line}:{column}"),
            Self::WholeFile(name) | Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Problem {
    /// `washlet.toml:14:23: http.header_read_timeout: expected …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl Problem {
    /// A file of which no update is ever seen.
    #[must_use]
    pub fn of_mount(FileMount { path, is_stale }: &FileMount) -> Self {
        let message = if *is_stale {
            "this file is a mount of its own, and already stale: its source was replaced"
        } else {
            "this file is a mount of its own: it never sees an update of its source"
        };
        Self {
            severity: Severity::Warning,
            key: String::new(),
            place: Some(Place::WholeFile(path.display().to_string())),
            also: None,
            message: message.to_owned(),
            hint: Some("mount the directory that holds it, without a subPath".to_owned()),
            may_pass: false,
        }
    }

    /// The configuration file itself cannot be read.
    #[must_use]
    pub fn unreadable(file: &Path, error: &io::Error) -> Self {
        Self {
            severity: Severity::Error,
            key: String::new(),
            place: Some(Place::WholeFile(file.display().to_string())),
            also: None,
            message: format!("cannot read the configuration file: {error}"),
            hint: None,
            may_pass: false,
        }
    }

    /// With the line of the file and a caret under what is meant.
    #[must_use]
    pub fn text(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let separator = if self.key.is_empty() { "" } else { ": " };
        let mut text = format!("{severity}: {}{separator}{}\n", self.key, self.message);
        for place in [&self.place, &self.also].into_iter().flatten() {
            text += &format!("  --> {place}\n");
            if let Place::File { line, snippet: Some(snippet), .. } = place {
                text += &snippet.text(*line);
            }
        }
        if let Some(hint) = &self.hint {
            text += &format!("   = {hint}\n");
        }
        text
    }

    /// `{file,line,column,key,source,message,hint,severity}`
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let (file, line, column) = match &self.place {
            Some(Place::File { file, line, column, snippet: _ }) => (Some(file), Some(line), Some(column)),
            Some(Place::WholeFile(file)) => (Some(file), None, None),
            Some(Place::Variable(_) | Place::Flag(_)) | None => (None, None, None),
        };
        serde_json::json!({
            "severity": self.severity,
            "file": file,
            "line": line,
            "column": column,
            "key": self.key,
            "source": self.place.as_ref().map(ToString::to_string),
            "message": self.message,
            "hint": self.hint,
        })
    }
}

impl Snippet {
    fn text(&self, line: usize) -> String {
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs stay tabs, so that the caret stands where the terminal puts the text.
        let lead: String = self.text.chars().take(self.start).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(self.len);
        format!("{gutter} |\n{number} | {}\n{gutter} | {lead}{carets}\n", self.text)
    }
}
