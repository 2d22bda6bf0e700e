//! The task that says "look again": directory events after a quiet moment, SIGHUP, and a slow poll.
//!
//! In: what to watch, on a watch channel held by the reload task; events from inotify's thread. Out: hints into the
//! reload task's queue, which is full only when an attempt follows anyway. It ends with the reload task.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error, warn};

use crate::config;
use crate::config::files::{FileStat, Snapshot, Writers};
use crate::reload::inbox::ReloadRequest;
use crate::reload::outcome::Trigger;
use crate::reload::status::{ReloadStatus, WatchMode};
use crate::reload::trigger::DirectoryWatch;
use crate::task::{self, panic_text};

/// Nothing for this long means that whoever writes is done.
const QUIET: Duration = Duration::from_millis(50);

/// How often a directory that is gone is looked for.
const GONE_RETRY: Duration = Duration::from_secs(1);

/// How often files are compared by their `stat` when inotify cannot be had.
const STAT_INTERVAL: Duration = Duration::from_secs(2);

/// What is watched, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Watched {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
    reload: config::Reload,
}

impl Watched {
    pub(super) fn new(snapshot: &Snapshot, reload: config::Reload) -> Self {
        let directories = snapshot.directories.clone();
        // Directories are stated as well: a swapped link changes the times of the directory that it is in.
        let files = directories.iter().chain(&snapshot.path).chain(snapshot.files.keys()).cloned().collect();
        Self { directories, files, reload }
    }
}

/// How changes are noticed now.
#[derive(Debug)]
enum Mode {
    Off,
    Events(Arc<DirectoryWatch>),
    Stat {
        known: Vec<Option<FileStat>>,
        /// Whether it differed lately: times tick slowly, and a second change within a tick shows in nothing.
        is_fresh: bool,
    },
}

/// Spawned by the reload task.
#[derive(Debug)]
pub(super) struct HintsTask {
    hints_tx: mpsc::WeakSender<ReloadRequest>,
    watched_rx: watch::Receiver<Watched>,
    status_tx: watch::Sender<ReloadStatus>,
    writers: Writers,
    poll_seed: String,
    /// Tests show that all works without.
    pub(super) tries_inotify: bool,
    mode: Mode,
    warned: bool,
}

impl HintsTask {
    /// The task, and where to say what it is to watch.
    pub(super) fn new(
        hints_tx: mpsc::WeakSender<ReloadRequest>,
        writers: Writers,
        poll_seed: String,
        status_tx: watch::Sender<ReloadStatus>,
    ) -> (watch::Sender<Watched>, Self) {
        // Nothing is polled before a configuration says how often: it may say never.
        let reload = config::Reload { poll_interval: None, ..config::Reload::default() };
        let (watched_tx, watched_rx) = watch::channel(Watched { reload, ..Watched::default() });
        let (tries_inotify, mode, warned) = (true, Mode::Off, false);
        (watched_tx, Self { hints_tx, watched_rx, status_tx, writers, poll_seed, tries_inotify, mode, warned })
    }

    /// Until the reload task has ended. A panic is logged, and it starts over: without hints nothing would be noticed.
    pub(super) async fn run(mut self, mut hangup: Option<Signal>) {
        while let Err(panic) = AssertUnwindSafe(self.watch(&mut hangup)).catch_unwind().await {
            error!(panic = panic_text(&*panic), "watching the configuration panicked, watching again");
            tokio::time::sleep(GONE_RETRY).await;
        }
    }

    async fn watch(&mut self, hangup: &mut Option<Signal>) {
        let (events_tx, mut events_rx) = mpsc::channel(1);
        let mut watched = self.watched_rx.borrow_and_update().clone();
        let mut poll_at = self.first_poll(&watched);
        self.arm(&watched, &events_tx).await;
        loop {
            let look_at = self.next_look();
            // Each arm may be dropped: all four only wait. The channel of events cannot end, one end is held here.
            let trigger = tokio::select! {
                changed = self.watched_rx.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let new = self.watched_rx.borrow_and_update().clone();
                    if new.reload.poll_interval != watched.reload.poll_interval {
                        poll_at = self.first_poll(&new);
                    }
                    watched = new;
                    self.arm(&watched, &events_tx).await
                }
                _event = events_rx.recv() => {
                    quiet(&mut events_rx, watched.reload.debounce).await;
                    self.look(&watched, &events_tx).await;
                    Some(Trigger::Watch)
                }
                () = hung_up(hangup) => Some(Trigger::Sighup),
                () = sleep_until(poll_at) => {
                    poll_at = watched.reload.poll_interval.map(|interval| Instant::now() + interval);
                    self.look(&watched, &events_tx).await;
                    Some(Trigger::Poll)
                }
                () = sleep_until(look_at) => self.look(&watched, &events_tx).await,
            };
            if trigger.is_some_and(|trigger| !self.hint(trigger)) {
                return;
            }
        }
    }

    /// Watches what is to be watched, says how, and to look again: something may have changed before it was armed.
    async fn arm(&mut self, watched: &Watched, events_tx: &mpsc::Sender<()>) -> Option<Trigger> {
        let trigger = self.arm_anew(watched, events_tx).await;
        let mode = match &self.mode {
            Mode::Off => WatchMode::Off,
            Mode::Events(_) => WatchMode::Inotify,
            Mode::Stat { .. } => WatchMode::Poll,
        };
        self.status_tx.send_if_modified(|status| std::mem::replace(&mut status.watch_mode, mode) != mode);
        trigger
    }

    async fn arm_anew(&mut self, watched: &Watched, events_tx: &mpsc::Sender<()>) -> Option<Trigger> {
        if !watched.reload.watch || watched.directories.is_empty() {
            self.mode = Mode::Off;
            self.writers.forget(false);
            return None;
        }
        if self.tries_inotify {
            let is_first = !matches!(&self.mode, Mode::Events(watch) if watch.is_whole());
            let (directories, events_tx) = (watched.directories.clone(), events_tx.clone());
            let writers = self.writers.clone();
            match task::blocking("arm watch", move || DirectoryWatch::arm(&directories, events_tx, writers)).await {
                Some(Ok(watch)) => {
                    self.writers.watched_by(is_first, watch.catch_up());
                    self.mode = Mode::Events(Arc::new(watch));
                    return Some(Trigger::Watch);
                }
                Some(Err(error)) if !self.warned => {
                    let every_s = STAT_INTERVAL.as_secs();
                    warn!(%error, every_s, "cannot watch directories through inotify: files are compared instead");
                    self.warned = true;
                }
                Some(Err(_)) | None => {}
            }
        }
        self.writers.forget(true);
        self.mode = Mode::Stat { known: stats(watched.files.clone()).await, is_fresh: true };
        Some(Trigger::Watch)
    }

    /// When to look whether what is watched is still there, if no event will tell.
    fn next_look(&self) -> Option<Instant> {
        match &self.mode {
            Mode::Off => None,
            Mode::Events(watch) => (!watch.is_complete()).then(|| Instant::now() + GONE_RETRY),
            Mode::Stat { .. } => Some(Instant::now() + STAT_INTERVAL),
        }
    }

    /// Arms again what went or came; a hint if there was any such thing.
    async fn look(&mut self, watched: &Watched, events_tx: &mpsc::Sender<()>) -> Option<Trigger> {
        match &mut self.mode {
            Mode::Off => None,
            Mode::Events(watch) => {
                let watch = Arc::clone(watch);
                let is_current = task::blocking("check watch", move || watch.is_current()).await;
                if is_current == Some(true) {
                    return None;
                }
                debug!("a watched directory came or went: watching again");
                self.arm(watched, events_tx).await
            }
            Mode::Stat { known, is_fresh } => {
                let now = stats(watched.files.clone()).await;
                let differs = *known != now;
                *known = now;
                let was_fresh = std::mem::replace(is_fresh, differs);
                (differs || was_fresh).then_some(Trigger::Watch)
            }
        }
    }

    /// `false` if nobody is left to take it.
    fn hint(&self, trigger: Trigger) -> bool {
        let Some(hints_tx) = self.hints_tx.upgrade() else { return false };
        match hints_tx.try_send(ReloadRequest { trigger, answer_tx: None }) {
            // Full: what fills it leads to an attempt that reads after this.
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Somewhere within the interval, by the host: a fleet that starts together does not read together.
    fn first_poll(&self, watched: &Watched) -> Option<Instant> {
        let interval = watched.reload.poll_interval?;
        Some(Instant::now() + phase(&self.poll_seed, interval))
    }
}

/// SIGHUP as a stream: from now on it no longer ends the process.
pub(super) fn hangup() -> Option<Signal> {
    signal(SignalKind::hangup()).inspect_err(|error| warn!(%error, "cannot listen for SIGHUP")).ok()
}

fn phase(seed: &str, interval: Duration) -> Duration {
    let digest = Sha256::digest(seed.as_bytes());
    let share = digest.iter().take(2).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    interval * share / (u32::from(u16::MAX) + 1)
}

/// Waits until nothing happened for a moment, but no longer than `debounce`: a noisy neighbour delays, never starves.
async fn quiet(events_rx: &mut mpsc::Receiver<()>, debounce: Duration) {
    let end = Instant::now() + debounce;
    while Instant::now() < end {
        let pause = (Instant::now() + QUIET).min(end);
        if !matches!(timeout_at(pause, events_rx.recv()).await, Ok(Some(()))) {
            return;
        }
    }
}

async fn stats(paths: Vec<PathBuf>) -> Vec<Option<FileStat>> {
    let stats = move || paths.iter().map(|path| FileStat::of(path).ok()).collect();
    task::blocking("compare files", stats).await.unwrap_or_default()
}

async fn hung_up(hangup: &mut Option<Signal>) {
    if let Some(signal) = hangup
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_starts_together_polls_spread_over_the_interval() {
        let mut hosts_in_second = [0; 30];
        for host in 0..100 {
            let phase = phase(&format!("host-{host}"), Duration::from_secs(30));
            hosts_in_second[usize::try_from(phase.as_secs()).unwrap()] += 1;
        }
        assert!(hosts_in_second.iter().all(|hosts| *hosts <= 10), "{hosts_in_second:?}");
    }
}
