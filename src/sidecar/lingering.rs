//! What was let in by an answer that has no end: it counts as running until the longest request is over.
//!
//! DRAINED means that nothing runs on a dead credential any more. Whoever asks once and never says that its request is over has
//! its time taken for the end: not before it has passed does the sidecar let whoever waits for DRAINED go.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::verifier::Admission;

/// By the credential's `jti`: of one credential one admission stands for all, since all die at once.
pub(super) struct Lingering {
    longest: Duration,
    most: usize,
    running: Mutex<Running>,
    added: Notify,
}

#[derive(Default)]
struct Running {
    by_credential: HashMap<[u8; 16], (Admission, Instant)>,
    by_end: BTreeSet<(Instant, [u8; 16])>,
}

/// There is no room for another credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Lingering {
    pub(super) fn new(longest: Duration, most: usize) -> Self {
        Self { longest, most, running: Mutex::default(), added: Notify::new() }
    }

    /// Takes something to run from now on for as long as a request can.
    // INVARIANT (never too early): the admission that is kept lasts at least as long as the one that goes; what there is no room
    // for is not let in, instead of being forgotten.
    pub(super) fn keep(&self, admission: Admission) -> Result<(), Full> {
        let until = Instant::now() + self.longest;
        let id = admission.credential().jti();
        let mut running = self.running.lock();
        if let Some((_, end)) = running.by_credential.get_mut(&id) {
            let before = std::mem::replace(end, until);
            running.by_end.remove(&(before, id));
        } else if running.by_credential.len() >= self.most {
            return Err(Full);
        } else {
            running.by_credential.insert(id, (admission, until));
        }
        running.by_end.insert((until, id));
        drop(running);
        self.added.notify_one();
        Ok(())
    }

    /// Ends what is over, for as long as it is polled.
    pub(super) async fn sweep(&self) {
        loop {
            let next = self.end_until(Instant::now());
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => self.added.notified().await,
            }
        }
    }

    /// Of how many credentials something may run.
    pub(super) fn len(&self) -> usize {
        self.running.lock().by_credential.len()
    }

    /// When the next one is over.
    fn end_until(&self, now: Instant) -> Option<Instant> {
        let mut running = self.running.lock();
        while let Some((end, id)) = running.by_end.first().copied() {
            if end > now {
                return Some(end);
            }
            running.by_end.pop_first();
            running.by_credential.remove(&id);
        }
        None
    }
}
