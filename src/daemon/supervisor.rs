//! Tells the service manager how the process is, in the protocol of sd_notify(3).
//!
//! Ready is said with the first configuration, and again behind each reload that was said to begin; the watchdog is
//! fed only while the tasks that must never stop are heard of.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::config::env::Supervisor;
use crate::reload::{Outcome, ReloadStatus, Reloader};

/// In a status line; more is in the log.
const STATUS_CHARS_MAX: usize = 300;

/// Where the service manager listens.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
    has_warned: AtomicBool,
}

impl Notifier {
    /// `None` if nobody wants to be told, or nobody can be.
    pub(super) fn new(supervisor: Option<Supervisor>) -> Option<Self> {
        let Supervisor { socket: name, watchdog } = supervisor?;
        let open = || -> io::Result<(UnixDatagram, SocketAddr)> {
            let socket = UnixDatagram::unbound()?;
            // A service manager that does not read is no reason to wait.
            socket.set_nonblocking(true)?;
            Ok((socket, address_of(&name)?))
        };
        match open() {
            Ok((socket, address)) => Some(Self { socket, address, watchdog, has_warned: AtomicBool::new(false) }),
            Err(error) => {
                warn!(socket = %name, %error, "the service manager cannot be told: see NOTIFY_SOCKET");
                None
            }
        }
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=draining");
    }

    fn send(&self, state: &str) {
        if let Err(error) = self.socket.send_to_addr(state.as_bytes(), &self.address)
            && !self.has_warned.swap(true, Ordering::Relaxed)
        {
            warn!(%error, "the service manager could not be told");
        }
    }
}

/// Until it is dropped.
pub(super) async fn tell(notifier: Arc<Notifier>, reloader: Reloader, is_well: impl Fn() -> bool + Send) {
    let mut status_rx = reloader.status();
    let mut said = Said::default();
    let every = notifier.watchdog.map(|watchdog| watchdog / 2);
    // A time of its own: however often something else happens, the watchdog is fed when it is due.
    let mut due = every.map(|every| Instant::now() + every);
    loop {
        let texts = said.next(&status_rx.borrow_and_update(), &reloader);
        texts.iter().for_each(|text| notifier.send(text));
        // Both arms only wait. The channel ends with the reload task, and the watchdog is fed until the process ends.
        tokio::select! {
            changed = status_rx.changed() => {
                if changed.is_err() {
                    break;
                }
            }
            () = until(due) => due = feed(&notifier, &is_well, every),
        }
    }
    loop {
        until(due).await;
        due = feed(&notifier, &is_well, every);
    }
}

/// Says when the next time is due.
fn feed(notifier: &Notifier, is_well: &impl Fn() -> bool, every: Option<Duration>) -> Option<Instant> {
    if is_well() {
        notifier.send("WATCHDOG=1");
    }
    every.map(|every| Instant::now() + every)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What was said so far.
#[derive(Debug, Default)]
struct Said {
    is_ready: bool,
    /// How many reloads were said to begin.
    begun: u64,
    is_reloading: bool,
    /// The last attempt that was told.
    attempt: u64,
}

impl Said {
    /// What is to be said of `status`. One that was missed because the next came at once is made up for: a manager that
    /// sent SIGHUP waits for both words.
    fn next(&mut self, status: &ReloadStatus, reloader: &Reloader) -> Vec<String> {
        let Some(last) = status.attempts.back() else { return Vec::new() };
        let mut texts = Vec::new();
        if !self.is_ready {
            if !status.attempts.iter().any(|attempt| attempt.outcome == Outcome::Applied) {
                return texts;
            }
            // The start is no reload.
            (self.begun, self.is_reloading, self.is_ready) = (1, true, true);
        }
        if status.begun > self.begun {
            self.begun = status.begun;
            self.is_reloading = true;
            texts.push(reloading());
        }
        if self.is_reloading && !status.is_under_way {
            self.is_reloading = false;
            self.attempt = last.n;
            texts.push(format!("READY=1\nSTATUS={}", text_of(status, reloader)));
        } else if self.attempt != last.n {
            self.attempt = last.n;
            texts.push(format!("STATUS={}", text_of(status, reloader)));
        }
        texts
    }
}

fn reloading() -> String {
    match monotonic_usec() {
        Some(usec) => format!("RELOADING=1\nMONOTONIC_USEC={usec}"),
        None => "RELOADING=1".to_owned(),
    }
}

/// One line for people.
fn text_of(status: &ReloadStatus, reloader: &Reloader) -> String {
    let mut text = format!("generation {} is live", reloader.live().borrow().generation.get());
    if let Some(rejection) = status.attempts.back().and_then(|last| last.rejection.as_ref()) {
        text += "; the last reload was rejected: ";
        text += rejection.errors.first().map_or(rejection.reason.as_str(), |fault| fault.line.as_str());
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_CHARS_MAX).collect()
}

fn address_of(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if name.starts_with('/') => SocketAddr::from_pathname(name),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "expected an absolute path, or `@` and a name")),
    }
}

/// `CLOCK_MONOTONIC` in microseconds. The standard library reads this clock and shows it nowhere but in `Debug`; a form
/// that is not known is no number, and a test fails.
fn monotonic_usec() -> Option<u64> {
    let text = format!("{:?}", std::time::Instant::now());
    let number_behind = |name: &str| -> Option<u64> {
        let (_, rest) = text.split_once(name)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let (seconds, nanos) = (number_behind("tv_sec: ")?, number_behind("tv_nsec: ")?);
    seconds.checked_mul(1_000_000)?.checked_add(nanos / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_can_be_read_and_is_that_of_the_machine() {
        let uptime =
            || std::fs::read_to_string("/proc/uptime").unwrap().split_once(' ').unwrap().0.parse::<f64>().unwrap();
        let usec = monotonic_usec().unwrap();
        // The uptime counts time asleep as well, and is told in hundredths.
        assert!(Duration::from_micros(usec).as_secs_f64() <= uptime() + 0.01, "{usec}");
        assert!(monotonic_usec().unwrap() >= usec && usec > 0);
    }

    #[test]
    fn the_watchdog_is_fed_only_while_all_is_well() {
        let name = format!("@washlet-test-{}", uuid::Uuid::new_v4());
        let manager = UnixDatagram::bind_addr(&address_of(&name).unwrap()).unwrap();
        manager.set_nonblocking(true).unwrap();
        let supervisor = Supervisor { socket: name, watchdog: Some(Duration::from_secs(1)) };
        let notifier = Notifier::new(Some(supervisor)).unwrap();
        let mut text = [0; 64];
        feed(&notifier, &|| false, None);
        assert_eq!(manager.recv(&mut text).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        feed(&notifier, &|| true, None);
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"WATCHDOG=1");
    }

    #[test]
    fn addresses_are_paths_or_abstract_names() {
        assert_eq!(address_of("/run/notify").unwrap().as_pathname(), Some(std::path::Path::new("/run/notify")));
        assert_eq!(address_of("@a/b").unwrap().as_abstract_name(), Some(&b"a/b"[..]));
        assert!(address_of("vsock:2:1").is_err() && address_of("relative").is_err());
    }
}
