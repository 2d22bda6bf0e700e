//! The command line: flags as a layer of the configuration, and the commands that look at it without running it.

mod args;
mod connection;
mod ctl;
mod exit;
mod flags;
mod inspect;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::args::{Args, Command};
use crate::cli::exit::Exit;
use crate::cli::inspect::Layers;
use crate::config::{Base, env};
use crate::daemon::{self, Launch};

/// Reads the command line of the process, does what it says, and tells how that ended.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os()).into()
}

fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let matches = flags::taken_by(Args::command()).try_get_matches_from(args);
    let read = |matches| Ok((Args::from_arg_matches(&matches)?, flags::config(&matches), flags::given(&matches)));
    let (Args { command }, config, flags) = match matches.and_then(read) {
        Ok(given) => given,
        Err(error) => return exit::of_usage(&error),
    };
    let variables = env::capture();
    let named = variables.iter().find(|(name, value)| name == "WASHLET_CONFIG" && !value.is_empty());
    if matches!(command, Some(Command::Ctl(_))) && config.is_some() {
        exit::say("error: `washlet ctl` reads no configuration file\n");
        return Exit::Usage;
    }
    let config_path = config.or_else(|| named.map(|(_, path)| path.into()));
    let base = command.as_ref().map_or(Base::Standalone, Command::base);
    let layers = Layers { base, path: config_path, env: variables, flags };
    match command {
        None | Some(Command::Host) => {
            let Layers { base, path: config_path, env: _, flags } = layers;
            exit::of_run(daemon::run(Launch { base, config_path, flags }))
        }
        Some(Command::Check { json, host: _ }) => inspect::check(&layers, json),
        Some(Command::Config { json, host: _ }) => inspect::config(&layers, json),
        Some(Command::Diff { old, new, json }) => inspect::diff(&old, &new, &layers, json),
        Some(Command::Ctl(ctl)) => ctl::run(*ctl),
        Some(Command::Schema) => inspect::schema(),
        Some(Command::Example) => inspect::example(),
    }
}
