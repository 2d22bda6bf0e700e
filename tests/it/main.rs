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

/// Metric, status, log and reply say the same after every edit.
mod truth;

/// The service manager is told when the host is ready, reloads, stops, and that it lives.
mod supervisor;

/// Files whose updates can never be seen are named.
mod mounts;

/// The file is edited while the host runs: what is valid is live, what is not changes nothing.
mod reload;

/// The host ends in order, or early when it must.
mod shutdown;

/// Requests and responses, as clients and guests see them.
mod http;

/// Secrets of the configuration: nothing that a host says holds one.
mod secrets;

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

/// `washlet host`: the command line of the reference host, and a pod as the chart makes it.
mod host;

/// `washlet ctl`: what people see and change in a cluster.
mod ctl;
/// Messages: between components, over NATS, and while both are reloaded.
mod messaging;

/// The connection of the control plane is changed while it is in use.
mod nats_live;

/// A host that is killed comes back as itself, with what was placed on it.
mod continuity;

/// Whole stories of a fleet under a simulated operator.
mod operator;

/// The connection of the data plane, and what keeps values over it, are changed while guests use them.
mod data_live;

/// Files change in every way in which files do, and the host notices.
mod noticing;
