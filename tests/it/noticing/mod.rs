//! Files change in every way in which files do: what was written is live, nothing else is, and nothing is missed.

mod floods;
mod half_written;
mod mutants;
mod nothing;
mod pairs;
mod places;
mod referenced;
mod without_inotify;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use washlet::config::{self, FileInput, Sources};

use crate::support::{Dribble, LogLine, TestProcess, free_port, http, volume};

const APPLIED: &str = "configuration applied";
const UNCHANGED: &str = "configuration unchanged";

/// Changes of the file in each test; `WASHLET_TEST_SWAPS` makes a soak of them.
const SWAPS: usize = 25;

/// Leaves no instance of inotify in a user namespace of its own, then becomes the program.
const NO_INOTIFY: &str = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";

/// What a host notices changes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// inotify.
    Events,
    /// Comparing files, because the machine has no inotify to give.
    Stat,
}

/// How its file is put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// A file in a directory.
    Plain,
    /// A mounted ConfigMap.
    Volume,
}

/// A host whose file lies in a directory of its own, which may come and go.
struct Host {
    process: TestProcess,
    dir: TempDir,
    admin: u16,
    edits: usize,
}

impl Host {
    async fn start(by: By, layout: Layout) -> Self {
        let dir = TempDir::with_prefix("washlet-etc-").expect("a temporary directory");
        let admin = free_port();
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).expect("a new directory");
        match layout {
            Layout::Plain => fs::write(etc.join("washlet.toml"), text(admin, 0)).expect("the file can be written"),
            Layout::Volume => volume::swap(&etc, &[("washlet.toml", &text(admin, 0))]),
        }
        let path = etc.join("washlet.toml").display().to_string();
        let builder = TestProcess::builder("# This host has another file.\n");
        let builder = match by {
            By::Events => builder.args(&["--config", &path]),
            By::Stat => builder.program("unshare").args(&[
                "--user",
                "--map-root-user",
                "sh",
                "-c",
                NO_INOTIFY,
                env!("CARGO_BIN_EXE_washlet"),
                "--config",
                &path,
            ]),
        };
        let mut process = builder.start();
        if by == By::Stat {
            const FALLBACK: &str = "cannot watch directories through inotify: files are compared instead";
            process.allow_log(FALLBACK);
            process.wait_for_message(FALLBACK).await;
        }
        process.wait_for_message(APPLIED).await;
        process.mark();
        Self { process, dir, admin, edits: 0 }
    }

    /// Its directory.
    fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    /// Its file.
    fn path(&self) -> PathBuf {
        self.etc().join("washlet.toml")
    }

    /// A text that it did not have before.
    fn next_text(&mut self) -> String {
        self.edits += 1;
        self.process.mark();
        text(self.admin, self.edits)
    }

    /// Puts a new text into its file by `save`, and waits until that is live: by one attempt. Returns how long it took.
    async fn edit(&mut self, save: impl FnOnce(&Path, &str)) -> Duration {
        let text = self.next_text();
        save(&self.path(), &text);
        self.is_live_at_once(&text).await
    }

    /// As [`Host::edit`], by a slow writer: `pieces` is the text with a pause before each part.
    async fn edit_slowly(&mut self, how: Dribble, pieces: impl Fn(&str) -> Vec<(Duration, &[u8])>) -> Duration {
        /// After so long in the settling a host says that it waits in vain; a busy machine may take so long to write.
        const PATIENCE_OF_HOSTS: Duration = Duration::from_secs(9);
        let text = self.next_text();
        let begun = Instant::now();
        how.write(&self.path(), pieces(&text)).await;
        if begun.elapsed() < PATIENCE_OF_HOSTS {
            return self.is_live_at_once(&text).await;
        }
        self.process.allow_log("it did not hold still");
        let saved = Instant::now();
        self.shows(&text).await;
        let is_told =
            |line: &LogLine| line.message() == APPLIED || line.field("reason").as_deref() == Some("unsettled");
        assert!(self.attempts().iter().all(is_told), "{:?}", self.attempts());
        saved.elapsed()
    }

    async fn is_live_at_once(&self, text: &str) -> Duration {
        let saved = Instant::now();
        self.shows(text).await;
        let attempts = self.attempts();
        assert_eq!(attempts.len(), 1, "one attempt for one edit, {:?} ago: {attempts:?}", saved.elapsed());
        saved.elapsed()
    }

    /// Waits until `text` is live since the mark.
    async fn shows(&self, text: &str) {
        let hash = Some(file_hash(&self.path(), text));
        self.process.wait_for_log(|line| line.message() == APPLIED && line.field("file") == hash).await;
    }

    /// The lines about attempts since the mark.
    fn attempts(&self) -> Vec<LogLine> {
        let lines = self.process.log_lines();
        lines.into_iter().filter(|line| line.message().starts_with("configuration ")).collect()
    }

    async fn status(&self) -> Value {
        let answer = http::get(([127, 0, 0, 1], self.admin).into(), "admin", "/status").await;
        serde_json::from_str(answer.text()).expect("JSON")
    }

    /// How often it looked and found what it had.
    async fn checks(&self) -> u64 {
        let metrics = http::get(([127, 0, 0, 1], self.admin).into(), "admin", "/metrics").await;
        let count = metrics.text().lines().find_map(|line| line.strip_prefix("washlet_config_checks_total "));
        count.expect("a metric of every host").parse().expect("a number")
    }

    async fn finish(self) {
        self.process.finish().await;
    }
}

/// A file of some length, of which many a part is a file as well. Only events are noticed: it is not polled.
fn text(admin: u16, edit: usize) -> String {
    format!(
        "# Edit {edit}.\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\n\
         [reload]\npoll_interval = \"0s\"\n\n\
         [host]\ngroup = \"group-{edit}\"\nlabels = {{ edit = \"{edit}\", zone = \"a\" }}\n\n\
         [plugins.wasi-logging]\n\n[plugins.wasi-config]\n\n\
         [drain]\ntimeout = \"7s\"\n\n[limits]\nmemory = \"64MiB\"\n\n# The end of edit {edit}.\n"
    )
}

/// What the host will call this text.
fn file_hash(path: &Path, text: &str) -> String {
    let file = FileInput { path: path.to_owned(), bytes: text.as_bytes().to_vec() };
    let sources = Sources { file: Some(file), ..Sources::default() };
    config::load(&sources, &|path| fs::read(path)).expect("a valid text").file_hash
}

/// Longest and median.
fn figures(what: &str, mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let longest = took.last().copied().unwrap_or_default();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    format!("{what}: {} live, median {median:.0?}, longest {longest:.0?}", took.len())
}
