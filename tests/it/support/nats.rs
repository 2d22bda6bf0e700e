//! A nats-server of the test's own, to be stopped and restarted, and a client that speaks JSON.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::server;
use super::wait::{PATIENCE, eventually, free_port};

/// A configuration with which a server keeps streams, and so buckets.
pub(crate) const JETSTREAM: &str = "jetstream { store_dir: \"{dir}/jetstream\" }\n";

/// A server on a port that stays the same over restarts.
#[derive(Debug)]
pub(crate) struct NatsServer {
    port: u16,
    dir: TempDir,
    child: Option<Child>,
}

impl NatsServer {
    /// A server with this configuration text (empty: no authentication), up and answering. `{dir}` stands for a
    /// directory of its own.
    pub(crate) async fn start(config: &str) -> Self {
        let mut server = Self::down(config);
        server.up().await;
        server
    }

    /// As [`NatsServer::start`], not yet up: its URL refuses connections until [`NatsServer::up`].
    pub(crate) fn down(config: &str) -> Self {
        let dir = TempDir::with_prefix("washlet-nats-").expect("a temporary directory");
        let config = config.replace("{dir}", &dir.path().display().to_string());
        std::fs::write(dir.path().join("nats.conf"), config).expect("the file can be written");
        Self { port: free_port(), dir, child: None }
    }

    /// Starts it, again or for the first time, and waits until it is ready.
    pub(crate) async fn up(&mut self) {
        let dir = self.dir.path();
        let log = std::fs::File::create(dir.join("log")).expect("a log file");
        let mut command = Command::new(server("WASHLET_TEST_NATS_SERVER"));
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "--ports_file_dir"]).arg(dir);
        command.arg("-c").arg(dir.join("nats.conf")).kill_on_drop(true);
        command.stdout(std::process::Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("nats-server starts");
        // It writes the ports file once it accepts connections.
        let ports = self.ports_file(child.id().expect("it was not awaited"));
        eventually("nats-server is ready", PATIENCE, async || {
            let ended = child.try_wait().expect("its exit can be asked for");
            assert!(ended.is_none(), "nats-server ended at once: {}", self.log());
            let is_written = std::fs::read(&ports).is_ok_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok());
            is_written.then_some(())
        })
        .await;
        self.child = Some(child);
    }

    fn ports_file(&self, process: u32) -> PathBuf {
        let name = std::path::Path::new(&server("WASHLET_TEST_NATS_SERVER"))
            .file_name()
            .expect("the path of a program")
            .to_string_lossy()
            .into_owned();
        self.dir.path().join(format!("{name}_{process}.ports"))
    }

    /// What the server says about itself.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Kills it: clients see their connections break.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("nats-server can be killed");
        }
    }

    /// Stops it and starts it on the same port.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.up().await;
    }

    /// It goes on holding its connections and says nothing, as behind a network that lost its way. Until it is killed.
    pub(crate) fn freeze(&self) {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs").to_string();
        let status = std::process::Command::new("sh").args(["-c", "kill -s STOP \"$0\"", &id]).status();
        assert!(status.expect("sh runs").success(), "cannot stop nats-server {id}");
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A client of it, without authentication.
    pub(crate) async fn client(&self) -> NatsClient {
        self.client_with(async_nats::ConnectOptions::new()).await
    }

    /// A client of it that connects in a way of its own.
    pub(crate) async fn client_with(&self, options: async_nats::ConnectOptions) -> NatsClient {
        NatsClient { client: options.connect(self.url()).await.expect("the test's own client connects") }
    }
}

/// What an operator is to a host: requests and subscriptions, in JSON.
#[derive(Debug, Clone)]
pub(crate) struct NatsClient {
    client: async_nats::Client,
}

impl NatsClient {
    /// The answer to `request`; fails the test if there is none.
    pub(crate) async fn request(&self, subject: &str, request: &Value) -> Value {
        self.request_bytes(subject, request.to_string().into_bytes()).await
    }

    /// As [`NatsClient::request`], for a request that is not JSON.
    pub(crate) async fn request_bytes(&self, subject: &str, request: impl Into<Bytes>) -> Value {
        match self.try_request(subject, request, PATIENCE).await {
            Ok(answer) => serde_json::from_slice(&answer)
                .unwrap_or_else(|error| panic!("the answer on {subject} is not JSON: {error}: {answer:?}")),
            Err(kind) => panic!("no answer on {subject}: {kind}"),
        }
    }

    /// The answer, or why there is none: [`RequestErrorKind::NoResponders`] comes at once.
    pub(crate) async fn try_request(
        &self,
        subject: &str,
        request: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Bytes, RequestErrorKind> {
        let request = async_nats::Request::new().payload(request.into()).timeout(Some(timeout));
        match self.client.send_request(subject.to_owned(), request).await {
            Ok(message) => Ok(message.payload),
            Err(error) => Err(error.kind()),
        }
    }

    /// Publishes, and waits until the server has it.
    pub(crate) async fn publish(&self, subject: &str, payload: impl Into<Bytes>) {
        self.client.publish(subject.to_owned(), payload.into()).await.expect("the client is connected");
        self.client.flush().await.expect("the client is connected");
    }

    /// What is published on `subject` (wildcards allowed) from now on.
    pub(crate) async fn subscribe(&self, subject: &str) -> NatsSubscription {
        let subscriber = self.client.subscribe(subject.to_owned()).await.expect("the client is connected");
        self.client.flush().await.expect("the client is connected");
        NatsSubscription { subscriber }
    }
}

/// Messages as they come.
#[derive(Debug)]
pub(crate) struct NatsSubscription {
    subscriber: async_nats::Subscriber,
}

impl NatsSubscription {
    /// All messages to come.
    pub(crate) fn into_messages(self) -> async_nats::Subscriber {
        self.subscriber
    }

    /// Subject and content of the next message; fails the test if none comes within `timeout`.
    pub(crate) async fn next(&mut self, timeout: Duration) -> (String, Value) {
        let message = self.next_message(timeout).await;
        let value = serde_json::from_slice(&message.payload).expect("a message in JSON");
        (message.subject.to_string(), value)
    }

    /// As [`NatsSubscription::next`], with its reply subject and its bytes as they are.
    pub(crate) async fn next_message(&mut self, timeout: Duration) -> async_nats::Message {
        let message = tokio::time::timeout(timeout, self.subscriber.next()).await;
        message.expect("a message in time").expect("the subscription lives as long as its client")
    }

    /// The next message, if one comes within `timeout`.
    pub(crate) async fn try_next(
        &mut self,
        timeout: Duration,
    ) -> Result<async_nats::Message, tokio::time::error::Elapsed> {
        let message = tokio::time::timeout(timeout, self.subscriber.next()).await?;
        Ok(message.expect("the subscription lives as long as its client"))
    }
}
