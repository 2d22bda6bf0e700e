//! What may stand on the command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

use crate::config::FlagValue;

/// A cluster host for WebAssembly components whose configuration file is live.
///
/// Exit codes: 0 success, 1 could not start, 2 wrong command line, 78 wrong configuration.
#[derive(Debug, Parser)]
#[command(name = "washlet", version, args_override_self = true)]
pub(super) struct Args {
    /// The configuration file [env: WASHLET_CONFIG]. It is watched: a valid change applies without a restart
    #[arg(long, short, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) layer: Layer,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Without a command the host runs.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Command {
    /// Print every problem of the configuration
    Check {
        /// As JSON, on standard output
        #[arg(long)]
        json: bool,
    },
    /// Print every key of the merged configuration with its value and where that comes from, secrets hidden
    Config {
        /// As JSON
        #[arg(long)]
        json: bool,
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
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print an annotated configuration file with every key
    Example,
}

/// Flags that set keys: over the file and the environment, now and at every reload.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct Layer {
    /// Level or directives of the log (log.level)
    #[arg(long, short, value_name = "LEVEL", global = true)]
    log_level: Option<String>,
    /// Label by which the operator picks hosts (host.group)
    #[arg(long, value_name = "GROUP", global = true)]
    host_group: Option<String>,
    /// Address under which others reach this host (host.advertise_address)
    #[arg(long, value_name = "ADDRESS", global = true)]
    host_name: Option<String>,
    /// Environment named in heartbeats (host.environment)
    #[arg(long, value_name = "NAME", global = true)]
    environment: Option<String>,
    /// Address to take HTTP requests on (http.listen)
    #[arg(long, value_name = "IP:PORT", global = true)]
    http_addr: Option<String>,
    /// NATS servers of the control plane, with commas between (nats.scheduler.urls)
    #[arg(long, value_name = "URLS", global = true)]
    scheduler_nats_url: Option<String>,
    /// Plain HTTP for every registry (registry.allow_insecure)
    #[arg(long, action = ArgAction::SetTrue, global = true)]
    allow_insecure_registries: bool,
    /// Time for pulling one artifact (registry.pull_timeout)
    #[arg(long, value_name = "DURATION", global = true)]
    registry_pull_timeout: Option<String>,
    /// Directory of the artifact cache (artifacts.cache_dir)
    #[arg(long, value_name = "DIR", global = true)]
    oci_cache_dir: Option<String>,
}

impl Layer {
    /// The flags that were given, each with its key.
    pub(super) fn take_values(&mut self) -> Vec<FlagValue> {
        let Self {
            log_level,
            host_group,
            host_name,
            environment,
            http_addr,
            scheduler_nats_url,
            allow_insecure_registries,
            registry_pull_timeout,
            oci_cache_dir,
        } = std::mem::take(self);
        let given = [
            ("--log-level", "log.level", log_level),
            ("--host-group", "host.group", host_group),
            ("--host-name", "host.advertise_address", host_name),
            ("--environment", "host.environment", environment),
            ("--http-addr", "http.listen", http_addr),
            ("--scheduler-nats-url", "nats.scheduler.urls", scheduler_nats_url),
            (
                "--allow-insecure-registries",
                "registry.allow_insecure",
                allow_insecure_registries.then(|| "true".to_owned()),
            ),
            ("--registry-pull-timeout", "registry.pull_timeout", registry_pull_timeout),
            ("--oci-cache-dir", "artifacts.cache_dir", oci_cache_dir),
        ];
        let value = |(flag, key, value): (&str, &str, Option<String>)| {
            Some(FlagValue { flag: flag.to_owned(), key: key.to_owned(), value: value? })
        };
        given.into_iter().filter_map(value).collect()
    }
}
