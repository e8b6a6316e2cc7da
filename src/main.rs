//! The `leasehold` program.

use std::process::ExitCode;

use clap::Parser;
use leasehold::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another crypto provider is installed in this process");
        return ExitCode::FAILURE;
    }
    Cli::parse().run().await
}
