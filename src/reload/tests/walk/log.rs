//! The log of one thread, as messages with their level and fields.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) fields: BTreeMap<&'static str, String>,
}

impl Line {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub(crate) fn message(&self) -> &str {
        self.field("message")
    }
}

/// What was logged on this thread since the last look.
#[derive(Clone, Default)]
pub(crate) struct Captured {
    lines: Arc<Mutex<Vec<Line>>>,
    /// Whoever logs this message dies.
    deadly: Arc<Mutex<Option<&'static str>>>,
}

impl Captured {
    /// Until the guard is dropped.
    pub(crate) fn begin() -> (Self, DefaultGuard) {
        let captured = Self::default();
        let guard = tracing::subscriber::set_default(Capture(captured.clone()));
        (captured, guard)
    }

    pub(crate) fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }

    /// The next one who logs `message` panics.
    pub(crate) fn kill_at(&self, message: &'static str) {
        *self.deadly.lock().unwrap() = Some(message);
    }
}

struct Capture(Captured);

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = Line { level: *event.metadata().level(), fields: fields.0 };
        let is_deadly = {
            let mut deadly = self.0.deadly.lock().unwrap();
            let is_deadly = deadly.is_some_and(|deadly| deadly == line.message());
            deadly.take_if(|_| is_deadly).is_some()
        };
        self.0.lines.lock().unwrap().push(line);
        assert!(!is_deadly, "killed on purpose");
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
