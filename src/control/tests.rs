//! The control task dies, and is there again.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};

use super::*;
use crate::config::Secret;
use crate::nats::fake::FakeNats;
use crate::types::{HostHeartbeat, WorkloadId, WorkloadSpec, WorkloadState, WorkloadStatus};

const PATIENCE: Duration = Duration::from_secs(20);

struct EmptyHost(HostId);

impl EmptyHost {
    fn unknown(id: &WorkloadId) -> WorkloadStatus {
        WorkloadStatus { workload_id: id.clone(), workload_state: WorkloadState::NotFound, message: String::new() }
    }
}

impl ControlledHost for EmptyHost {
    fn heartbeat(&self) -> HostHeartbeat {
        let none = String::new;
        HostHeartbeat {
            id: self.0.clone(),
            hostname: none(),
            http_port: 0,
            friendly_name: none(),
            version: none(),
            labels: BTreeMap::new(),
            started_at: SystemTime::UNIX_EPOCH,
            os_arch: none(),
            os_name: none(),
            os_kernel: none(),
            system_cpu_usage: 0.0,
            system_memory_total: 0,
            system_memory_free: 0,
            component_count: 0,
            workload_count: 0,
            imports: Vec::new(),
            exports: Vec::new(),
            environment: none(),
        }
    }

    fn start(&self, id: WorkloadId, _spec: Arc<WorkloadSpec>, _request: Bytes) -> BoxFuture<'static, WorkloadStatus> {
        Box::pin(ready(Self::unknown(&id)))
    }

    fn status(&self, id: &WorkloadId) -> WorkloadStatus {
        Self::unknown(id)
    }

    fn stop(&self, id: &WorkloadId) -> BoxFuture<'static, WorkloadStatus> {
        Box::pin(ready(Self::unknown(id)))
    }
}

async fn wait_for(state: &mut watch::Receiver<ControlState>, wanted: ControlState) {
    let seen = timeout(PATIENCE, state.wait_for(|state| *state == wanted)).await;
    seen.unwrap_or_else(|_| panic!("it is never {wanted:?}")).unwrap();
}

#[tokio::test]
async fn a_control_task_that_dies_is_counted_and_joins_again_by_a_connection_of_its_own() {
    let server = FakeNats::start().await;
    let mut settings = Scheduler::default();
    settings.connection.urls = vec![Secret::new(server.url())];
    let id = HostId::random();
    let nats = prove(&settings, &id, &Arc::default()).await.unwrap();
    let client = nats.client.clone();
    let ports = Ports { host: Arc::new(EmptyHost(id.clone())), config: None, tally: Arc::default() };
    let control = ControlPlane::start(settings, id, ports, Some(nats), &Handle::current());
    let mut state = control.state();
    wait_for(&mut state, ControlState::Joined).await;
    let first = server.peers();
    assert_eq!((first.len(), control.restarts()), (1, 0));
    // Under its feet: its subscriptions end, which nothing but its own leaving should do.
    client.drain().await.unwrap();
    wait_for(&mut state, ControlState::Lost).await;
    wait_for(&mut state, ControlState::Joined).await;
    assert_eq!(control.restarts(), 1);
    let joined = async {
        while server.peers().len() != 1 || server.peers() == first {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, joined).await.expect("the old connection is gone, and there is another one");
    control.close(Duration::from_secs(1)).await;
    assert_eq!(*state.borrow(), ControlState::Closed);
}
