//! The control plane: four subscriptions, heartbeats, every request answered. Contains no wasmtime.

pub(crate) mod port;
