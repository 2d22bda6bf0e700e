//! The human's client of the control plane: who is there, what runs where, start and stop.
//!
//! A [`Session`] is one connection to NATS; each command is a few requests on it. Every wait has an end, and says what
//! was waited for. Nothing is printed here: results are values, and progress goes to whoever asked for it. Absent on
//! purpose: retries of what changes something, and any choice of a host, which is the operator's business.

mod fleet;
mod place;
mod read;
mod table;

pub(crate) use fleet::{Fleet, FleetHost, HostedWorkload};
pub(crate) use place::{GONE, Placed};
pub(crate) use read::{ReadError, Shorthand, read_workload};
pub(crate) use table::table;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::config::NatsConnection;
use crate::control::Malformed;
use crate::control::tool::Question;
use crate::nats::{AskError, NatsClient, NatsError, Purpose, connect_now};
use crate::types::HostId;

/// A connection to the control plane.
#[derive(Debug)]
pub(crate) struct Session {
    nats: NatsClient,
    /// For one answer.
    timeout: Duration,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// No connection.
    #[error("cannot reach the control plane")]
    Connect(#[source] NatsError),
    /// The server does not let us hear heartbeats.
    #[error("the NATS server does not let this user subscribe to {subject}; name hosts with --host")]
    Deaf {
        /// What was subscribed to.
        subject: &'static str,
    },
    /// The subscription failed.
    #[error("cannot listen for heartbeats")]
    Listen(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody with that id.
    #[error("no host {host} answers; `washlet ctl hosts` lists who is there")]
    NoHost {
        /// Who was asked.
        host: HostId,
        /// How that showed.
        source: AskError,
    },
    /// No answer.
    #[error("host {host} did not answer")]
    Ask {
        /// Who was asked.
        host: HostId,
        /// Why not.
        source: AskError,
    },
    /// An answer that is none.
    #[error("host {host} answered what cannot be read: {reason}")]
    Unreadable {
        /// Who answered.
        host: HostId,
        /// What is wrong with it.
        reason: String,
    },
    /// Patience ended first.
    #[error("workload {id} is still {state} after {}; `washlet ctl status` tells how it goes on", humantime::format_duration(*.after))]
    Unfinished {
        /// Which workload.
        id: String,
        /// Where it is.
        state: String,
        /// How long was waited.
        after: Duration,
    },
}

impl Session {
    /// Connects, trying each server once.
    pub(crate) async fn open(connection: &NatsConnection, timeout: Duration) -> Result<Self, CtlError> {
        let (optional, tally) = (std::collections::BTreeSet::new(), std::sync::Arc::default());
        let purpose = Purpose { name: "washlet-ctl".to_owned(), optional, tally };
        let nats = connect_now(connection, purpose).await.map_err(CtlError::Connect)?;
        Ok(Self { nats, timeout })
    }

    /// What `host` says to `request`, within `patience`.
    async fn ask(
        &self,
        host: &HostId,
        question: Question,
        request: &Value,
        patience: Duration,
    ) -> Result<Bytes, CtlError> {
        let answer = self.nats.ask(question.subject(host), Bytes::from(request.to_string()), patience).await;
        answer.map_err(|source| match source {
            AskError::NoResponders { .. } => CtlError::NoHost { host: host.clone(), source },
            AskError::Timeout { .. } | AskError::Send { .. } => CtlError::Ask { host: host.clone(), source },
        })
    }
}

fn unreadable(host: &HostId, malformed: &Malformed) -> CtlError {
    CtlError::Unreadable { host: host.clone(), reason: malformed.error.to_string() }
}
