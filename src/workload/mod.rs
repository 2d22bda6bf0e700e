//! Workloads: start, stop, status. Knows neither NATS nor listeners.

pub(crate) mod binding;
pub(crate) mod http;
