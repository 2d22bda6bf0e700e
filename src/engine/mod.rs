//! To come.

pub(crate) mod ctx;
