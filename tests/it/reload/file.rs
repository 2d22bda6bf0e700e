//! Texts of configuration files, and where in them something is.

use std::fmt::Write as _;

use crate::support::LogLine;

/// A workload that answers its greeting to requests for its host.
#[derive(Debug, Clone)]
pub(super) struct Greeter {
    pub(super) name: String,
    pub(super) greeting: String,
}

impl Greeter {
    pub(super) fn new(name: &str, greeting: &str) -> Self {
        Self { name: name.to_owned(), greeting: greeting.to_owned() }
    }

    /// The `Host` it is routed by.
    pub(super) fn host(&self) -> String {
        format!("{}.test", self.name)
    }
}

/// What the tests edit.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) port: u16,
    pub(super) request_timeout: String,
    pub(super) level: String,
    /// Keys of `[host]`, line by line.
    pub(super) host: String,
    /// Whole tables, line by line.
    pub(super) tables: String,
    pub(super) greeters: Vec<Greeter>,
}

impl File {
    pub(super) fn new(port: u16) -> Self {
        Self {
            port,
            request_timeout: "30s".to_owned(),
            level: "info".to_owned(),
            host: String::new(),
            tables: String::new(),
            greeters: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: &str, greeting: &str) -> Self {
        self.greeters.push(Greeter::new(name, greeting));
        self
    }

    pub(super) fn text(&self) -> String {
        let Self { port, request_timeout, level, host, tables, greeters } = self;
        let mut text = format!(
            "[log]\nlevel = \"{level}\"\n[host]\n{host}[http]\nlisten = \"127.0.0.1:{port}\"\n\
             request_timeout = \"{request_timeout}\"\n{tables}",
        );
        for greeter in greeters {
            let environment = format!("environment = {{ GREETING = \"{}\" }}", greeter.greeting);
            let _infallible = write!(text, "{}", workload(&greeter.name, "hello.wasm", &environment));
        }
        text
    }
}

/// A workload of one component, routed by `NAME.test`; `more` are further keys of the component.
pub(super) fn workload(name: &str, image: &str, more: &str) -> String {
    let imported = match image {
        "kv2.wasm" => "{ interface = \"wasi:keyvalue/store,atomics,batch\" }",
        "conf-log.wasm" => "{ interface = \"wasi:config/store\" }, { interface = \"wasi:logging/logging\" }",
        "missing.wasm" => "{ interface = \"test:absent/thing\" }",
        _ => "",
    };
    format!(
        "[[workloads]]\nname = \"{name}\"\nhost_interfaces = [\n\
         {{ interface = \"wasi:http/incoming-handler\", config = {{ host = \"{name}.test\" }} }},\n{imported}]\n\
         [[workloads.components]]\nname = \"main\"\nimage = \"file:{image}\"\n{more}\n"
    )
}

/// `:LINE:COLUMN:` of the first `what` in `text`, as messages print it.
pub(super) fn place(text: &str, what: &str) -> String {
    let (before, _after) = text.split_once(what).unwrap_or_else(|| panic!("{what:?} is not in the text"));
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!(":{line}:{column}:")
}

/// The reason and the whole text of a rejection.
pub(super) fn rejection(line: &LogLine) -> (String, String) {
    let field = |name| line.field(name).unwrap_or_default();
    (field("reason"), field("error"))
}
