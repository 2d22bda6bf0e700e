//! A standalone washlet that runs workloads made of the fixtures, described in a few lines.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::http::{self, Answer, Body};
use super::process::TestProcess;

/// The file of a fixture, as the image of a component.
pub(crate) fn fixture(name: &str) -> String {
    let file = if name.contains('/') { name.to_owned() } else { format!("{name}/{name}.wasm") };
    format!("file:{}/tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// One workload of the file, of one component with its name.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    name: String,
    image: String,
    binding: Vec<(String, String)>,
    interfaces: Vec<String>,
    keys: String,
}

impl Workload {
    /// The guest `fixture` under the host name `NAME.test`.
    pub(crate) fn new(name: &str, fixture_name: &str) -> Self {
        Self::of_image(name, &fixture(fixture_name))
    }

    /// As [`Workload::new`], from anywhere.
    pub(crate) fn of_image(name: &str, image: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            binding: vec![("host".to_owned(), format!("{name}.test"))],
            interfaces: Vec::new(),
            keys: String::new(),
        }
    }

    /// Sets `host`, `host-aliases` or `path` of its `wasi:http` entry; an empty value removes it.
    pub(crate) fn binding(mut self, key: &str, value: &str) -> Self {
        self.binding.retain(|(other, _)| other != key);
        if !value.is_empty() {
            self.binding.push((key.to_owned(), value.to_owned()));
        }
        self
    }

    /// A further interface that it wants served.
    pub(crate) fn interface(mut self, interface: &str) -> Self {
        self.interfaces.push(interface.to_owned());
        self
    }

    /// A key of its component, as a line of TOML.
    pub(crate) fn key(mut self, line: &str) -> Self {
        self.keys.push_str(line);
        self.keys.push('\n');
        self
    }

    fn write(&self, text: &mut String) {
        let binding: Vec<String> = self.binding.iter().map(|(key, value)| format!("{key} = {value:?}")).collect();
        let mut entries =
            vec![format!("{{ interface = \"wasi:http/incoming-handler\", config = {{ {} }} }}", binding.join(", "))];
        entries.extend(self.interfaces.iter().map(|interface| format!("{{ interface = {interface:?} }}")));
        write!(
            text,
            "\n[[workloads]]\nname = {:?}\nhost_interfaces = [{}]\n[[workloads.components]]\nname = {:?}\nimage = {:?}\n{}",
            self.name,
            entries.join(", "),
            self.name,
            self.image,
            self.keys,
        )
        .expect("writing to a string");
    }
}

/// The whole file: `settings` are lines of TOML with whole paths as keys (`limits.memory = "64MiB"`).
pub(crate) fn config(settings: &str, workloads: &[Workload]) -> String {
    let mut text = format!("http.listen = \"127.0.0.1:0\"\n{settings}\n");
    for workload in workloads {
        workload.write(&mut text);
    }
    text
}

/// A washlet without a control plane, taking requests.
pub(crate) struct Standalone {
    pub(crate) process: TestProcess,
    pub(crate) addr: SocketAddr,
}

impl Standalone {
    /// Starts it and waits until the file is applied; workloads that do not start hold nothing up.
    pub(crate) async fn start(settings: &str, workloads: &[Workload]) -> Self {
        let process = TestProcess::start(&config(settings, workloads));
        let listening = process.wait_for_message("listening for HTTP").await;
        let addr = listening.field("http.listen").expect("the line says where").parse().expect("an address");
        process.wait_for_message("configuration applied").await;
        Self { process, addr }
    }

    /// `GET` on a connection of its own.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Answer {
        http::get(self.addr, host, path).await
    }

    /// Any method, with a body, on a connection of its own.
    pub(crate) async fn send(&self, method: &str, host: &str, path: &str, body: Body) -> Answer {
        http::send(self.addr, http::request(method, host, path, body)).await
    }

    /// Ends it; fails over an unexpected warning.
    pub(crate) async fn finish(self) {
        self.process.finish().await;
    }
}
