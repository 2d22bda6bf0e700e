//! The wasmCloud runtime operator as a host meets it: one worker, its timeouts, its requeues, its patience.
//!
//! Facts are those of the operator's lines 2.7 to 2.9. Pauses are a tenth of its own, so that a story takes seconds: 1 s
//! until the next look at what changed, 30 s until the next look at what did not, 60 s of patience with a host or a
//! replica. What a request may take stays as it is: 60, 30 and 5 s.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::nats::NatsClient;
use crate::support::{PATIENCE, eventually};

/// A tenth of the operator's second.
const SOON: Duration = Duration::from_millis(100);
/// Of its 30 s: the next look at a workload in which nothing changed.
const LATER: Duration = Duration::from_secs(3);
/// Of its 60 s: a silent host is given up, and a replica that is not in sync is replaced.
const PATIENCE_OF_OPERATOR: Duration = Duration::from_secs(6);
/// Of a start, of a stop, of everything else.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A running operator. Dropped, it stops in the middle.
pub(super) struct Operator {
    world: Arc<Mutex<World>>,
    _tasks: JoinSet<()>,
}

/// What the cluster's API server would hold.
#[derive(Debug, Default)]
struct World {
    hosts: BTreeMap<String, HostObject>,
    deployments: BTreeMap<String, Deployment>,
    workloads: BTreeMap<String, Workload>,
    /// Hosts that a story has withdrawn, as deleting their pod does.
    deleted_hosts: Vec<String>,
    /// The reply to the first start of each workload never arrives.
    loses_first_replies: bool,
    next_uid: u64,
    log: OperatorLog,
}

/// What happened, for the story to look at.
#[derive(Debug, Default, Clone)]
pub(super) struct OperatorLog {
    /// Starts sent, by uid.
    pub(super) starts: BTreeMap<String, usize>,
    /// States that a status request answered, in order, by uid.
    pub(super) states: BTreeMap<String, Vec<String>>,
    /// The longest that one request kept the only worker.
    pub(super) longest_request: Duration,
    /// Replicas that were given up because they were not in sync.
    pub(super) replaced: usize,
    /// Hosts that were given up.
    pub(super) lost_hosts: usize,
    /// Replies that the operator could not decode.
    pub(super) undecodable: Vec<String>,
}

#[derive(Debug)]
struct HostObject {
    name: String,
    last_seen: Instant,
    /// The last heartbeat request was answered: only then is it schedulable.
    is_reporting: bool,
    next_look: Instant,
}

#[derive(Debug, Clone)]
struct Deployment {
    replicas: usize,
    template: Template,
    generation: u64,
}

/// What a replica is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    /// The reference of its one component.
    pub(super) image: String,
    /// The host name it serves.
    pub(super) host: String,
}

#[derive(Debug, Clone)]
struct Workload {
    deployment: String,
    generation: u64,
    name: String,
    template: Template,
    host: Option<String>,
    /// A start was answered, so a delete will send a stop.
    is_placed: bool,
    is_in_sync: bool,
    /// Since when it has not been in sync.
    out_of_sync_since: Instant,
    next_look: Instant,
    is_deleted: bool,
}

impl Operator {
    /// Begins to listen and to work.
    pub(super) async fn start(client: NatsClient) -> Self {
        let world = Arc::<Mutex<World>>::default();
        let mut tasks = JoinSet::new();
        let heartbeats = client.subscribe("runtime.operator.heartbeat.*").await;
        tasks.spawn(listen(Arc::clone(&world), heartbeats));
        tasks.spawn(work(Arc::clone(&world), client));
        Self { world, _tasks: tasks }
    }

    /// Creates a deployment, or rolls it out anew.
    pub(super) fn deploy(&self, name: &str, replicas: usize, template: Template) {
        let mut world = self.world();
        let generation = world.deployments.get(name).map_or(1, |deployment| deployment.generation + 1);
        world.deployments.insert(name.to_owned(), Deployment { replicas, template, generation });
    }

    /// Scales a deployment to nothing and forgets it.
    pub(super) fn delete(&self, name: &str) {
        let mut world = self.world();
        world.deployments.remove(name);
        for workload in world.workloads.values_mut().filter(|workload| workload.deployment == name) {
            workload.is_deleted = true;
        }
    }

    /// What deleting the pod of a host does: its Host object goes at once, and its workloads are placed elsewhere.
    pub(super) fn delete_pod_of(&self, host_id: &str) {
        let mut world = self.world();
        world.deleted_hosts.push(host_id.to_owned());
        world.lose_host(host_id);
    }

    /// From now on the reply to the first start of each workload is lost on its way.
    pub(super) fn lose_first_replies(&self) {
        self.world().loses_first_replies = true;
    }

    /// Waits until `count` hosts can be given work.
    pub(super) async fn schedulable(&self, count: usize) {
        eventually(&format!("{count} hosts are schedulable"), PATIENCE, async || {
            (self.world().hosts.values().filter(|host| host.is_reporting).count() == count).then_some(())
        })
        .await;
    }

    /// Waits until every replica of the newest generation is ready and no other is left.
    pub(super) async fn ready(&self, name: &str) {
        eventually(&format!("{name} is ready"), PATIENCE * 2, async || self.world().is_ready(name).then_some(())).await;
    }

    /// Waits until nothing of `name` is left.
    pub(super) async fn gone(&self, name: &str) {
        eventually(&format!("{name} is gone"), PATIENCE, async || {
            self.world().workloads.values().all(|workload| workload.deployment != name).then_some(())
        })
        .await;
    }

    /// Uid and host of each replica that is ready.
    pub(super) fn replicas(&self, name: &str) -> BTreeMap<String, String> {
        let world = self.world();
        let ready = world.workloads.iter().filter(|(_uid, w)| w.deployment == name && w.is_in_sync && !w.is_deleted);
        ready.filter_map(|(uid, w)| Some((uid.clone(), w.host.clone()?))).collect()
    }

    /// What happened so far.
    pub(super) fn log(&self) -> OperatorLog {
        self.world().log.clone()
    }

    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().expect("no holder panics")
    }
}

impl World {
    fn is_ready(&self, name: &str) -> bool {
        let Some(deployment) = self.deployments.get(name) else { return false };
        let mut replicas = self.workloads.values().filter(|workload| workload.deployment == name);
        let count = replicas.clone().count();
        count == deployment.replicas && replicas.all(|w| w.is_in_sync && w.generation == deployment.generation)
    }

    /// A ReplicaSet pass: creates what is missing, replaces what is out of sync for too long, ends what is old once the
    /// new is available.
    fn reconcile_replicas(&mut self) {
        let now = Instant::now();
        for workload in self.workloads.values_mut() {
            let is_lost = !workload.is_in_sync && now - workload.out_of_sync_since > PATIENCE_OF_OPERATOR;
            if is_lost && !workload.is_deleted {
                workload.is_deleted = true;
                self.log.replaced += 1;
            }
        }
        for (name, Deployment { replicas, template, generation }) in self.deployments.clone() {
            let of = |w: &&mut Workload| w.deployment == name && !w.is_deleted;
            let current = self.workloads.values_mut().filter(of).filter(|w| w.generation == generation);
            let (mut there, mut in_sync) = (0, 0);
            for workload in current {
                there += 1;
                in_sync += usize::from(workload.is_in_sync);
            }
            for _ in there..replicas {
                self.create(&name, generation, &template);
            }
            if in_sync >= replicas {
                for old in self.workloads.values_mut().filter(of).filter(|w| w.generation != generation) {
                    old.is_deleted = true;
                }
            }
        }
    }

    fn create(&mut self, deployment: &str, generation: u64, template: &Template) {
        self.next_uid += 1;
        let (uid, now) = (format!("00000000-0000-4000-8000-{:012}", self.next_uid), Instant::now());
        let workload = Workload {
            deployment: deployment.to_owned(),
            generation,
            name: format!("{deployment}-{generation:x}-{}", self.next_uid),
            template: template.clone(),
            host: None,
            is_placed: false,
            is_in_sync: false,
            out_of_sync_since: now,
            next_look: now,
            is_deleted: false,
        };
        self.workloads.insert(uid, workload);
    }

    /// The finalizer of a Host object: its workloads are deleted, and their replica sets make others.
    fn lose_host(&mut self, id: &str) {
        if self.hosts.remove(id).is_some() {
            self.log.lost_hosts += 1;
        }
        for workload in self.workloads.values_mut().filter(|workload| workload.host.as_deref() == Some(id)) {
            workload.is_deleted = true;
        }
    }

    /// Any schedulable host: not at random, so that a story is the same each time, but spread.
    fn pick_host(&self, number: u64) -> Option<String> {
        let hosts: Vec<&String> =
            self.hosts.iter().filter(|(_id, host)| host.is_reporting).map(|(id, _host)| id).collect();
        let index = usize::try_from(number).expect("few") % hosts.len().max(1);
        hosts.get(index).map(|id| (*id).clone())
    }
}

/// Published heartbeats: they keep a host alive, and make it known.
async fn listen(world: Arc<Mutex<World>>, heartbeats: crate::support::nats::NatsSubscription) {
    let mut messages = heartbeats.into_messages();
    while let Some(message) = messages.next().await {
        let heartbeat: Value = serde_json::from_slice(&message.payload).expect("heartbeats are JSON");
        let id = heartbeat["id"].as_str().expect("a host says who it is").to_owned();
        let name = heartbeat["friendlyName"].as_str().expect("and its name").to_owned();
        let now = Instant::now();
        let mut world = world.lock().expect("no holder panics");
        if world.deleted_hosts.contains(&id) {
            world.log.undecodable.push(format!("{id} said that it is alive after its pod was deleted"));
            continue;
        }
        let new = || HostObject { name: name.clone(), last_seen: now, is_reporting: false, next_look: now };
        let host = world.hosts.entry(id).or_insert_with(new);
        (host.last_seen, host.name) = (now, name);
    }
}

/// The one worker: hosts, then replicas, then each workload that is due, one request at a time.
async fn work(world: Arc<Mutex<World>>, client: NatsClient) {
    loop {
        look_at_hosts(&world, &client).await;
        world.lock().expect("no holder panics").reconcile_replicas();
        let now = Instant::now();
        let due: Vec<String> = {
            let world = world.lock().expect("no holder panics");
            let is_due = |w: &Workload| w.is_deleted || w.next_look <= now;
            world.workloads.iter().filter(|(_uid, w)| is_due(w)).map(|(uid, _w)| uid.clone()).collect()
        };
        for uid in due {
            reconcile(&world, &client, &uid).await;
        }
        tokio::time::sleep(SOON / 5).await;
    }
}

async fn look_at_hosts(world: &Mutex<World>, client: &NatsClient) {
    let now = Instant::now();
    let due: Vec<String> = {
        let mut world = world.lock().expect("no holder panics");
        let silent = |host: &HostObject| now - host.last_seen > PATIENCE_OF_OPERATOR;
        let lost: Vec<String> = world.hosts.iter().filter(|(_, h)| silent(h)).map(|(id, _)| id.clone()).collect();
        for id in lost {
            world.lose_host(&id);
        }
        world.hosts.iter().filter(|(_id, host)| host.next_look <= now).map(|(id, _host)| id.clone()).collect()
    };
    for id in due {
        let answer = ask(world, client, &format!("runtime.host.{id}.heartbeat"), &json!({}), ASK_TIMEOUT).await;
        let mut world = world.lock().expect("no holder panics");
        let Some(host) = world.hosts.get_mut(&id) else { continue };
        host.is_reporting = answer.is_some();
        if host.is_reporting {
            host.last_seen = Instant::now();
        }
        host.next_look = Instant::now() + if host.is_reporting { LATER } else { SOON };
    }
}

/// One pass over a workload: the first thing that changes ends it.
async fn reconcile(world: &Mutex<World>, client: &NatsClient, uid: &str) {
    let Some(workload) = world.lock().expect("no holder panics").workloads.get(uid).cloned() else { return };
    if workload.is_deleted {
        if let Some(host) = workload.host.filter(|_host| workload.is_placed) {
            let subject = format!("runtime.host.{host}.workload.stop");
            // Reply and errors are ignored.
            let _ignored = ask(world, client, &subject, &json!({ "workloadId": uid }), STOP_TIMEOUT).await;
        }
        world.lock().expect("no holder panics").workloads.remove(uid);
        return;
    }
    let Some(host) = workload.host.clone() else {
        let mut world = world.lock().expect("no holder panics");
        let number = uid.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        let host = world.pick_host(number);
        world.change(uid, |workload| {
            workload.next_look = Instant::now() + if host.is_some() { Duration::ZERO } else { SOON };
            workload.host = host;
        });
        return;
    };
    if !workload.is_placed {
        let is_lost = {
            let mut world = world.lock().expect("no holder panics");
            let starts = world.log.starts.entry(uid.to_owned()).or_default();
            *starts += 1;
            *starts == 1 && world.loses_first_replies
        };
        let subject = format!("runtime.host.{host}.workload.start");
        let answer = ask(world, client, &subject, &start(uid, &workload), START_TIMEOUT).await;
        let answer = answer.filter(|_answer| !is_lost);
        world.lock().expect("no holder panics").change(uid, |workload| {
            // Any reply that can be decoded and names the id.
            workload.is_placed = answer.is_some_and(|answer| answer["workloadStatus"]["workloadId"] == uid);
            workload.next_look = Instant::now() + SOON;
        });
        return;
    }
    let subject = format!("runtime.host.{host}.workload.status");
    let answer = ask(world, client, &subject, &json!({ "workloadId": uid }), ASK_TIMEOUT).await;
    let state = answer.as_ref().and_then(|answer| answer["workloadStatus"]["workloadState"].as_str());
    let state = state.unwrap_or("no answer").trim_start_matches("WORKLOAD_STATE_").to_owned();
    let mut world = world.lock().expect("no holder panics");
    world.change(uid, |workload| {
        let is_in_sync = state == "RUNNING" || state == "COMPLETED";
        if workload.is_in_sync && !is_in_sync {
            workload.out_of_sync_since = Instant::now();
        }
        let has_changed = workload.is_in_sync != is_in_sync;
        workload.is_in_sync = is_in_sync;
        workload.next_look = Instant::now() + if has_changed || !is_in_sync { SOON } else { LATER };
    });
    world.log.states.entry(uid.to_owned()).or_default().push(state);
}

impl World {
    fn change(&mut self, uid: &str, change: impl FnOnce(&mut Workload)) {
        if let Some(workload) = self.workloads.get_mut(uid) {
            change(workload);
        }
    }
}

fn start(uid: &str, workload: &Workload) -> Value {
    let Workload { name, generation, template: Template { image, host }, .. } = workload;
    json!({
        "workloadId": uid,
        "workload": {
            "namespace": "default",
            "name": name,
            "annotations": { "runtime.wasmcloud.dev/workload-replica-set-generation": format!("{generation:x}") },
            "witWorld": {
                "components": [{ "name": "http", "image": image, "localResources": {} }],
                "hostInterfaces": [{
                    "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"],
                    "config": { "host": host },
                }],
            },
        },
    })
}

/// One request of the only worker. `None`: no answer, or none that the operator can decode.
async fn ask(
    world: &Mutex<World>,
    client: &NatsClient,
    subject: &str,
    request: &Value,
    timeout: Duration,
) -> Option<Value> {
    let began = Instant::now();
    let answer = client.try_request(subject, request.to_string(), timeout).await;
    let mut world = world.lock().expect("no holder panics");
    world.log.longest_request = world.log.longest_request.max(began.elapsed());
    let answer: Value = serde_json::from_slice(&answer.ok()?).unwrap_or_default();
    let is_heartbeat = subject.ends_with(".heartbeat");
    if is_heartbeat || is_strict(&answer) {
        return Some(answer);
    }
    world.log.undecodable.push(format!("{subject}: {answer}"));
    None
}

/// The operator decodes strictly: one unknown field, and the whole reply is lost.
fn is_strict(answer: &Value) -> bool {
    let Some(status) = answer["workloadStatus"].as_object() else { return false };
    let is_known = |key: &String| ["workloadId", "workloadState", "message"].contains(&key.as_str());
    answer.as_object().is_some_and(|answer| answer.len() == 1) && status.keys().all(is_known)
}
