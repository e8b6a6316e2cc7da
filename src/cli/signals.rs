//! When a server is told to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C, or for the signal that a supervisor sends.
pub(super) async fn until_stopped() -> io::Result<()> {
    stop()?.await;
    Ok(())
}

/// The same; from this call on, and not only once it is waited for, neither ends the process at once.
pub(super) fn stop() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
