//! The one integration binary: the real washlet against real servers, one module per behaviour.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests spawn and read the environment as they like")]

/// What tests are made of: the washlet process, servers, clients, fakes.
mod support;

/// Every guest is the one that its lock names.
mod fixtures;

/// The commands that look at a configuration, and what wins over what.
mod cli;

/// The commands that look at a configuration: exit codes, what goes where, and that nothing of it panics.
mod inspect;

/// Probes, status, metrics, and reloads by request.
mod admin;

/// The file is edited while the host runs: what is valid is live, what is not changes nothing.
mod reload;

/// The host ends in order, or early when it must.
mod shutdown;

/// Requests and responses, as clients and guests see them.
mod http;

/// The servers that `scripts/test` started answer.
mod servers;

/// Workloads of the configuration file: imports, failed starts, limits.
mod workloads;

/// The architecture and the style hold.
mod tidy;

/// The control plane: what an operator asks over NATS is done and answered, whatever else goes on.
mod control;

/// TLS of the ingress: who gets in, what they are shown, and files that are replaced under load.
mod tls;

/// The connection of the control plane is changed while it is in use.
mod nats_live;

/// Files change in every way in which files do, and the host notices.
mod noticing;
