//! The operator's messages: lenient in, strict out. Pure.

mod convert;
#[cfg(test)]
mod operator_decoder;
mod reply;
mod request;
#[cfg(test)]
mod tests;
mod value;

pub(super) use reply::{Reply, encode_heartbeat};
pub(super) use request::{IdRequest, Malformed, StartRequest};
