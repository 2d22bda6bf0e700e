//! HTTP through the real binary: what guests see and answer, routing, streaming, and what a failing guest looks like.

mod failing;
mod isolation;
mod requests;
mod routing;
mod streaming;
