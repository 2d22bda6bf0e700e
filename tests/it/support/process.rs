//! The real binary as a child process: configuration written by the test, log captured, signals, exit code.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::log::{Log, LogLine};
use super::wait::PATIENCE;

/// What is run, and with what: the defaults are those of [`TestProcess::start`].
#[derive(Debug)]
pub(crate) struct TestProcessBuilder {
    program: PathBuf,
    args: Option<Vec<String>>,
    env: Vec<(String, String)>,
    dir: TempDir,
}

impl TestProcessBuilder {
    /// Another program than washlet, for tests of this file.
    pub(crate) fn program(mut self, program: &str) -> Self {
        self.program = program.into();
        self
    }

    /// Arguments instead of `--config FILE`; `{dir}` stands for the process's directory.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        let dir = self.dir.path().display().to_string();
        self.args = Some(args.iter().map(|arg| arg.replace("{dir}", &dir)).collect());
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file beside the configuration.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file in the directory")).expect("a new directory");
        std::fs::write(path, content).expect("the file can be written");
        self
    }

    /// The directory it will run in.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it.
    pub(crate) fn start(self) -> TestProcess {
        let config = self.dir.path().join("washlet.toml");
        let args = self.args.unwrap_or_else(|| vec!["--config".to_owned(), config.display().to_string()]);
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.dir.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            let is_ours = ["WASHLET_", "WASH_", "WASMCLOUD_", "WASMTIME_", "NATS_"]
                .iter()
                .any(|prefix| name_text.starts_with(prefix));
            if is_ours || name_text == "RUST_LOG" || name_text == "DOCKER_CONFIG" {
                command.env_remove(&name);
            }
        }
        // Whoever runs the tests may have a docker configuration with credentials.
        command.env("HOME", self.dir.path()).envs(self.env);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {:?}: {error}", self.program));
        let (log, output) = (Log::new(), Log::new());
        let log_reader = tokio::spawn(read_lines(child.stderr.take().expect("piped"), log.clone()));
        let output_reader = tokio::spawn(read_lines(child.stdout.take().expect("piped"), output.clone()));
        let readers = async move { drop(tokio::join!(log_reader, output_reader)) };
        TestProcess {
            child,
            dir: self.dir,
            log,
            output,
            readers: Some(Box::pin(readers)),
            allowed: Vec::new(),
            mark: 0,
        }
    }
}

async fn read_lines(pipe: impl AsyncRead + Unpin, log: Log) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.push(LogLine::parse(&line));
    }
}

/// A running washlet. Dropped, it is killed; [`TestProcess::finish`] ends it in order and looks at its log.
pub(crate) struct TestProcess {
    child: Child,
    dir: TempDir,
    log: Log,
    output: Log,
    readers: Option<futures::future::BoxFuture<'static, ()>>,
    allowed: Vec<String>,
    mark: usize,
}

impl TestProcess {
    /// Starts washlet on a configuration file with this text. `[log] format = "json"` should be in it; without a
    /// terminal it is what `auto` means anyway.
    pub(crate) fn start(config: &str) -> Self {
        Self::builder(config).start()
    }

    /// As [`TestProcess::start`], for a test that needs more than a configuration.
    pub(crate) fn builder(config: &str) -> TestProcessBuilder {
        let dir = TempDir::with_prefix("washlet-test-").expect("a temporary directory");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_washlet"));
        TestProcessBuilder { program, args: None, env: Vec::new(), dir }.file("washlet.toml", config)
    }

    /// The directory of its configuration file.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("asked before its exit was awaited")
    }

    /// How much of its memory is in RAM now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let id = self.child.id().expect("asked before its exit was awaited");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a process of ours");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        kib.expect("Linux says VmRSS").parse::<u64>().expect("a number") * 1024
    }

    /// How many entries a folder of its `/proc` has: `fd`, `task`.
    pub(crate) fn entries_of(&self, folder: &str) -> usize {
        let id = self.child.id().expect("asked before its exit was awaited");
        std::fs::read_dir(format!("/proc/{id}/{folder}")).expect("a process of ours").count()
    }

    /// Replaces the configuration as editors do: a file beside it, renamed over it. Moves the mark.
    pub(crate) fn rewrite_config(&mut self, text: &str) {
        self.mark();
        self.rewrite_file("washlet.toml", text);
    }

    /// Replaces a file of its directory, by a rename.
    pub(crate) fn rewrite_file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.dir().join(name);
        let beside = self.dir().join(format!(".{name}.new"));
        std::fs::write(&beside, content).expect("the file can be written");
        std::fs::rename(beside, path).expect("the file can be renamed");
    }

    /// From now on [`TestProcess::wait_for_log`] looks at later lines only.
    pub(crate) fn mark(&mut self) {
        self.mark = self.log.len();
    }

    /// The first log line since the mark that `wanted` accepts, there or to come.
    pub(crate) async fn wait_for_log(&self, wanted: impl Fn(&LogLine) -> bool) -> LogLine {
        match tokio::time::timeout(PATIENCE, self.log.wait(self.mark, wanted)).await {
            Ok(line) => line,
            Err(_elapsed) => panic!("no such log line within {PATIENCE:?}; the log so far:\n{}", self.log.tail()),
        }
    }

    /// As [`TestProcess::wait_for_log`], for a line whose message is `message`.
    pub(crate) async fn wait_for_message(&self, message: &str) -> LogLine {
        let wait = self.log.wait(self.mark, |line| line.message() == message);
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(line) => line,
            Err(_elapsed) => panic!("no {message:?} within {PATIENCE:?}; the log so far:\n{}", self.log.tail()),
        }
    }

    /// As [`TestProcess::wait_for_log`], for a line that a guest wrote.
    pub(crate) async fn wait_for_output(&self, text: &str) -> LogLine {
        self.wait_for_log(|line| line.field("text").as_deref() == Some(text)).await
    }

    /// All log lines since the mark.
    pub(crate) fn log_lines(&self) -> Vec<LogLine> {
        self.log.lines(self.mark)
    }

    /// What it wrote to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.output.lines(0).iter().map(|line| format!("{line}\n")).collect()
    }

    /// What it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.log.lines(0).iter().map(|line| format!("{line}\n")).collect()
    }

    /// A warning or error containing `text` is part of the test.
    pub(crate) fn allow_log(&mut self, text: &str) {
        self.allowed.push(text.to_owned());
    }

    /// Asks it to reload. Moves the mark.
    pub(crate) fn sighup(&mut self) {
        self.mark();
        self.signal("HUP");
    }

    /// Asks it to end.
    pub(crate) fn sigterm(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal: `INT`, `TERM`, `HUP`, ...
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().expect("signalled before its exit was awaited").to_string();
        let status = std::process::Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status();
        assert!(status.expect("sh runs").success(), "cannot send SIG{name} to process {id}");
    }

    /// Kills it, as a machine that loses power would.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
        self.read_to_end().await;
    }

    /// Waits for its end, and for the last line of its log. `None`: a signal ended it.
    pub(crate) async fn wait_exit(&mut self) -> Option<i32> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = status else {
            panic!("it did not end within {PATIENCE:?}; the log so far:\n{}", self.log.tail());
        };
        self.read_to_end().await;
        status.expect("its exit can be awaited").code()
    }

    async fn read_to_end(&mut self) {
        if let Some(readers) = self.readers.take() {
            // A grandchild may hold the pipe open: then the end of the log is the end of our patience.
            tokio::time::timeout(PATIENCE, readers).await.expect("the pipes are closed when the process is gone");
        }
    }

    /// Ends it by SIGTERM if it still runs, expects exit code 0, and fails over log lines that nobody allowed.
    pub(crate) async fn finish(mut self) {
        if self.child.try_wait().expect("its exit can be asked for").is_none() {
            self.sigterm();
            assert_eq!(self.wait_exit().await, Some(0), "exit code after SIGTERM; the log:\n{}", self.log.tail());
        }
        self.read_to_end().await;
        let unexpected = self.log.unexpected(&self.allowed);
        let text: String = unexpected.iter().map(|line| format!("    {line}\n")).collect();
        assert!(unexpected.is_empty(), "unexpected lines in the log:\n{text}");
    }
}

impl Drop for TestProcess {
    #[expect(clippy::print_stderr, reason = "the test runner shows it with the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the washlet process:\n{}", self.log.tail());
        }
    }
}
