//! Static workloads through the real binary: what they import, how they fail to start, and how many run at once.

mod imports;
mod instances;
mod keyvalue;
mod language;
mod services;
mod start_errors;
