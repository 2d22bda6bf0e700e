//! Workloads: start, stop, status. Knows neither NATS nor listeners.

pub(crate) mod http;
