//! The ingress: takes HTTP connections, finds the workload of each request, and answers where no guest does.
//!
//! What runs here: one accept task per listening socket, one task per connection, which also runs the calls of an
//! HTTP/1 connection, and one task per HTTP/2 stream. A request loads the routing table once, clones one pointer from
//! it, and waits for nothing but its guest. A TLS handshake is part of its connection's task and holds up no other.
//! [`HttpRouter`] is told of routes by workloads; it outlives the [`HttpServer`]s, of which a reload to another address,
//! or one that keeps out who was let in before, runs two for a while.
//!
//! Absent on purpose: locks a request could wait for, a timer or span per request, upgrades and tunnels.

mod access;
mod activity;
mod authority;
mod body;
mod connection;
mod listener;
mod meter;
mod refusal;
mod router;
mod serve;
mod server;
mod settings;
mod shared;
mod socket;
mod table;
mod tls;

pub(crate) use meter::Totals;
pub(crate) use router::HttpRouter;
pub(crate) use server::{BoundListener, HttpServer};
pub(crate) use tls::Tls;

#[cfg(test)]
mod tests;
