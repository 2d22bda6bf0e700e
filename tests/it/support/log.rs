//! The log of a washlet process, line by line, and the guard that fails a test over an unexpected warning.

use std::fmt;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::watch;

/// One line of standard error: a JSON log line, or text that is none.
#[derive(Debug, Clone)]
pub(crate) struct LogLine {
    text: String,
    json: Option<Value>,
}

impl LogLine {
    /// Reads one line.
    pub(crate) fn parse(text: &str) -> Self {
        let json = serde_json::from_str(text).ok().filter(Value::is_object);
        Self { text: text.to_owned(), json }
    }

    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`; empty for a line that is not a log line.
    pub(crate) fn level(&self) -> &str {
        self.json.as_ref().and_then(|json| json.get("level")).and_then(Value::as_str).unwrap_or_default()
    }

    /// The message; empty for a line that is not a log line.
    pub(crate) fn message(&self) -> &str {
        self.json.as_ref().and_then(|json| lookup(json, "message")).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field of the event, else of its innermost span that has it, as text.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        match lookup(self.json.as_ref()?, name)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Whether the raw line contains `text`.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// A warning, an error, or something that is no log line at all, such as a panic.
    fn is_alarming(&self) -> bool {
        match self.level() {
            "" => !self.text.trim().is_empty(),
            level => matches!(level, "WARN" | "ERROR"),
        }
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Looks in the event, then in the event's fields, then in its spans from the innermost outwards.
fn lookup<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    let in_event = json.get("fields").and_then(|fields| fields.get(name)).or_else(|| json.get(name));
    let in_spans = || json.get("spans")?.as_array()?.iter().rev().find_map(|span| span.get(name));
    in_event.or_else(|| json.get("span")?.get(name)).or_else(in_spans)
}

/// The lines so far. The reader of the process's standard error appends; tests search and wait.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    lines: Arc<Mutex<Vec<LogLine>>>,
    count_tx: Arc<watch::Sender<usize>>,
}

impl Log {
    /// No lines yet.
    pub(crate) fn new() -> Self {
        Self { lines: Arc::default(), count_tx: Arc::new(watch::channel(0).0) }
    }

    /// Adds a line and wakes those who wait.
    pub(crate) fn push(&self, line: LogLine) {
        let count = {
            let mut lines = self.lines.lock().expect("no holder panics");
            lines.push(line);
            lines.len()
        };
        self.count_tx.send_replace(count);
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.lock().expect("no holder panics").len()
    }

    /// All lines from number `from` on.
    pub(crate) fn lines(&self, from: usize) -> Vec<LogLine> {
        self.lines.lock().expect("no holder panics").iter().skip(from).cloned().collect()
    }

    /// The first line from number `from` on that `wanted` accepts: one that is there, or the next one to come.
    pub(crate) async fn wait(&self, from: usize, wanted: impl Fn(&LogLine) -> bool) -> LogLine {
        let mut count_rx = self.count_tx.subscribe();
        let mut seen = from;
        loop {
            let lines = self.lines(seen);
            if let Some(line) = lines.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            seen += lines.len();
            count_rx.wait_for(|count| *count > seen).await.expect("the sender is ours");
        }
    }

    /// The alarming lines that contain none of `allowed`.
    pub(crate) fn unexpected(&self, allowed: &[String]) -> Vec<LogLine> {
        let is_allowed = |line: &LogLine| allowed.iter().any(|text| line.contains(text));
        self.lines(0).into_iter().filter(|line| line.is_alarming() && !is_allowed(line)).collect()
    }

    /// The last lines, for a failure's message.
    pub(crate) fn tail(&self) -> String {
        let lines = self.lines(self.len().saturating_sub(60));
        lines.iter().map(|line| format!("    {line}\n")).collect()
    }
}
