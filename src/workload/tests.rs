//! What a change of the plugins does to a service that runs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::InUse;
use crate::engine::Engine;
use crate::plugin::{BindError, BindRequest, GuestLinker, Health, HostPlugin, PluginSet};
use crate::types::{
    ArtifactSource, LocalResources, PullPolicy, ServiceSpec, WorkloadId, WorkloadOrigin, WorkloadSpec, WorkloadState,
};
use crate::wit::{ImportName, WitWorld};
use crate::workload::http::{HttpBinding, HttpTarget, RouteSink};
use crate::workload::{Parts, RelinkError, Settings, Workloads};

const INTERFACE: &str = "test:counter/ticks@1.0.0";

/// For ever, tells the host a number that starts at 1 in each instance.
const TICKING: &str = r#"(component
  (import "test:counter/ticks@1.0.0" (instance $ticks (export "tick" (func (param "n" u32)))))
  (core func $tick (canon lower (func $ticks "tick")))
  (core module $m
    (import "ticks" "tick" (func $tick (param i32)))
    (global $n (mut i32) (i32.const 0))
    (func (export "run") (result i32)
      (loop $again
        (global.set $n (i32.add (global.get $n) (i32.const 1)))
        (call $tick (global.get $n))
        (br $again))
      unreachable))
  (core instance $i (instantiate $m (with "ticks" (instance (export "tick" (func $tick))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exported)))"#;

/// Serves the interface, and keeps what it is told.
#[derive(Debug)]
struct Ticks {
    id: &'static str,
    heard: Arc<Mutex<Vec<u32>>>,
}

impl Ticks {
    fn new(id: &'static str) -> Arc<Self> {
        Arc::new(Self { id, heard: Arc::default() })
    }

    fn heard(&self) -> Vec<u32> {
        self.heard.lock().unwrap().clone()
    }

    async fn hears(&self, count: usize) {
        eventually(|| self.heard().len() >= count).await;
    }
}

impl HostPlugin for Ticks {
    fn id(&self) -> &'static str {
        self.id
    }

    fn world(&self) -> WitWorld {
        WitWorld { imports: vec![INTERFACE.parse().unwrap()], exports: Vec::new() }
    }

    fn link(&self, linker: &mut GuestLinker, import: &ImportName) -> wasmtime::Result<()> {
        let id = self.id;
        linker.instance(&import.to_string())?.func_wrap_async("tick", move |store, (n,): (u32,)| {
            let heard = store.data().item.bindings.get::<Mutex<Vec<u32>>>(id).unwrap();
            Box::new(async move {
                heard.lock().unwrap().push(n);
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(())
            })
        })
    }

    fn bind(&self, _request: &BindRequest<'_>) -> Result<crate::plugin::Binding, BindError> {
        Ok(Arc::clone(&self.heard) as _)
    }

    fn unbind(&self, _workload: &WorkloadId) {}

    fn health(&self) -> Health {
        Health::ready(std::time::UNIX_EPOCH)
    }
}

#[derive(Debug)]
struct NoRoutes;

impl RouteSink for NoRoutes {
    fn publish(&self, _binding: &HttpBinding, _target: Arc<dyn HttpTarget>) {}

    fn withdraw(&self, _target: &Arc<dyn HttpTarget>) {}
}

async fn eventually(is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("it comes to that");
}

fn set(plugins: &[&Arc<Ticks>]) -> Arc<PluginSet> {
    Arc::new(PluginSet::for_test(plugins.iter().map(|plugin| Arc::clone(plugin) as Arc<dyn HostPlugin>).collect()))
}

/// Runs the service on `plugins`, with no restart to spare.
async fn run(plugins: Arc<PluginSet>) -> (Workloads, WorkloadId) {
    let parts = Parts {
        engine: Engine::new(&crate::config::Engine::default()).unwrap(),
        artifacts: crate::artifact::Artifacts::open(&Default::default(), Default::default()).unwrap(),
        routes: Arc::new(NoRoutes),
        plugins,
        workers: tokio::runtime::Handle::current(),
    };
    let workloads = Workloads::new(parts, Settings::default(), 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("service.wasm");
    std::fs::write(&path, wat::parse_str(TICKING).unwrap()).unwrap();
    let spec = WorkloadSpec {
        origin: WorkloadOrigin::Static,
        namespace: "default".to_owned(),
        name: "w".to_owned(),
        annotations: Default::default(),
        components: Vec::new(),
        service: Some(ServiceSpec {
            image: ArtifactSource::File(path),
            pull_policy: PullPolicy::Unspecified,
            pull_secret: None,
            max_restarts: 0,
            local_resources: LocalResources::default(),
        }),
        host_interfaces: vec![INTERFACE.parse().unwrap()],
        volumes: Vec::new(),
    };
    let id = WorkloadId::of_static("default", "w");
    let prepared = workloads.prepare_static(&id, &Arc::new(spec), &workloads.basis()).await.unwrap();
    drop(workloads.adopt_static(prepared));
    (workloads, id)
}

async fn change(workloads: &Workloads, plugins: Arc<PluginSet>, in_use: InUse) -> Result<(), RelinkError> {
    let replaced = workloads.relink(plugins, &HashSet::new(), in_use).await?.commit();
    assert_eq!(replaced.retire(Instant::now() + Duration::from_secs(5)).await, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_starts_over_on_the_plugin_that_serves_it_now_and_spends_no_restart() {
    let (first, second) = (Ticks::new("first"), Ticks::new("second"));
    let (workloads, id) = run(set(&[&first])).await;
    first.hears(3).await;

    // A plugin that it does not use comes: nothing changes for it.
    let idle = Ticks::new("second");
    change(&workloads, set(&[&first, &idle]), InUse::Refuse).await.unwrap();
    let before = first.heard().len();
    first.hears(before + 3).await;
    assert!(first.heard().is_sorted(), "it was not started over");

    change(&workloads, set(&[&second]), InUse::Refuse).await.unwrap();
    second.hears(1).await;
    let at_last = first.heard().len();
    second.hears(3).await;
    assert_eq!(second.heard()[..3], [1, 2, 3], "a fresh store");
    assert_eq!(first.heard().len(), at_last, "the old instance is gone before the new one runs");
    assert_eq!(workloads.status(&id).workload_state, WorkloadState::Running, "no restart was to spare");

    // Losing the interface is refused; where it may fail, the service ends with its workload.
    let refused = change(&workloads, set(&[]), InUse::Refuse).await;
    assert!(matches!(refused, Err(RelinkError::InUse(_))), "{refused:?}");
    change(&workloads, set(&[]), InUse::FailWorkloads).await.unwrap();
    assert_eq!(workloads.status(&id).workload_state, WorkloadState::Error);
    eventually(|| Arc::strong_count(&second.heard) == 1).await;
    assert_eq!(workloads.end_all(Instant::now()).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_all_ends_a_service_before_it_returns() {
    let ticks = Ticks::new("ticks");
    let (workloads, _id) = run(set(&[&ticks])).await;
    ticks.hears(2).await;
    assert_eq!(workloads.end_all(Instant::now()).await, 0);
    let heard = ticks.heard().len();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(ticks.heard().len(), heard);
}
