//! The operator's messages: lenient in, strict out. Pure.

mod client;
mod convert;
#[cfg(test)]
mod operator_decoder;
mod reply;
mod request;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use client::SeenHost;
pub(super) use client::encode_workload;
pub(crate) use reply::Reply;
pub(super) use reply::encode_heartbeat;
pub(crate) use request::Malformed;
pub(super) use request::{IdRequest, StartRequest};
