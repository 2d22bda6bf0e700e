//! Whole stories of a fleet, driven by a simulated operator: what a user of it would see.

mod partition;
mod simulator;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::watch;

use self::simulator::{Operator, Template};
use crate::support::load::{Keep, Load};
use crate::support::{FakeServer, NatsServer, PATIENCE, Registry, TestProcess, eventually, free_port};

/// How long a host waits with the answer to a start.
const START_REPLY_WAIT: Duration = Duration::from_secs(1);

/// Hosts, their operator, and what they share.
struct Fleet {
    nats: NatsServer,
    operator: Operator,
    home: TempDir,
    ports: Vec<u16>,
}

impl Fleet {
    /// For `hosts` hosts, of which none runs yet.
    async fn new(hosts: usize) -> Self {
        let nats = NatsServer::start("").await;
        let operator = Operator::start(nats.client().await).await;
        let home = TempDir::new().expect("a temporary directory");
        Self { nats, operator, home, ports: (0..hosts).map(|_number| free_port()).collect() }
    }

    /// Starts host `number` and waits until it can be given work.
    async fn host(&self, number: usize) -> TestProcess {
        self.host_by(number, &self.nats.url()).await
    }

    /// As [`Fleet::host`], whose NATS is at `url`.
    async fn host_by(&self, number: usize, url: &str) -> TestProcess {
        let (port, home) = (self.ports[number], self.home.path().join(number.to_string()));
        let home = home.display();
        let mut washlet = TestProcess::start(&format!(
            r#"
            [host]
            state_dir = "{home}/state"
            [http]
            listen = "127.0.0.1:{port}"
            [registry]
            allow_insecure = true
            pull_timeout = "20s"
            [artifacts]
            cache_dir = "{home}/cache"
            [nats.scheduler]
            urls = ["{url}"]
            heartbeat_interval = "1s"
            start_reply_wait = "{wait}s"
            [drain]
            timeout = "10s"
            lame_duck = "500ms"
            "#,
            wait = START_REPLY_WAIT.as_secs(),
        ));
        washlet.wait_for_message("joined the control plane").await;
        // At the end of a story no operator stops what runs.
        washlet.allow_log("not drained within drain.timeout");
        washlet
    }

    fn addrs(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect()
    }

    /// Whose id a process has said.
    fn id_of(&self, number: usize) -> String {
        let path = self.home.path().join(number.to_string()).join("state/identity.json");
        let identity = std::fs::read(path).expect("a host with a state directory");
        let identity: serde_json::Value = serde_json::from_slice(&identity).expect("an identity in JSON");
        identity["host_id"].as_str().expect("an id").to_owned()
    }

    /// Nothing in any story may be worse than this.
    fn was_well_served(&self) {
        let log = self.operator.log();
        assert_eq!(log.undecodable, Vec::<String>::new());
        let limit = START_REPLY_WAIT + Duration::from_secs(1);
        assert!(log.longest_request < limit, "the worker was kept for {:?}", log.longest_request);
    }

    async fn end(self, hosts: Vec<TestProcess>) {
        for name in ["app", "other"] {
            self.operator.delete(name);
            self.operator.gone(name).await;
        }
        for host in hosts {
            host.finish().await;
        }
    }
}

/// A component in the registry.
async fn hello(tag: &str) -> Template {
    let registry = Registry::shared();
    registry.push("operator-http2", tag, std::fs::read("tests/fixtures/http2/http2.wasm").expect("a fixture")).await;
    Template { image: registry.image("operator-http2", tag), host: "app.test".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_replicas_are_ready_on_two_hosts_with_one_start_each() {
    let fleet = Fleet::new(2).await;
    let hosts = vec![fleet.host(0).await, fleet.host(1).await];
    fleet.operator.schedulable(2).await;
    fleet.operator.deploy("app", 10, hello("1").await);
    fleet.operator.ready("app").await;
    let log = fleet.operator.log();
    assert_eq!(log.starts.len(), 10);
    assert!(log.starts.values().all(|starts| *starts == 1), "{log:?}");
    assert_eq!(log.replaced, 0);
    fleet.was_well_served();
    fleet.end(hosts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_fails_no_request() {
    let fleet = Fleet::new(1).await;
    let hosts = vec![fleet.host(0).await];
    fleet.operator.schedulable(1).await;
    fleet.operator.deploy("app", 2, hello("1").await);
    fleet.operator.ready("app").await;
    let load = Load::start(fleet.addrs()[0], "app.test", "/", 4);
    load.wait_for_more(20).await;
    let before = fleet.operator.replicas("app");
    for tag in ["2", "3"] {
        fleet.operator.deploy("app", 2, hello(tag).await);
        fleet.operator.ready("app").await;
        load.wait_for_more(20).await;
    }
    let after = fleet.operator.replicas("app");
    assert!(after.keys().all(|uid| !before.contains_key(uid)), "every replica is a new one");
    let stats = load.stop().await;
    assert_eq!((stats.failed, &stats.first_failure), (0, &None), "{stats:?}");
    fleet.was_well_served();
    fleet.end(hosts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_crashes_and_comes_back_loses_no_replica() {
    let fleet = Fleet::new(1).await;
    let mut host = fleet.host(0).await;
    fleet.operator.schedulable(1).await;
    fleet.operator.deploy("app", 5, hello("1").await);
    fleet.operator.ready("app").await;
    let before = fleet.operator.replicas("app");
    host.kill().await;
    let hosts = vec![fleet.host(0).await];
    fleet.operator.schedulable(1).await;
    // Every replica has been asked for since.
    let asked = |log: &simulator::OperatorLog| log.states.values().map(Vec::len).sum::<usize>();
    let seen = asked(&fleet.operator.log());
    eventually("all are looked at again", PATIENCE, async || (asked(&fleet.operator.log()) >= seen + 5).then_some(()))
        .await;
    fleet.operator.ready("app").await;
    assert_eq!(fleet.operator.replicas("app"), before);
    let log = fleet.operator.log();
    assert_eq!((log.replaced, log.lost_hosts), (0, 0), "{log:?}");
    let is_known = |states: &Vec<String>| states.iter().all(|state| state != "NOT_FOUND");
    assert!(log.states.values().all(is_known), "{log:?}");
    fleet.end(hosts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_costs_the_operator_seconds_and_its_neighbours_nothing() {
    let fleet = Fleet::new(1).await;
    let mut host = fleet.host(0).await;
    host.allow_log("workload failed to start");
    fleet.operator.schedulable(1).await;
    let hanging = FakeServer::hanging().await;
    let slow = Template { image: format!("{}/hang:1", hanging.addr()), host: "slow.test".to_owned() };
    fleet.operator.deploy("other", 1, slow);
    eventually("the registry is asked", PATIENCE, async || (hanging.requests() > 0).then_some(())).await;
    let began = Instant::now();
    fleet.operator.deploy("app", 3, hello("1").await);
    fleet.operator.ready("app").await;
    assert!(began.elapsed() < Duration::from_secs(5), "neighbours waited {:?}", began.elapsed());
    fleet.was_well_served();
    fleet.end(vec![host]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_drained_hands_its_work_over_and_leaves_when_it_is_gone() {
    let fleet = Fleet::new(2).await;
    let mut leaving = fleet.host(0).await;
    let staying = fleet.host(1).await;
    fleet.operator.schedulable(2).await;
    fleet.operator.deploy("app", 4, hello("1").await);
    fleet.operator.ready("app").await;
    // Whoever sends requests goes to a host that takes connections, as kube-proxy does.
    let (addrs_tx, addrs_rx) = watch::channel(fleet.addrs());
    let load = Load::follow(&addrs_rx, "app.test", "/", vec![Keep::Connection, Keep::Nothing]);
    load.wait_for_more(20).await;

    let leaving_id = fleet.id_of(0);
    let began = Instant::now();
    leaving.sigterm();
    fleet.operator.delete_pod_of(&leaving_id);
    addrs_tx.send_replace(vec![fleet.addrs()[1]]);
    assert_eq!(leaving.wait_exit().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "it left as soon as its work was gone: {:?}", began.elapsed());
    fleet.operator.ready("app").await;
    let hosts: Vec<String> = fleet.operator.replicas("app").into_values().collect();
    assert_eq!(hosts, vec![fleet.id_of(1); 4]);
    load.wait_for_more(20).await;
    let stats = load.stop().await;
    assert_eq!((stats.failed, &stats.first_failure), (0, &None), "{stats:?}");
    fleet.was_well_served();
    fleet.end(vec![staying]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_a_host_that_is_lost_are_placed_elsewhere_and_the_lost_one_returns_empty_handed() {
    let fleet = Fleet::new(2).await;
    let (mut lost, staying) = (fleet.host(0).await, fleet.host(1).await);
    fleet.operator.schedulable(2).await;
    fleet.operator.deploy("app", 4, hello("1").await);
    fleet.operator.ready("app").await;
    lost.kill().await;
    let gone = fleet.id_of(0);
    eventually("the operator gives the host up", PATIENCE, async || {
        (fleet.operator.log().lost_hosts == 1).then_some(())
    })
    .await;
    fleet.operator.ready("app").await;
    assert!(fleet.operator.replicas("app").into_values().all(|host| host != gone));
    fleet.end(vec![staying]).await;
}
