//! The real sections of the host, with others between them that fail, panic or hang: nothing changes, nothing is left.

mod saboteur;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use self::saboteur::{Does, Saboteur};
use crate::admin::AdminPort as _;
use crate::daemon::Launch;
use crate::daemon::report::Report;
use crate::daemon::sections::{Shared, in_order};
use crate::daemon::source::FileSource;
use crate::nats::fake::FakeNats;
use crate::reload::{Outcome, Reason, ReloadOutcome, Reloader, ReloaderParts, Section, Trigger};
use crate::task::{Shutdown, spawn};
use crate::telemetry;

const PATIENCE: Duration = Duration::from_secs(20);
const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart/hello.wasm");

/// A configuration of which every table can be another one.
#[derive(Clone)]
struct Text {
    nats: String,
    http: u16,
    admin: u16,
    greeting: &'static str,
    /// Whatever has no address.
    rest: &'static str,
    further: bool,
}

impl Text {
    fn toml(&self) -> String {
        let Self { nats, http, admin, greeting, rest, further } = self;
        let mut text = format!(
            "{rest}[admin]\nlisten = \"127.0.0.1:{admin}\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
             [nats.scheduler]\nurls = [\"{nats}\"]\n[drain]\ntimeout = \"3s\"\nlame_duck = \"0s\"\n\
             [reload]\nwatch = false\npoll_interval = \"0s\"\nprepare_timeout = \"15s\"\n"
        );
        let names = if *further { &["a", "further"][..] } else { &["a"] };
        for name in names {
            write!(
                text,
                "[[workloads]]\nname = \"{name}\"\nhost_interfaces = [{{ interface = \"wasi:http/incoming-handler\", \
                 config = {{ host = \"{name}.test\" }} }}]\n[[workloads.components]]\nname = \"main\"\n\
                 image = \"file:{HELLO}\"\nenvironment = {{ GREETING = \"{greeting}\" }}\n"
            )
            .unwrap();
        }
        text
    }
}

/// What must be the same object before and after.
#[derive(Debug, PartialEq, Eq)]
struct Objects {
    http: (usize, SocketAddr),
    control: usize,
    admin: SocketAddr,
    host: usize,
    plugins: Vec<(&'static str, usize)>,
    workloads: Vec<(String, String)>,
    nats: Vec<SocketAddr>,
    log: String,
    heartbeat: (String, String, u16),
    greeting: String,
    /// Who listens where, in numbers of the kernel.
    listeners: Vec<String>,
}

struct Rig {
    dir: TempDir,
    shared: Arc<Shared>,
    reloader: Reloader,
    saboteurs: Vec<Saboteur>,
    shutdown: Shutdown,
    nats: [FakeNats; 2],
    /// Ports of this test, whoever listens on them.
    ports: Vec<u16>,
}

impl Rig {
    async fn start(nats: [FakeNats; 2], text: &Text, ports: Vec<u16>) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("washlet.toml"), text.toml()).unwrap();
        let shared = Arc::new(Shared::new(Handle::current(), Handle::current()));
        let (mut sections, mut saboteurs) = (Vec::<Box<dyn Section<_>>>::new(), Vec::new());
        for section in in_order(&shared) {
            saboteurs.push(Saboteur::before(section.name()));
            sections.push(Box::new(saboteurs.last().unwrap().clone()));
            sections.push(section);
        }
        saboteurs.push(Saboteur::before("the end"));
        sections.push(Box::new(saboteurs.last().unwrap().clone()));
        let shutdown = Shutdown::default();
        let launch = Launch { config_path: Some(dir.path().join("washlet.toml")), ..Launch::default() };
        let (reloader, task) = Reloader::new(ReloaderParts {
            source: Box::new(FileSource::with_environment(launch, Vec::new())),
            sections,
            poll_seed: "host".to_owned(),
            shutdown: shutdown.clone(),
        });
        shared.set_reloader(reloader.clone());
        drop(spawn("reload", task.run()));
        let first = reloader.first().await.unwrap();
        assert_eq!(first.outcome, Outcome::Applied, "{:?}", first.errors());
        Self { dir, shared, reloader, saboteurs, shutdown, nats, ports }
    }

    fn write(&self, text: &Text) {
        let beside: PathBuf = self.dir.path().join("new");
        std::fs::write(&beside, text.toml()).unwrap();
        std::fs::rename(beside, self.dir.path().join("washlet.toml")).unwrap();
    }

    /// Asks, and sees to it that status and metrics say the same.
    async fn reload(&self) -> Arc<ReloadOutcome> {
        let outcome = tokio::time::timeout(PATIENCE, self.reloader.trigger(Trigger::Request)).await.unwrap().unwrap();
        let report = Report::new(&self.shared);
        let status = crate::config::port::ConfigPort::status(&report);
        assert_eq!(status["config"]["attempts"][0]["n"], outcome.n);
        assert_eq!(status["config"]["attempts"][0]["outcome"], outcome.outcome.as_str());
        assert_eq!(status["config"]["generation"], outcome.generation.get());
        let is_good = matches!(outcome.outcome, Outcome::Applied | Outcome::Unchanged);
        let gauge = format!("washlet_config_last_reload_successful {}.0", u8::from(is_good));
        let metrics = report.metrics();
        assert!(metrics.lines().any(|line| line == gauge), "{gauge}: {metrics}");
        outcome
    }

    async fn objects(&self) -> Objects {
        let host = Arc::clone(self.shared.host().unwrap());
        let (http, control, admin) = {
            let live = self.shared.live();
            let http = live.http.as_ref().unwrap();
            let control = Arc::as_ptr(live.control.as_ref().unwrap()) as usize;
            ((Arc::as_ptr(http) as usize, http.local_addr()), control, live.admin.as_ref().unwrap().local_addr())
        };
        let plugins = host.workloads().plugins();
        let plugins = plugins.plugins().iter().map(|it| (it.id(), Arc::as_ptr(it).cast::<()>() as usize)).collect();
        let workloads = host.workloads().list();
        let workloads = workloads.iter().map(|it| (it.id.to_string(), it.state.to_string())).collect();
        let heartbeat = host.heartbeat();
        let heartbeat = (
            heartbeat.environment,
            heartbeat.labels.get("hostgroup").cloned().unwrap_or_default(),
            heartbeat.http_port,
        );
        Objects {
            http,
            control,
            admin,
            host: Arc::as_ptr(&host) as usize,
            plugins,
            workloads,
            nats: self.nats.iter().flat_map(FakeNats::peers).collect(),
            log: telemetry::install().filter(),
            heartbeat,
            greeting: get(http.1, "a.test").await,
            listeners: self.listeners(),
        }
    }

    /// Port and inode of every socket that listens on one of our ports.
    fn listeners(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = fields.filter(|fields| {
            let port = fields[1].rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
            fields[3] == "0A" && port.is_some_and(|port| self.ports.contains(&port))
        });
        let mut ours: Vec<String> = ours.map(|fields| format!("{} {}", fields[1], fields[9])).collect();
        ours.sort();
        ours
    }

    /// Nothing differs, and nothing runs that did not run before.
    async fn is_as_before(&self, before: &Objects, tasks: usize, what: &str) {
        eventually(what, async || {
            let is_idle = Handle::current().metrics().num_alive_tasks() <= tasks;
            (self.nats.iter().flat_map(FakeNats::peers).eq(before.nats.iter().copied()) && is_idle).then_some(())
        })
        .await;
        assert_eq!(&self.objects().await, before, "{what}");
    }
}

async fn eventually(what: &str, mut look: impl AsyncFnMut() -> Option<()>) {
    let search = async {
        while look().await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, search).await.is_ok(), "waited in vain: {what}");
}

async fn get(address: SocketAddr, host: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    format!("{status} {}", answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim_end())
}

fn free_ports<const N: usize>() -> [u16; N] {
    let taken = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    taken.map(|listener| listener.local_addr().unwrap().port())
}

/// One test, because the log is the process's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_between_any_two_sections_of_the_host_nothing_changes_and_nothing_is_left() {
    let nats = [FakeNats::start().await, FakeNats::start().await];
    let [http, admin, other_http, other_admin] = free_ports();
    let rest = "[log]\nlevel = \"off\"\n[plugins.wasi-logging]\n";
    let old = Text { nats: nats[0].url(), http, admin, greeting: "old", rest, further: false };
    let other = "[log]\nlevel = \"off,washlet::nobody=error\"\n[plugins.wasi-logging]\n[plugins.wasi-keyvalue]\n\
                 [host]\ngroup = \"other\"\nenvironment = \"other\"\n[limits]\nmemory = \"99MiB\"\n";
    let (url, greeting) = (nats[1].url(), "new");
    let new = Text { nats: url, http: other_http, admin: other_admin, greeting, rest: other, further: true };
    let rig = Rig::start(nats, &old, vec![http, admin, other_http, other_admin]).await;
    eventually("the host has joined", async || (rig.nats[0].peers().len() == 1).then_some(())).await;
    rig.objects().await;
    // The connection of the request is gone as well.
    eventually("the host is idle", async || (rig.shared.live().http.as_ref()?.connections() == 0).then_some(())).await;
    let (before, tasks) = (rig.objects().await, Handle::current().metrics().num_alive_tasks() + 1);
    assert_eq!(before.greeting, "200 old");

    nothing_changes_whatever_fails(&rig, &before, tasks, [&old, &new]).await;

    // Without a saboteur the same text is applied, all of it.
    rig.write(&new);
    let outcome = rig.reload().await;
    assert_eq!((outcome.outcome, outcome.generation.get()), (Outcome::Applied, 2), "{:?}", outcome.errors());
    eventually("the old connection is left", async || rig.nats[0].peers().is_empty().then_some(())).await;
    let after = rig.objects().await;
    assert_eq!((after.http.1.port(), after.admin.port()), (other_http, other_admin));
    assert_eq!((after.control, after.host), (before.control, before.host), "these move with the host");
    assert_eq!((after.nats.len(), rig.nats[1].peers().len()), (1, 1));
    assert_eq!(after.plugins.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["wasi-keyvalue", "wasi-logging"]);
    assert!(after.plugins.iter().any(|plugin| *plugin == before.plugins[0]), "wasi-logging is the same one");
    assert_eq!(after.workloads.len(), 2);
    assert_eq!(after.heartbeat, ("other".to_owned(), "other".to_owned(), other_http));
    assert_ne!(after.log, before.log);
    assert_eq!((after.greeting.as_str(), get(after.http.1, "further.test").await.as_str()), ("200 new", "200 new"));
    eventually("the old listeners are closed", async || (rig.listeners().len() == 2).then_some(())).await;

    unchanged_parts_are_the_same_objects(&rig, &new).await;
    a_shutdown_ends_what_hangs(&rig, &old).await;
}

async fn nothing_changes_whatever_fails(rig: &Rig, before: &Objects, tasks: usize, [old, new]: [&Text; 2]) {
    for (index, saboteur) in rig.saboteurs.iter().enumerate() {
        for does in [Does::Fail, Does::Panic, Does::Hang] {
            let what = format!("{does:?} before {} ({index})", saboteur.before);
            saboteur.set(does);
            rig.write(new);
            let outcome = if does == Does::Hang {
                // What is newer is what runs: the attempt is given up, and the next one finds nothing to do.
                let reloader = rig.reloader.clone();
                let asked = spawn("asked", async move { reloader.trigger(Trigger::Request).await });
                saboteur.reached().await;
                rig.write(old);
                let outcome = rig.reload().await;
                assert_eq!(asked.await.unwrap().unwrap().unwrap().n, outcome.n, "{what}");
                assert_eq!(outcome.outcome, Outcome::Unchanged, "{what}");
                outcome
            } else {
                let outcome = rig.reload().await;
                let rejection = outcome.rejection.clone().unwrap_or_else(|| panic!("{what}: {outcome:?}"));
                assert_eq!((outcome.outcome, rejection.reason), (Outcome::Rejected, Reason::Prepare), "{what}");
                outcome
            };
            assert_eq!(outcome.generation.get(), 1, "{what}");
            rig.is_as_before(before, tasks, &what).await;
        }
        saboteur.set(Does::Nothing);
    }
}

/// An edit of one table touches nothing else.
async fn unchanged_parts_are_the_same_objects(rig: &Rig, text: &Text) {
    let before = rig.objects().await;
    let rest = text.rest.replace("group = \"other\"", "group = \"third\"");
    rig.write(&Text { rest: Box::leak(rest.into_boxed_str()), ..text.clone() });
    assert_eq!(rig.reload().await.outcome, Outcome::Applied);
    let mut after = rig.objects().await;
    assert_eq!(after.heartbeat.1, "third");
    after.heartbeat.1.clone_from(&before.heartbeat.1);
    assert_eq!(after, before);
}

async fn a_shutdown_ends_what_hangs(rig: &Rig, text: &Text) {
    let before = rig.objects().await;
    let last = rig.saboteurs.last().unwrap();
    last.set(Does::Hang);
    rig.write(&Text { greeting: "never", nats: text.nats.clone(), further: true, ..text.clone() });
    let reloader = rig.reloader.clone();
    let asked = spawn("asked", async move { reloader.trigger(Trigger::Request).await });
    last.reached().await;
    rig.shutdown.trigger();
    let outcome = tokio::time::timeout(Duration::from_secs(1), asked).await.unwrap().unwrap().unwrap().unwrap();
    assert_eq!(outcome.outcome, Outcome::Superseded);
    eventually("nothing is left of it", async || {
        (rig.nats[0].peers().is_empty() && rig.listeners() == before.listeners).then_some(())
    })
    .await;
    assert_eq!(rig.objects().await, before);
}
