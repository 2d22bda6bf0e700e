//! What tests are made of: the washlet process, real servers, clients that speak to them, and fakes that misbehave.
//!
//! `scripts/test` starts the shared servers and names them in `WASHLET_TEST_*`; a test that stops or restarts a server
//! starts its own. Nothing here waits a fixed time: a test awaits a condition, and a time-out says which.

pub(crate) mod fake;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod nats;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod registry;
pub(crate) mod standalone;
#[cfg(test)]
mod tests;
pub(crate) mod wait;

pub(crate) use fake::{FakeServer, Reply};
pub(crate) use load::Load;
pub(crate) use log::LogLine;
pub(crate) use nats::NatsServer;
pub(crate) use process::TestProcess;
pub(crate) use proxy::Proxy;
pub(crate) use registry::Registry;
pub(crate) use standalone::{Standalone, Workload};
pub(crate) use wait::{PATIENCE, eventually, free_port, quiet};

/// The value of a `WASHLET_TEST_*` variable; its absence fails the test and says what to do.
pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("run ./scripts/test, which starts the servers ({variable} is not set)"))
}
