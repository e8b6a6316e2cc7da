//! Who wants to know that something changed, within one process.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::feed::Changed;

/// What can be watched, each with how often it changed.
#[derive(Debug, Default)]
pub(crate) struct Changes(Mutex<BTreeMap<Changed, watch::Sender<u64>>>);

impl Changes {
    /// Watches it from now on.
    pub(crate) fn watch(&self, of: Changed) -> watch::Receiver<u64> {
        self.0.lock().entry(of).or_default().subscribe()
    }

    /// The same, and that it is watched is the first change.
    pub(crate) fn watch_at_once(&self, of: Changed) -> watch::Receiver<u64> {
        let mut receiver = self.watch(of);
        receiver.mark_changed();
        receiver
    }

    /// It changed.
    pub(crate) fn tell(&self, of: Changed) {
        if let Some(sender) = self.0.lock().get(&of) {
            raise(sender);
        }
    }

    /// Anything may have changed.
    pub(crate) fn tell_all(&self) {
        self.0.lock().values().for_each(raise);
    }
}

fn raise(sender: &watch::Sender<u64>) {
    sender.send_modify(|count| *count = count.wrapping_add(1));
}
