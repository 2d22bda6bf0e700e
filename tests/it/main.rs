//! The one integration binary: the real washlet against real servers, one module per behaviour.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests spawn and read the environment as they like")]

/// What tests are made of: the washlet process, servers, clients, fakes.
mod support;

/// Requests and responses, as clients and guests see them.
mod http;

/// The servers that `scripts/test` started answer.
mod servers;

/// Workloads of the configuration file: imports, failed starts, limits.
mod workloads;

/// The architecture and the style hold.
mod tidy;
