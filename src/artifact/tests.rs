//! Tests of pulls against a registry in this process.
