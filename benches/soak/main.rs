//! The soak: reloads under HTTP and NATS load, and a table of what came of them. `./scripts/soak` runs it.
//!
//! One washlet, a real nats-server, and this process, which loads both. First it measures how much the host serves, and
//! then asks for 70 % of that at a fixed rate. Blocks of edits take turns with quiet blocks of the same load, so that
//! what else the machine does falls on both. It ends with exit code 1 if a bar of the table is missed.
#![expect(
    clippy::disallowed_methods,
    reason = "the load has threads of its own, and the command line names the binary"
)]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::cast_precision_loss, reason = "counts of things on one machine stay far below 2^53")]
#![expect(clippy::panic, clippy::indexing_slicing, reason = "as in tests: it ends if it breaks")]
#![expect(clippy::cast_possible_truncation, reason = "figures that are counts")]

mod commands;
#[path = "../../tests/it/reload/edit.rs"]
mod edit;
mod edits;
#[path = "../../tests/it/reload/file.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod file;
mod load;
mod measure;
mod response;
mod session;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use more of it")]
mod support;
mod table;

use std::process::ExitCode;

/// Reloads, unless the command line says how many.
const RELOADS: usize = 1000;

fn main() -> ExitCode {
    // Cargo adds flags of its own.
    let said = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let reloads = said.map_or(RELOADS, |said| said.parse().expect("soak [RELOADS]: a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (table, process, nats) = runtime.block_on(session::soak(reloads));
    println!("{table}");
    // Fails over warnings that nobody expected.
    runtime.block_on(process.finish());
    drop(nats);
    let missed = table.missed();
    if missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("missed: {}", missed.join("; "));
    ExitCode::FAILURE
}
