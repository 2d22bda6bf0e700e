//! Hands the command line to `cli` and its outcome to the process.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One provider for all of TLS. It fails only if there is one already, which then serves as well.
    let _one_is_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    washlet::cli::main()
}
