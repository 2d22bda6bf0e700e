//! The control plane: four subscriptions, heartbeats, every request answered. Contains no wasmtime.

mod answer;
pub(crate) mod port;
mod subject;
mod wire;
