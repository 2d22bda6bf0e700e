//! What tests are made of: the washlet process, real servers, clients that speak to them, and fakes that misbehave.
//!
//! `scripts/test` starts the shared servers and names them in `WASHLET_TEST_*`; a test that stops or restarts a server
//! starts its own. Nothing here waits a fixed time: a test awaits a condition, and a time-out says which.

pub(crate) mod editors;
pub(crate) mod fake;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod nats;
pub(crate) mod process;
pub(crate) mod registry;
pub(crate) mod standalone;
#[cfg(test)]
mod tests;
pub(crate) mod volume;
pub(crate) mod wait;

pub(crate) use editors::{Dribble, EDITORS, Editor};
pub(crate) use fake::{FakeServer, Reply};
pub(crate) use load::Load;
pub(crate) use log::LogLine;
pub(crate) use nats::NatsServer;
pub(crate) use process::TestProcess;
pub(crate) use registry::Registry;
pub(crate) use standalone::{Standalone, Workload};
pub(crate) use wait::{PATIENCE, eventually, free_port, quiet};

/// How often a test repeats itself: `default`, or what the variable says, which makes a soak of it.
pub(crate) fn rounds(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |rounds| rounds.parse().expect("a number of rounds"))
}

/// A figure for whoever runs a soak.
#[expect(clippy::print_stderr, reason = "figures of a soak")]
pub(crate) fn say(figure: &str) {
    eprintln!("{figure}");
}

/// The value of a `WASHLET_TEST_*` variable; its absence fails the test and says what to do.
pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("run ./scripts/test, which starts the servers ({variable} is not set)"))
}
