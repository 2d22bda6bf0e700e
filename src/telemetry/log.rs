//! The subscriber: one filter and one formatter, both switched while they are in use.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tracing::field::Field;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer, debug_fn};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;

use crate::config::{Log, LogFormat};
use crate::telemetry::fields::{Fields, KeepFields};

static INSTALLED: OnceLock<Logs> = OnceLock::new();

/// The installed subscriber's switches; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    json: Arc<AtomicBool>,
    is_terminal: bool,
}

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{filter}` is no log filter: expected a level, or `target=level` separated by commas")]
pub(crate) struct FilterError {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Installs the subscriber, with the default configuration until one is applied. Again: the same one.
pub(crate) fn install() -> Logs {
    let install = || {
        let (logs, subscriber) = build(io::stderr, io::stderr().is_terminal());
        // Somebody else's subscriber stays; ours is then dropped and its switches move nothing.
        let _already_installed = tracing::subscriber::set_global_default(subscriber);
        logs
    };
    INSTALLED.get_or_init(install).clone()
}

/// Whether `filter` can be applied.
pub(crate) fn check_filter(filter: &str) -> Result<(), FilterError> {
    parse(filter).map(drop)
}

impl Logs {
    /// The filter that is in use.
    #[cfg(test)]
    pub(crate) fn filter(&self) -> String {
        self.filter.with_current(ToString::to_string).unwrap()
    }

    /// From now on lines pass this filter and look like this.
    pub(crate) fn apply(&self, log: &Log) -> Result<(), FilterError> {
        let filter = parse(&log.level)?;
        let is_json = match log.format {
            LogFormat::Auto => !self.is_terminal,
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        self.json.store(is_json, Ordering::Relaxed);
        // Fails only if the subscriber is gone, which is so if it was never ours to install.
        let _gone = self.filter.reload(filter);
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    let wanted =
        EnvFilter::builder().parse(filter).map_err(|source| FilterError { filter: filter.to_owned(), source })?;
    // Whatever the filter says: this client traces the credentials it sends, and `nats` logs its events.
    let silent = ["async_nats=off", "async_nats::connection=off", "async_nats::connector=off"];
    let silent = silent.map(|directive| directive.parse().expect("a target and a level"));
    Ok(silent.into_iter().fold(wanted, EnvFilter::add_directive))
}

fn build<W>(writer: W, is_terminal: bool) -> (Logs, impl Subscriber + Send + Sync + 'static)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, filter_handle) = reload::Layer::new(EnvFilter::new(Log::default().level));
    let json = Arc::new(AtomicBool::new(!is_terminal));
    let lines = Lines { text: Format::default(), json: Arc::clone(&json) };
    let format = tracing_subscriber::fmt::layer()
        .event_format(lines)
        .fmt_fields(debug_fn(put_field).delimited(" "))
        .with_ansi(is_terminal)
        // It would say on standard error that standard error is gone: a panic in whoever logs.
        .log_internal_errors(false)
        .with_writer(writer);
    let subscriber = Registry::default().with(filter).with(KeepFields).with(format);
    (Logs { filter: filter_handle, json, is_terminal }, subscriber)
}

/// One event, one line, in whichever format is on.
struct Lines {
    text: Format<Full>,
    json: Arc<AtomicBool>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if !self.json.load(Ordering::Relaxed) {
            return self.text.format_event(ctx, writer, event);
        }
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), timestamp.into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("target".to_owned(), metadata.target().into());
        // Fields stay among themselves: one called `level` must not pass for the line's.
        line.insert("fields".to_owned(), Value::Object(Fields::of_event(event).0));
        let spans: Vec<Value> = ctx.event_scope().into_iter().flat_map(|scope| scope.from_root().map(span)).collect();
        if !spans.is_empty() {
            line.insert("spans".to_owned(), spans.into());
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// One field of a line of text. A guest or a client may have chosen the value: it begins no line of its own and moves no
/// cursor.
fn put_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => {}
        name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        name => write!(writer, "{name}=")?,
    }
    write!(OneLine(writer), "{value:?}")
}

/// Writes control characters as Rust spells them.
struct OneLine<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            let control = piece.chars().next_back().filter(|last| last.is_control());
            self.0.write_str(piece.trim_end_matches(char::is_control))?;
            control.map_or(Ok(()), |control| write!(self.0, "{}", control.escape_default()))?;
        }
        Ok(())
    }
}

fn span<'a, R>(span: tracing_subscriber::registry::SpanRef<'a, R>) -> Value
where
    R: LookupSpan<'a>,
{
    let mut fields = span.extensions().get::<Fields>().map(|fields| fields.0.clone()).unwrap_or_default();
    fields.insert("name".to_owned(), span.name().into());
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use tracing::{debug, info, info_span};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(test: impl FnOnce(&Logs, &Written)) {
        let written = Written::default();
        let writer = written.clone();
        let (logs, subscriber) = build(move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, || test(&logs, &written));
    }

    fn apply(logs: &Logs, level: &str, format: LogFormat) {
        logs.apply(&Log { level: level.to_owned(), format }).unwrap();
    }

    #[test]
    fn format_and_filter_change_between_two_lines_even_inside_a_span() {
        logged(|logs, written| {
            apply(logs, "info", LogFormat::Text);
            let span = info_span!("start", workload = "a");
            let _inside = span.enter();
            info!(took_ms = 7, "started");
            debug!("not seen");
            let text = written.take();
            assert!(text.contains("INFO") && text.contains("started") && text.contains("took_ms=7"), "{text}");
            assert!(!text.contains("not seen"), "{text}");

            apply(logs, "debug", LogFormat::Json);
            debug!(level = "guest's", took_ms = 8, "seen \"now\"");
            let line: Value = serde_json::from_str(&written.take()).unwrap();
            assert_eq!(line["level"], "DEBUG");
            assert_eq!(line["fields"]["message"], "seen \"now\"");
            assert_eq!(line["fields"]["took_ms"], 8);
            assert_eq!(line["spans"][0]["name"], "start");
            assert_eq!(line["spans"][0]["workload"], "a");
        });
    }

    #[test]
    fn a_value_never_begins_a_line_or_moves_a_cursor() {
        logged(|logs, written| {
            apply(logs, "info", LogFormat::Text);
            let chosen = "x\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J\u{9b}1m\r\u{7}";
            let span = info_span!("call", path = %chosen);
            let _inside = span.enter();
            info!(name = %chosen, text = chosen, error = ?std::io::Error::other(chosen), "{chosen}");
            let text = written.take();
            let controls: Vec<char> = text.trim_end().chars().filter(|c| c.is_control()).collect();
            assert!(controls.is_empty() && text.ends_with('\n'), "{text:?}");
            assert!(text.contains("name=x\\n2026") && text.contains("forged\\u{1b}[2J"), "{text:?}");
        });
    }

    #[test]
    fn auto_is_json_where_nobody_looks() {
        logged(|logs, written| {
            apply(logs, "info", LogFormat::Auto);
            info!("hello");
            assert!(written.take().starts_with('{'));
        });
    }

    #[test]
    fn a_filter_that_cannot_be_read_changes_nothing_and_says_so() {
        logged(|logs, written| {
            apply(logs, "warn", LogFormat::Text);
            let refused = logs.apply(&Log { level: "washlet=loud".to_owned(), format: LogFormat::Json });
            assert!(refused.unwrap_err().to_string().starts_with("`washlet=loud` is no log filter"));
            info!("not seen");
            tracing::warn!("seen");
            let text = written.take();
            assert!(text.contains("seen") && !text.contains("not seen") && !text.starts_with('{'), "{text}");
        });
        assert!(check_filter("info,washlet=debug").is_ok());
    }

    #[test]
    fn installing_twice_is_one_subscriber_and_no_panic() {
        let (first, second) = (install(), install());
        assert!(Arc::ptr_eq(&first.json, &second.json));
    }
}
