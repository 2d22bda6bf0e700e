//! A cluster host: a host that the operator places workloads on.

pub(crate) mod placed;
pub(crate) mod resume;
