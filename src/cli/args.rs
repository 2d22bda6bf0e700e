//! What may stand on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cli::ctl::Ctl;
use crate::config::Base;

/// A cluster host for WebAssembly components whose configuration file is live.
///
/// Exit codes: 0 success, 1 could not start, 2 wrong command line, 78 wrong configuration.
#[derive(Debug, Parser)]
#[command(name = "washlet", version, args_override_self = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Without a command the host runs.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Command {
    /// Run in the cluster, with the command line of `wash host` and its defaults
    Host,
    /// Print every problem of the configuration
    Check {
        /// As JSON, on standard output
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        host: Option<Seen>,
    },
    /// Print every key of the merged configuration with its value and where that comes from, secrets hidden
    Config {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        host: Option<Seen>,
    },
    /// Print what a reload from one file to another would do
    Diff {
        /// The file that runs
        old: PathBuf,
        /// The file that is to run
        new: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    Ctl(Box<Ctl>),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print an annotated configuration file with every key
    Example,
}

/// Whose configuration is looked at.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum Seen {
    /// That of `washlet host`
    Host,
}

impl Command {
    /// What the host is if nobody says anything.
    pub(super) fn base(&self) -> Base {
        match self {
            Self::Host | Self::Check { host: Some(Seen::Host), .. } | Self::Config { host: Some(Seen::Host), .. } => {
                Base::ClusterHost
            }
            Self::Check { host: None, .. }
            | Self::Config { host: None, .. }
            | Self::Diff { .. }
            | Self::Ctl(_)
            | Self::Schema
            | Self::Example => Base::Standalone,
        }
    }
}
