//! Who is there, what configuration each host runs, and which workloads.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use crate::control::SeenHost;
use crate::control::tool::{HEARTBEATS, Question};
use crate::ctl::{CtlError, Session, unreadable};
use crate::types::HostId;

/// Hosts asked at once: enough that a fleet answers in a moment, few enough that their answers fit the connection.
const ASKED_AT_ONCE: usize = 32;
/// For the server to take a subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// All hosts that were found, by group and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fleet {
    pub(crate) hosts: Vec<FleetHost>,
}

/// A host, and what it told of itself.
#[derive(Debug, Clone)]
pub(crate) struct FleetHost {
    pub(crate) seen: SeenHost,
    /// What it says of its configuration; `None`: it does not, like hosts of another make.
    pub(crate) config: Option<Value>,
    /// Whether its file is another than that of most hosts of its group.
    pub(crate) differs: bool,
}

/// A workload on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostedWorkload {
    pub(crate) host: String,
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) state: String,
    /// Why it failed, if it did.
    pub(crate) reason: String,
    /// Requests it is working on.
    pub(crate) in_flight: u64,
}

impl Session {
    /// Those of whom a heartbeat is heard within `wait`, which ends early when there are `expected`.
    pub(crate) async fn listen(&self, wait: Duration, expected: Option<usize>) -> Result<Vec<SeenHost>, CtlError> {
        let heartbeats = self.nats.client.subscribe(HEARTBEATS).await;
        let mut heartbeats = heartbeats.map_err(|e| CtlError::Listen(Box::new(e)))?;
        // Whether the server takes the subscription is known when it has answered what came after.
        let _heard_or_not = timeout(SUBSCRIBE_TIMEOUT, self.nats.barrier(HEARTBEATS)).await;
        if !self.nats.refused_of(&[HEARTBEATS.to_owned()]).is_empty() {
            return Err(CtlError::Deaf { subject: HEARTBEATS });
        }
        let until = Instant::now() + wait;
        let mut hosts = BTreeMap::new();
        while expected.is_none_or(|expected| hosts.len() < expected)
            && let Ok(Some(heartbeat)) = timeout_at(until, heartbeats.next()).await
        {
            // What is no heartbeat is no host.
            if let Ok(seen) = SeenHost::decode(&heartbeat.payload) {
                hosts.insert(seen.id.clone(), seen);
            }
        }
        Ok(hosts.into_values().collect())
    }

    /// Those with these ids, each asked for its heartbeat.
    pub(crate) async fn ask_who(&self, ids: &[HostId]) -> Result<Vec<SeenHost>, CtlError> {
        let mut hosts = Vec::with_capacity(ids.len());
        for id in ids {
            let answer = self.ask(id, Question::Heartbeat, &json!({}), self.timeout).await?;
            hosts.push(SeenHost::decode(&answer).map_err(|malformed| unreadable(id, &malformed))?);
        }
        Ok(hosts)
    }

    /// What configuration each of `seen` runs.
    pub(crate) async fn fleet(&self, seen: Vec<SeenHost>) -> Fleet {
        let asked = seen.into_iter().map(|seen| async move {
            let config = self.config(&seen).await;
            FleetHost { seen, config, differs: false }
        });
        let mut hosts: Vec<FleetHost> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect().await;
        hosts.sort_by(|a, b| key_of(&a.seen).cmp(&key_of(&b.seen)));
        mark(&mut hosts);
        Fleet { hosts }
    }

    async fn config(&self, seen: &SeenHost) -> Option<Value> {
        let id = HostId::try_from(seen.id.as_str()).ok()?;
        let answer = self.ask(&id, Question::Config, &json!({}), self.timeout).await.ok()?;
        serde_json::from_slice::<Value>(&answer).ok().filter(Value::is_object)
    }
}

fn key_of(seen: &SeenHost) -> (&str, &str, &str) {
    (&seen.group, &seen.name, &seen.id)
}

/// Marks whose file is not the one that most of its group have; all of them, if there is no such file.
fn mark(hosts: &mut [FleetHost]) {
    let mut groups: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for host in hosts.iter() {
        if let Some(hash) = host.file_hash() {
            *groups.entry(host.seen.group.clone()).or_default().entry(hash.to_owned()).or_default() += 1;
        }
    }
    for host in hosts {
        let Some(counts) = groups.get(&host.seen.group) else { continue };
        let most = counts.values().max().copied().unwrap_or_default();
        let mut common = counts.iter().filter(|(_, count)| **count == most);
        let common = common.next().filter(|_| common.next().is_none()).map(|(hash, _)| hash.as_str());
        host.differs = counts.len() > 1 && host.file_hash().is_some_and(|hash| Some(hash) != common);
    }
}

impl FleetHost {
    /// Of the file it runs.
    pub(crate) fn file_hash(&self) -> Option<&str> {
        self.config.as_ref()?.pointer("/config/file_hash")?.as_str()
    }

    /// The number of the configuration it runs.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.config.as_ref()?.pointer("/config/generation")?.as_u64()
    }

    /// Keys that wait for its restart.
    pub(crate) fn restart_pending(&self) -> usize {
        let pending = self.config.as_ref().and_then(|config| config.pointer("/config/restart_pending")?.as_array());
        pending.map_or(0, Vec::len)
    }

    /// What became of the last attempt to change its configuration: outcome, and the first error.
    pub(crate) fn last_reload(&self) -> Option<(&str, Option<&str>)> {
        let attempt = self.config.as_ref()?.pointer("/config/attempts/0")?;
        // The line as text; older hosts tell nothing but the line.
        let error = attempt.pointer("/errors/0/text").or_else(|| attempt.pointer("/errors/0")).and_then(Value::as_str);
        Some((attempt.get("outcome")?.as_str()?, error))
    }

    /// All of it, for scripts.
    pub(crate) fn json(&self) -> Value {
        let SeenHost { id, name, hostname, group, environment, version, http_port, workloads, components } = &self.seen;
        json!({
            "id": id,
            "name": name,
            "hostname": hostname,
            "group": group,
            "environment": environment,
            "version": version,
            "http_port": http_port,
            "workloads": workloads,
            "components": components,
            "generation": self.generation(),
            "file_hash": self.file_hash(),
            "differs": self.differs,
            "restart_pending": self.restart_pending(),
            "last_reload": self.last_reload().map(|(outcome, error)| json!({ "outcome": outcome, "error": error })),
        })
    }

    /// Why it tells nothing of its configuration, if it says that.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.config.as_ref()?.get("error")?.as_str()
    }

    /// What it runs; `None` if it does not tell.
    pub(crate) fn workloads(&self) -> Option<Vec<HostedWorkload>> {
        let text = |workload: &Value, key: &str| workload[key].as_str().unwrap_or_default().to_owned();
        let workloads = self.config.as_ref()?.get("workloads")?.as_array()?.iter();
        let workloads = workloads.map(|workload| HostedWorkload {
            host: self.seen.id.clone(),
            id: text(workload, "id"),
            namespace: text(workload, "namespace"),
            name: text(workload, "name"),
            state: text(workload, "state"),
            reason: text(workload, "reason"),
            in_flight: workload["in_flight"].as_u64().unwrap_or_default(),
        });
        Some(workloads.collect())
    }
}

impl HostedWorkload {
    /// All of it, for scripts.
    pub(crate) fn json(&self) -> Value {
        let Self { host, id, namespace, name, state, reason, in_flight } = self;
        let reason = (!reason.is_empty()).then_some(reason);
        json!({
            "host": host,
            "id": id,
            "namespace": namespace,
            "name": name,
            "state": state,
            "reason": reason,
            "in_flight": in_flight,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str, group: &str, hash: Option<&str>) -> FleetHost {
        let seen = SeenHost::decode(format!(r#"{{"id":"{id}","labels":{{"hostgroup":"{group}"}}}}"#).as_bytes());
        let config = hash.map(|hash| json!({ "config": { "file_hash": hash } }));
        FleetHost { seen: seen.unwrap(), config, differs: false }
    }

    fn marked(mut hosts: Vec<FleetHost>) -> Vec<String> {
        mark(&mut hosts);
        hosts.into_iter().filter(|host| host.differs).map(|host| host.seen.id).collect()
    }

    #[test]
    fn a_host_whose_file_differs_from_its_group_is_marked() {
        let hosts = || vec![host("a", "g", Some("1")), host("b", "g", Some("1")), host("c", "other", Some("2"))];
        assert!(marked(hosts()).is_empty());
        assert_eq!(marked([hosts(), vec![host("d", "g", Some("2")), host("e", "g", None)]].concat()), ["d"]);
        assert_eq!(marked(vec![host("a", "g", Some("1")), host("b", "g", Some("2"))]), ["a", "b"], "no majority");
    }
}
