//! The configuration file, and what is edited in it: one kind of edit after the other, in one style after the other.

use crate::edit::{STYLES, Style};
use crate::file::workload;

/// What an edit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The environment of one workload.
    Workload,
    /// A setting of one plugin, whose backend is replaced.
    Plugin,
    /// Another plugin goes on or off.
    PluginSet,
    LogLevel,
    RequestTimeout,
    /// The listener moves to the other port.
    Listener,
    /// URL, user and password of the control plane.
    Scheduler,
    /// A comment: nothing changes.
    Comment,
    /// Nonsense.
    Invalid,
}

/// One round.
const ROUND: [Kind; 12] = [
    Kind::Workload,
    Kind::Plugin,
    Kind::LogLevel,
    Kind::Listener,
    Kind::Workload,
    Kind::Scheduler,
    Kind::Plugin,
    Kind::RequestTimeout,
    Kind::Comment,
    Kind::Workload,
    Kind::Invalid,
    Kind::PluginSet,
];

/// What becomes of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Applied,
    Unchanged,
    Rejected,
}

impl Expected {
    /// The message of the log line that says so.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Applied => "configuration applied",
            Self::Unchanged => "configuration unchanged",
            Self::Rejected => "configuration rejected",
        }
    }
}

impl Kind {
    /// Of the edit with this number.
    pub(crate) fn of(number: usize) -> Self {
        ROUND.get(number % ROUND.len()).copied().unwrap_or(Self::Workload)
    }

    pub(crate) fn expected(self) -> Expected {
        match self {
            Self::Comment => Expected::Unchanged,
            Self::Invalid => Expected::Rejected,
            _ => Expected::Applied,
        }
    }
}

/// In which style the edit with this number is made: over the rounds each kind is made in each.
pub(crate) fn style(number: usize) -> Style {
    STYLES.get((number + number / ROUND.len()) % STYLES.len()).copied().unwrap_or(Style::RenameOver)
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) ports: [u16; 2],
    pub(crate) admin_port: u16,
    /// Where NATS is, under two names, and who may log in.
    pub(crate) urls: [String; 2],
    pub(crate) logins: [(&'static str, &'static str); 2],
    /// Workloads that answer their name, and such that count; one more is edited.
    pub(crate) steady: u64,
    pub(crate) counters: u64,
    pub(crate) greeting: u64,
    number: usize,
    plugin: usize,
    has_config_plugin: bool,
    level: usize,
    request_timeout: usize,
    listener: usize,
    scheduler: usize,
    is_invalid: bool,
}

impl File {
    pub(crate) fn new(ports: [u16; 2], admin_port: u16, urls: [String; 2], counts: (u64, u64)) -> Self {
        Self {
            ports,
            admin_port,
            urls,
            logins: [("one", "the password of one"), ("two", "the password of two")],
            steady: counts.0,
            counters: counts.1,
            greeting: 0,
            number: 0,
            plugin: 0,
            has_config_plugin: false,
            level: 0,
            request_timeout: 30,
            listener: 0,
            scheduler: 0,
            is_invalid: false,
        }
    }

    /// The port of now, and the other one.
    pub(crate) fn port(&self) -> u16 {
        self.ports.get(self.listener % 2).copied().unwrap_or_default()
    }

    /// Makes an edit.
    pub(crate) fn edit(&mut self, number: usize, kind: Kind) {
        self.number = number;
        self.is_invalid = kind == Kind::Invalid;
        match kind {
            Kind::Workload => self.greeting += 1,
            Kind::Plugin => self.plugin += 1,
            Kind::PluginSet => self.has_config_plugin = !self.has_config_plugin,
            Kind::LogLevel => self.level += 1,
            Kind::RequestTimeout => self.request_timeout = 30 + (self.request_timeout + 1) % 30,
            Kind::Listener => self.listener += 1,
            Kind::Scheduler => self.scheduler += 1,
            Kind::Comment | Kind::Invalid => {}
        }
    }

    pub(crate) fn text(&self) -> String {
        let Self { number, plugin, level, admin_port, request_timeout, .. } = self;
        let [url, other_url] = &self.urls;
        let (one, two) = (self.logins.first(), self.logins.last());
        let is_even = self.scheduler.is_multiple_of(2);
        let (url, login) = if is_even { (url, one) } else { (other_url, two) };
        let (user, password) = login.copied().unwrap_or_default();
        let invalid = if self.is_invalid { "max_connections = \"many\"\n" } else { "" };
        let config_plugin = if self.has_config_plugin { "[plugins.wasi-config]\n" } else { "" };
        let mut text = format!(
            "# edit {number}\n[log]\nformat = \"json\"\nlevel = \"info,some_crate_{level}=debug\"\n\
             [admin]\nlisten = \"127.0.0.1:{admin_port}\"\n\
             [http]\nlisten = \"127.0.0.1:{}\"\nrequest_timeout = \"{request_timeout}s\"\n{invalid}\
             [nats.scheduler]\nurls = [\"{url}\"]\nuser = \"{user}\"\npassword = \"{password}\"\n\
             heartbeat_interval = \"1s\"\n\
             [plugins.wasi-keyvalue]\nallow_buckets = [\"default\", \"other-{plugin}\"]\n{config_plugin}",
            self.port(),
        );
        let greeter = |name: &str, greeting: &str| {
            workload(name, "hello.wasm", &format!("environment = {{ GREETING = \"{greeting}\" }}"))
        };
        text += &greeter("edited", &format!("edit {}", self.greeting));
        text.extend((0..self.steady).map(|i| greeter(&format!("steady-{i}"), &format!("steady {i}"))));
        text.extend((0..self.counters).map(|i| workload(&format!("counter-{i}"), "kv2.wasm", "")));
        text
    }
}
