//! `washlet ctl`: what it may be told, and how it tells what it found.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::connection::Connection;
use crate::cli::exit::{Exit, print, say};
use crate::ctl::{
    CtlError, Fleet, FleetHost, HostedWorkload, Placed, ReadError, Session, Shorthand, read_workload, table,
};
use crate::error::Chain;
use crate::types::{HostId, WorkloadId, WorkloadState};

/// Two heartbeats of a host are 15 s apart.
const WAIT: &str = "16s";

/// See and change what runs on the hosts of a cluster
///
/// Exit codes: 0 success, 1 failed, 2 wrong command line.
#[derive(Debug, Clone, Args)]
pub(super) struct Ctl {
    #[command(flatten)]
    connection: Connection,
    /// As JSON, on standard output
    #[arg(long, global = true)]
    json: bool,
    /// How long one answer may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, global = true)]
    timeout: Duration,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum CtlCommand {
    /// List who is there, and whose configuration differs from that of its group
    Hosts(Among),
    /// List what runs where
    Workloads(Among),
    /// Start a workload on a host, and wait until it runs
    Start(Start),
    /// Tell where a workload is
    Status(One),
    /// Stop a workload, and wait until it is gone
    Stop {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// Which hosts.
#[derive(Debug, Clone, Args)]
struct Among {
    /// Ask this host only; repeat it for more. Without it, hosts are found by their heartbeats
    #[arg(long, value_name = "ID", value_parser = host_id)]
    host: Vec<HostId>,
    /// Hosts of this group only
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// How long to listen for heartbeats; by default hosts send one every 15 s
    #[arg(long, value_name = "DURATION", default_value = WAIT, value_parser = duration)]
    wait: Duration,
    /// End listening when so many hosts were heard
    #[arg(long, value_name = "N")]
    expect: Option<usize>,
}

/// Which workload on which host.
#[derive(Debug, Clone, Args)]
struct One {
    /// The host it is on
    #[arg(long, value_name = "ID", value_parser = host_id)]
    host: HostId,
    /// The id it was started under
    id: String,
}

#[derive(Debug, Clone, Args)]
struct Waiting {
    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the end
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    patience: Duration,
}

#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["file", "image"])))]
struct Start {
    /// The host to start it on
    #[arg(long, value_name = "ID", value_parser = host_id)]
    host: HostId,
    /// The id to start it under; generated if unset
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// A TOML file with `[[workloads]]`, or JSON as on the wire
    file: Option<PathBuf>,
    /// Which workload of the file, if it lists several
    #[arg(long, value_name = "NAME", requires = "file")]
    workload: Option<String>,
    /// Instead of a file: a workload of this one component
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,
    /// The host name whose requests it answers
    #[arg(long, value_name = "NAME", requires = "image")]
    http_host: Option<String>,
    /// What it is called
    #[arg(long, value_name = "NAME", requires = "image", default_value = "workload")]
    name: String,
    /// Its namespace
    #[arg(long, value_name = "NAME", requires = "image", default_value = "default")]
    namespace: String,
    #[command(flatten)]
    waiting: Waiting,
}

/// What a command found, in both forms, and whether that is what was wanted.
struct Told {
    text: String,
    json: Value,
    is_well: bool,
}

/// Does what it says.
pub(super) fn run(ctl: Ctl) -> Exit {
    let Ctl { connection, json, timeout, command } = ctl;
    let connection = match connection.resolve() {
        Ok(connection) => connection,
        Err(message) => return usage(&message),
    };
    let workload = match &command {
        CtlCommand::Start(start) => match start.workload() {
            Ok(workload) => workload,
            Err(error) => return of_file(&error),
        },
        CtlCommand::Hosts(_) | CtlCommand::Workloads(_) | CtlCommand::Status(_) | CtlCommand::Stop { .. } => {
            Value::Null
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: cannot start a runtime: {error}\n"));
            return Exit::Failure;
        }
    };
    let told = runtime.block_on(async {
        let session = Session::open(&connection, timeout).await?;
        command.run(&session, &workload).await
    });
    runtime.shutdown_background();
    match told {
        Ok(told) => {
            let printed = if json { print(&format!("{:#}\n", told.json)) } else { print(&told.text) };
            if told.is_well { printed } else { Exit::Failure }
        }
        Err(error) => {
            say(&format!("error: {}\n", Chain(&error)));
            Exit::Failure
        }
    }
}

fn usage(message: &str) -> Exit {
    say(&format!("error: {message}\n"));
    Exit::Usage
}

fn of_file(error: &ReadError) -> Exit {
    match error.problems() {
        Some(_) => say(&error.to_string()),
        None => say(&format!("error: {}\n", Chain(error))),
    }
    Exit::Failure
}

impl CtlCommand {
    async fn run(self, session: &Session, workload: &Value) -> Result<Told, CtlError> {
        let mut progress = |line: &str| say(&format!("{line}\n"));
        match self {
            Self::Hosts(among) => Ok(of_hosts(&among.fleet(session).await?)),
            Self::Workloads(among) => Ok(of_workloads(&among.fleet(session).await?)),
            Self::Start(Start { host, id, waiting, .. }) => {
                let id = id.map_or_else(|| WorkloadId::from(uuid::Uuid::new_v4().to_string()), WorkloadId::from);
                say(&format!("starting {id} on {host}\n"));
                let patience = waiting.patience();
                let placed = session.start(&host, &id, workload, patience, &mut progress).await?;
                let is_accepted = waiting.no_wait && placed.state == WorkloadState::Starting;
                Ok(of_placed(&placed, is_up(placed.state) || is_accepted))
            }
            Self::Status(One { host, id }) => {
                let placed = session.status(&host, &WorkloadId::from(id)).await?;
                let is_there = is_up(placed.state) || matches!(placed.state, WorkloadState::Starting);
                Ok(of_placed(&placed, is_there))
            }
            Self::Stop { one: One { host, id }, waiting } => {
                let id = WorkloadId::from(id);
                let first = session.stop(&host, &id, waiting.patience(), &mut progress).await?;
                let is_gone = first.state == WorkloadState::NotFound && first.message == crate::ctl::GONE;
                Ok(of_placed(&first, is_gone || first.state == WorkloadState::Stopping))
            }
        }
    }
}

fn is_up(state: WorkloadState) -> bool {
    matches!(state, WorkloadState::Running | WorkloadState::Completed)
}

impl Waiting {
    fn patience(&self) -> Option<Duration> {
        (!self.no_wait).then_some(self.patience)
    }
}

impl Start {
    fn workload(&self) -> Result<Value, ReadError> {
        let Self { file, workload, image, http_host, name, namespace, host: _, id: _, waiting: _ } = self;
        match file {
            Some(file) => read_workload(file, workload.as_deref()),
            None => {
                let image = image.clone().unwrap_or_default();
                let (name, namespace, http_host) = (name.clone(), namespace.clone(), http_host.clone());
                Shorthand { image, name, namespace, http_host }.workload()
            }
        }
    }
}

impl Among {
    async fn fleet(&self, session: &Session) -> Result<Fleet, CtlError> {
        let Self { host, group, wait, expect } = self;
        let mut seen = if host.is_empty() {
            say(&format!("listening for heartbeats for {}\n", humantime::format_duration(*wait)));
            session.listen(*wait, *expect).await?
        } else {
            session.ask_who(host).await?
        };
        seen.retain(|seen| group.as_ref().is_none_or(|group| seen.group == *group));
        Ok(session.fleet(seen).await)
    }
}

fn of_hosts(fleet: &Fleet) -> Told {
    let row = |host: &FleetHost| {
        let file = host.file_hash().unwrap_or_default();
        let reload = host.last_reload();
        let pending = match host.restart_pending() {
            0 => String::new(),
            count => format!(", {count} keys wait for a restart"),
        };
        [
            host.seen.id.clone(),
            host.seen.name.clone(),
            host.seen.group.clone(),
            host.seen.version.clone(),
            if host.seen.http_port == 0 {
                String::new()
            } else {
                format!("{}:{}", host.seen.hostname, host.seen.http_port)
            },
            host.seen.workloads.to_string(),
            host.generation().map(|generation| generation.to_string()).unwrap_or_default(),
            if host.differs { format!("{file} *") } else { file.to_owned() },
            reload.map(|(outcome, _)| format!("{outcome}{pending}")).unwrap_or_default(),
        ]
    };
    let heads = ["ID", "NAME", "GROUP", "VERSION", "HTTP", "WORKLOADS", "GENERATION", "FILE", "LAST RELOAD"];
    let rows: Vec<_> = fleet.hosts.iter().map(row).collect();
    let mut text = if rows.is_empty() { "no host was heard\n".to_owned() } else { table(heads, &rows) };
    if fleet.hosts.iter().any(|host| host.differs) {
        text.push_str("* its file is not that of the other hosts of its group\n");
    }
    for host in &fleet.hosts {
        if let Some((outcome, Some(error))) = host.last_reload() {
            text.push_str(&format!("{}: {outcome}: {}\n", host.seen.id, error.replace('\n', " ")));
        }
    }
    Told { text, json: fleet.hosts.iter().map(FleetHost::json).collect(), is_well: true }
}

fn of_workloads(fleet: &Fleet) -> Told {
    let (mut workloads, mut silent) = (Vec::new(), Vec::new());
    for host in &fleet.hosts {
        match host.workloads() {
            Some(of_host) => workloads.extend(of_host),
            None => silent.push((host.seen.id.clone(), host.refusal().unwrap_or("it does not tell its workloads"))),
        }
    }
    let row = |workload: &HostedWorkload| {
        let HostedWorkload { host, id, namespace, name, state, reason, in_flight } = workload;
        let name = format!("{namespace}/{name}");
        [host.clone(), id.clone(), name, state.clone(), in_flight.to_string(), reason.clone()]
    };
    let rows: Vec<_> = workloads.iter().map(row).collect();
    let mut text = match (rows.is_empty(), fleet.hosts.is_empty()) {
        (_, true) => "no host was heard\n".to_owned(),
        (true, false) => "no workloads\n".to_owned(),
        (false, false) => table(["HOST", "ID", "WORKLOAD", "STATE", "IN FLIGHT", "REASON"], &rows),
    };
    for (host, why) in &silent {
        text.push_str(&format!("{host}: {why}\n"));
    }
    let json = json!({
        "workloads": workloads.iter().map(HostedWorkload::json).collect::<Vec<_>>(),
        "silent_hosts": silent.iter().map(|(host, why)| json!({ "host": host, "reason": why })).collect::<Vec<_>>(),
    });
    Told { text, json, is_well: true }
}

fn of_placed(placed: &Placed, is_well: bool) -> Told {
    let Placed { host: _, id, state, message } = placed;
    Told { text: format!("{id} {state}: {message}\n"), json: placed.json(), is_well }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_reason| "expected a duration such as 10s".to_owned())
}

fn host_id(text: &str) -> Result<HostId, String> {
    HostId::try_from(text).map_err(|error| error.to_string())
}
