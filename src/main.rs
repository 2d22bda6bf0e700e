//! Hands the command line to `cli` and its outcome to the process.

fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let path = std::env::args().nth(2).map(Into::into);
    let r = washlet::daemon::run(washlet::daemon::Launch { config_path: path, flags: vec![] });
    println!("{r:?}");
}
