//! Hands the command line to `cli` and its outcome to the process.

fn main() {}
