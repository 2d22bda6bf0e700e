//! Files that are broken at random never break the host.
