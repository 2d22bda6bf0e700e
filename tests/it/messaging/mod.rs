//! Messages: between components, over NATS, and while both are reloaded.

mod live;
mod memory;
mod nats;
mod streams;

use crate::support::{NatsServer, Workload};

/// A guest that does what messages say, and subscribes to this; further keys of its `config` as TOML.
fn messages(name: &str, subscriptions: &str, more: &str) -> Workload {
    Workload::new(name, "msg2")
        .interface("wasmcloud:messaging/consumer,handler@0.2.0")
        .key(&format!("config = {{ subscriptions = \"{subscriptions}\"{more} }}"))
}

/// Messages over this server.
fn over(server: &NatsServer) -> String {
    format!("nats.data.urls = [\"{}\"]\nplugins.wasmcloud-messaging = {{ backend = \"nats\" }}\n", server.url())
}
