//! What was let in and still runs: to be told when its credential dies, and to know when nothing runs any more on a dead one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::credential::Credential;
use super::mirror::Mirror;
use super::view::View;
use crate::domain::id::Partition;
use crate::domain::lattice::Dead;
use crate::domain::path::Origin;

/// Something was let in on a credential. Keep it for as long as what was let in runs: until it is dropped, whoever ended the
/// credential's task and waits for DRAINED is not told that it is over.
pub struct Admission {
    mirror: Arc<Mirror>,
    credential: Arc<Credential>,
    partition: Partition,
    number: u64,
    life: Arc<Life>,
}

/// Whether its credential is dead, and why.
#[derive(Default)]
struct Life {
    dead: OnceLock<Dead>,
    told: Notify,
}

impl Admission {
    /// Notes that something is let in, before it is: the caller judges by a view that it reads after this.
    // INVARIANT (nobody is missed): a swap that kills the credential either comes before the view is read, which then refuses, or
    // looks through the admissions after this one was noted.
    pub(super) fn enter(mirror: &Arc<Mirror>, credential: Arc<Credential>) -> Self {
        let partition = credential.partition();
        let (number, life) = mirror.admissions().enter(partition, Arc::clone(&credential));
        Self { mirror: Arc::clone(mirror), credential, partition, number, life }
    }

    /// The credential that it was let in on.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// Whether the credential has died since, by revocation.
    pub fn is_revoked(&self) -> bool {
        self.life.dead.get().is_some()
    }

    /// Waits until the credential dies by revocation, and says why. What runs should stop then.
    pub async fn revoked(&self) -> Dead {
        loop {
            let told = self.life.told.notified();
            if let Some(dead) = self.life.dead.get() {
                return *dead;
            }
            told.await;
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.mirror.admissions().leave(self.partition, self.number);
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Admission({})", self.credential.execution().lease)
    }
}

/// Everything that was let in and runs.
pub(super) struct Admissions {
    partitions: Vec<Mutex<Held>>,
    /// Changes when the last thing that ran on a dead credential is over in a partition.
    drained: watch::Sender<u64>,
}

#[derive(Default)]
struct Held {
    next: u64,
    running: BTreeMap<u64, Running>,
    /// How many of those are dead.
    dead: usize,
}

struct Running {
    credential: Arc<Credential>,
    life: Arc<Life>,
    /// How far the partition was applied when it was last alive, once it is dead.
    held_back: Option<Option<Origin>>,
}

impl Default for Admissions {
    fn default() -> Self {
        let partitions = (0..=u8::MAX).map(|_| Mutex::default()).collect();
        Self { partitions, drained: watch::channel(0).0 }
    }
}

impl Admissions {
    /// Wakes up when something is over that held DRAINED back.
    pub(super) fn drained(&self) -> watch::Receiver<u64> {
        self.drained.subscribe()
    }

    fn held(&self, partition: Partition) -> Option<&Mutex<Held>> {
        self.partitions.get(usize::from(partition.0))
    }

    fn enter(&self, partition: Partition, credential: Arc<Credential>) -> (u64, Arc<Life>) {
        let life = Arc::<Life>::default();
        let Some(held) = self.held(partition) else { return (0, life) };
        let mut held = held.lock();
        let number = held.next;
        held.next = number.wrapping_add(1);
        held.running
            .insert(number, Running { credential, life: Arc::clone(&life), held_back: None });
        (number, life)
    }

    fn leave(&self, partition: Partition, number: u64) {
        let Some(held) = self.held(partition) else { return };
        let mut held = held.lock();
        let gone = held.running.remove(&number);
        if gone.is_some_and(|running| running.held_back.is_some()) {
            held.dead = held.dead.saturating_sub(1);
            drop(held);
            self.drained.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Looks who is dead by a new view. `before`: how far the partition was applied in the view before.
    pub(super) fn judge(&self, partition: Partition, view: &View, before: Option<Origin>) {
        let Some(held) = self.held(partition) else { return };
        let mut held = held.lock();
        let mut died = 0;
        for running in held.running.values_mut().filter(|running| running.held_back.is_none()) {
            match view.judge(&running.credential.facts()) {
                // Its incarnation was dropped from the list: the credential has expired long since.
                Ok(()) | Err(Dead::IncarnationUnknown) => {}
                Err(dead) => {
                    running.held_back = Some(before);
                    // It dies once: `held_back` says so.
                    let _ = running.life.dead.set(dead);
                    running.life.told.notify_waiters();
                    died += 1;
                }
            }
        }
        held.dead = held.dead.saturating_add(died);
    }

    /// The least far position of what runs and is dead; `None`: nothing does.
    pub(super) fn held_back(&self, partition: Partition) -> Option<Option<Origin>> {
        let held = self.held(partition)?.lock();
        if held.dead == 0 {
            return None;
        }
        held.running.values().filter_map(|running| running.held_back).min()
    }
}
