//! Every metric: its name, what it counts, and how a scrape is written.
//!
//! Metrics are read when somebody scrapes, from counters and snapshots that exist anyway: nothing is registered, so
//! nothing is registered twice, and a series goes away with what it was about.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// All metrics, without the prefix `washlet_` and the suffix `_total` of counters.
pub(crate) const METRICS: [(&str, &str); 21] = [
    ("build_info", "1, with the version of the process"),
    ("config_checks", "Looks at the configuration that found nothing new"),
    ("config_generation", "Number of the configuration that is live"),
    ("config_last_reload_success_timestamp_seconds", "When the live configuration was applied"),
    ("config_last_reload_successful", "Whether what is live is what the last attempt read: 1 or 0"),
    ("config_reloads", "Attempts to apply a configuration, by trigger, outcome and reason"),
    ("config_restart_pending", "1 for each key that waits for a restart"),
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
    ("retired_forced", "Calls and connections of replaced parts that were cut at the deadline"),
    ("tls_not_after_timestamp_seconds", "When the certificate that is shown to peers expires, by its use"),
    ("workloads", "Workloads by state"),
];

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
}
