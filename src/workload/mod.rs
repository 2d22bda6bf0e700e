//! Workloads: start, stop, status. Knows neither NATS nor listeners.

pub(crate) mod http;
mod http_p2;
mod http_p3;
mod response;
pub(crate) mod route;
pub(crate) mod table;
