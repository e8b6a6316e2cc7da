//! When a server is told to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C, or for the signal that a supervisor sends.
pub(super) async fn until_stopped() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
