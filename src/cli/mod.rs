//! The command line: flags as a layer of the configuration, and the commands that look at it without running it.

mod args;
mod exit;
mod inspect;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::args::{Args, Command};
use crate::cli::exit::Exit;
use crate::config::env;
use crate::daemon::{self, Launch};

/// Reads the command line of the process, does what it says, and tells how that ended.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os()).into()
}

fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return exit::of_usage(&error),
    };
    let Args { config, mut layer, command } = args;
    let variables = env::capture();
    let named = variables.iter().find(|(name, value)| name == "WASHLET_CONFIG" && !value.is_empty());
    let config_path = config.or_else(|| named.map(|(_, path)| path.into()));
    match command {
        None => exit::of_run(daemon::run(Launch { config_path, flags: layer.take_values() })),
        Some(Command::Check { json }) => inspect::check(config_path.as_deref(), variables, layer.take_values(), json),
        Some(Command::Config { json }) => inspect::config(config_path.as_deref(), variables, layer.take_values(), json),
        Some(Command::Diff { old, new, json }) => {
            let flags = layer.take_values();
            inspect::diff(&old, &new, &variables, &flags, json)
        }
        Some(Command::Schema) => inspect::schema(),
        Some(Command::Example) => inspect::example(),
    }
}
