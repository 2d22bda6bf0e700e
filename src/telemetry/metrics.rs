//! Every metric: its name, what it counts, and how a scrape is written.
//!
//! Metrics are read when somebody scrapes, from counters and snapshots that exist anyway: nothing is registered, so
//! nothing is registered twice, and a series goes away with what it was about.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// All metrics, without the prefix `washlet_` and the suffix `_total` of counters.
pub(crate) const METRICS: [(&str, &str); 28] = [
    ("build_info", "1, with the version of the process"),
    ("config_checks", "Looks at the configuration that found nothing new, by what made them"),
    ("config_generation", "Number of the configuration that is live"),
    ("config_info", "1, with the hashes of the file that is live and of the one that was tried last"),
    ("config_last_reload_success_timestamp_seconds", "When the live configuration was applied"),
    ("config_last_reload_successful", "Whether what is live is what the last attempt read: 1 or 0"),
    ("config_pinned", "1 for each key that the file sets in vain"),
    ("config_reload_duration_seconds", "How long attempts to apply a configuration took, by step"),
    ("config_reloads", "Attempts to apply a configuration, by trigger, outcome and reason"),
    ("config_restart_pending", "1 for each key that waits for a restart"),
    ("config_watch_mode", "1 for the way in which changes of files are noticed"),
    ("generations_alive", "Configurations of which something is held: 1, and one for each that still drains"),
    ("generations_retiring", "Replaced parts that still drain"),
    ("http_accept_errors", "Connections that could not be accepted"),
    ("http_connections", "Open HTTP connections"),
    ("http_connections_refused", "Connections closed at once, because there were too many"),
    ("http_requests", "HTTP requests"),
    ("http_responses", "HTTP responses, by class of their status"),
    ("http_tls_handshakes_failed", "TLS handshakes that failed or took too long"),
    ("messaging_admission_shed", "Messages that found no place in time and were given up"),
    ("messaging_messages", "Messages for components, by what became of them"),
    ("nats_scheduler_joined", "Whether the control plane is joined: 1 or 0"),
    ("plugin_state", "1 for each plugin, with its state"),
    ("retired_forced", "Calls and connections of replaced parts that were cut at the deadline, by part"),
    ("task_restarts", "Times that a task which must not end died and was started again"),
    ("tasks", "Tasks that have not ended, by the runtime that they run on"),
    ("tls_not_after_timestamp_seconds", "When a certificate expires, by its use"),
    ("workloads", "Workloads by state"),
];

/// Upper bounds of the steps of a histogram, in seconds: a reload takes milliseconds, and a prepare up to its timeout.
const BOUNDS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// What one scrape says.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: &'static str,
    labels: Vec<(&'static str, String)>,
    value: Value,
}

#[derive(Debug, Clone, Copy)]
enum Value {
    Gauge(f64),
    Counter(u64),
    Histogram(Histogram),
}

/// How long something took, each time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Histogram {
    /// By bound, and the last ones above all bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum_seconds: f64,
}

impl Histogram {
    /// Once more.
    pub(crate) fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let step = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get_mut(step) {
            *count += 1;
        }
        self.sum_seconds += seconds;
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts).collect();
        let count = self.counts.iter().sum();
        encoder.encode_histogram::<[(&str, &str); 0]>(self.sum_seconds, count, &buckets, None)
    }
}

impl Metrics {
    /// A value that goes up and down.
    pub(crate) fn gauge(&mut self, name: &'static str, value: impl Into<GaugeValue>) {
        self.gauge_with(name, &[], value);
    }

    /// As [`gauge`](Self::gauge), one series of several.
    pub(crate) fn gauge_with(
        &mut self,
        name: &'static str,
        labels: &[(&'static str, &str)],
        value: impl Into<GaugeValue>,
    ) {
        let GaugeValue(value) = value.into();
        self.push(name, labels, Value::Gauge(value));
    }

    /// A number that only grows.
    pub(crate) fn counter(&mut self, name: &'static str, value: u64) {
        self.counter_with(name, &[], value);
    }

    /// As [`counter`](Self::counter), one series of several.
    pub(crate) fn counter_with(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: u64) {
        self.push(name, labels, Value::Counter(value));
    }

    /// How long something took, one series of several.
    pub(crate) fn histogram_with(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: Histogram) {
        self.push(name, labels, Value::Histogram(value));
    }

    fn push(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: Value) {
        let labels = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        self.0.push(Sample { name, labels, value });
    }

    /// As text. What is not in [`METRICS`] is left out, which a test finds.
    pub(crate) fn encode(self) -> String {
        let mut registry = Registry::with_prefix("washlet");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        if encode(&mut text, &registry).is_err() {
            tracing::error!("the metrics could not be written");
        }
        text
    }
}

/// A gauge's value; counts are exact up to 2^53.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GaugeValue(f64);

impl From<f64> for GaugeValue {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl From<u64> for GaugeValue {
    #[expect(clippy::cast_precision_loss, reason = "a count of things on one machine stays far below 2^53")]
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help) in METRICS {
            let samples: Vec<&Sample> = self.0.iter().filter(|sample| sample.name == name).collect();
            let Some(first) = samples.first() else { continue };
            let kind = match first.value {
                Value::Gauge(_) => MetricType::Gauge,
                Value::Counter(_) => MetricType::Counter,
                Value::Histogram(_) => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for Sample { name: _, labels, value } in samples {
                // A family of no labels would be written with empty braces.
                if labels.is_empty() {
                    write_value(&mut family, *value)?;
                } else {
                    write_value(&mut family.encode_family(labels)?, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn write_value(encoder: &mut MetricEncoder<'_>, value: Value) -> Result<(), fmt::Error> {
    match value {
        Value::Gauge(value) => encoder.encode_gauge(&value),
        Value::Counter(value) => encoder.encode_counter::<[(&str, &str); 0], _, u64>(&value, None),
        Value::Histogram(histogram) => histogram.encode(encoder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_names_each_family_once_with_all_its_series() {
        let mut metrics = Metrics::default();
        metrics.counter_with("http_responses", &[("class", "2xx")], 7);
        metrics.gauge("config_generation", 3_u64);
        metrics.counter_with("http_responses", &[("class", "5xx")], 1);
        let text = metrics.encode();
        assert_eq!(text.matches("# TYPE washlet_http_responses counter").count(), 1, "{text}");
        for line in [
            "washlet_http_responses_total{class=\"2xx\"} 7",
            "washlet_http_responses_total{class=\"5xx\"} 1",
            "washlet_config_generation 3.0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in {text}");
        }
    }

    #[test]
    fn the_table_of_metrics_names_each_of_them_and_no_other() {
        let table = include_str!("../../docs/metrics.md");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `washlet_")?.split_once('`'));
        let mut told: Vec<&str> = rows.map(|(name, _)| name.trim_end_matches("_total")).collect();
        told.sort_unstable();
        assert_eq!(told, METRICS.map(|(name, _help)| name));
    }

    #[test]
    fn a_histogram_counts_what_took_no_longer_than_each_bound() {
        let mut took = Histogram::default();
        [1, 40, 40, 60_000].into_iter().for_each(|ms| took.observe(Duration::from_millis(ms)));
        let mut metrics = Metrics::default();
        metrics.histogram_with("config_reload_duration_seconds", &[("phase", "prepare")], took);
        let text = metrics.encode();
        let name = "washlet_config_reload_duration_seconds";
        assert!(text.contains(&format!("# TYPE {name} histogram\n")), "{text}");
        for (bound, count) in [("0.001", 1), ("0.025", 1), ("0.05", 3), ("30.0", 3), ("+Inf", 4)] {
            let line = format!("{name}_bucket{{le=\"{bound}\",phase=\"prepare\"}} {count}");
            assert!(text.lines().any(|have| have == line), "{line} in {text}");
        }
        assert!(text.contains(&format!("{name}_count{{phase=\"prepare\"}} 4\n")), "{text}");
    }
}
