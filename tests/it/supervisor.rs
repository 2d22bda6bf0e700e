//! The protocol of sd_notify(3), over a real socket.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};

use tokio::net::UnixDatagram;

use crate::support::{PATIENCE, TestProcess};

const CONFIG: &str = "[log]\nformat = \"json\"\n[reload]\nwatch = false\npoll_interval = \"0s\"\n";

/// What the service manager is told next, but for the watchdog.
async fn told(manager: &UnixDatagram) -> String {
    loop {
        let text = next(manager).await;
        if text != "WATCHDOG=1" {
            return text;
        }
    }
}

async fn next(manager: &UnixDatagram) -> String {
    let mut text = [0; 1024];
    let length = tokio::time::timeout(PATIENCE, manager.recv(&mut text)).await.expect("nothing is said").unwrap();
    String::from_utf8(text[..length].to_vec()).unwrap()
}

/// A reload, from its first word to its last; what it came to.
async fn reload(manager: &UnixDatagram, asked_at: u64) -> String {
    let begins = told(manager).await;
    let usec = begins.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{begins}"));
    assert!(usec.parse::<u64>().unwrap() >= asked_at, "a manager ignores what was said before it asked");
    let ends = told(manager).await;
    ends.strip_prefix("READY=1\nSTATUS=").unwrap_or_else(|| panic!("{ends}")).to_owned()
}

/// In hundredths of a second, rounded down.
fn uptime_usec() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let (seconds, hundredths) = uptime.split_once(' ').unwrap().0.split_once('.').unwrap();
    seconds.parse::<u64>().unwrap() * 1_000_000 + hundredths.parse::<u64>().unwrap() * 10_000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_follows_start_reloads_and_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut process = TestProcess::builder(CONFIG).env("NOTIFY_SOCKET", path.to_str().unwrap()).start();
    assert_eq!(told(&manager).await, "READY=1\nSTATUS=generation 1 is live");

    process.rewrite_config(&format!("{CONFIG}[host]\ngroup = \"a\"\n"));
    let now = uptime_usec();
    process.sighup();
    assert_eq!(reload(&manager, now).await, "generation 2 is live");
    process.sighup();
    assert_eq!(reload(&manager, now).await, "generation 2 is live", "nothing is new, and that is said as well");

    process.allow_log("configuration rejected");
    process.rewrite_config("[host]\ngrupp = \"a\"\n");
    process.sighup();
    let status = reload(&manager, now).await;
    assert!(status.starts_with("generation 2 is live; the last reload was rejected: "), "{status}");
    assert!(status.contains("host.grupp: unknown key"), "{status}");

    process.sigterm();
    assert_eq!(told(&manager).await, "STOPPING=1\nSTATUS=draining");
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_is_fed_over_an_abstract_socket() {
    let name = format!("washlet-test-{}", uuid::Uuid::new_v4());
    let manager = StdDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_nonblocking(true).unwrap();
    let manager = UnixDatagram::from_std(manager).unwrap();
    let builder = TestProcess::builder(CONFIG).env("NOTIFY_SOCKET", &format!("@{name}"));
    let process = builder.env("WATCHDOG_USEC", "100000").start();
    let mut fed = 0;
    while fed < 3 {
        fed += u32::from(next(&manager).await == "WATCHDOG=1");
    }
    process.finish().await;
}
