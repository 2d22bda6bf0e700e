//! The ingress over real sockets: fake workloads behind it, hyper or bare bytes in front of it.

mod drain;
mod handover;
mod limits;
mod protocol;
mod requests;
mod support;
mod table;
