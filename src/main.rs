//! The `leasehold` program.

use std::process::ExitCode;

use leasehold::cli::Cli;
use mimalloc::MiMalloc;

/// What one thread takes another gives back, in every call: the system's allocator spends a fifth of a call on that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another crypto provider is installed in this process");
        return ExitCode::FAILURE;
    }
    match Cli::of_arguments() {
        Ok(cli) => cli.run().await,
        Err(code) => code,
    }
}
