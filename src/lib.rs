//! washlet: a cluster host for WebAssembly components whose configuration file is live.
//!
//! The rooms, in reading order:

pub mod error;
pub mod types;
pub mod wit;

pub(crate) mod task;

#[doc(hidden)]
pub mod config;
pub(crate) mod telemetry;

pub(crate) mod admin;
pub(crate) mod artifact;
pub(crate) mod engine;
pub(crate) mod nats;
pub(crate) mod plugin;
pub(crate) mod reload;
mod state;
pub(crate) mod workload;

pub mod host;

pub mod cluster;
pub(crate) mod control;
pub(crate) mod ctl;

#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod daemon;

pub use cluster as washlet;
