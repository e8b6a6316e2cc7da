//! Admission: endings have room of their own and wait for it; everything else is turned away when there is none. What was
//! ended, and is to be answered once it is enforced, waits in a place of a third kind, and takes nobody's room.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::broker::access::Rpc;

/// How many RPCs run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Those that end something. Further ones wait until their deadline.
    pub endings: usize,
    /// All others. Further ones are told to come back.
    pub others: usize,
    /// Those that have ended something and wait for verifiers. Further ones are answered at once, with what is known.
    pub waiting: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self { endings: 512, others: 512, waiting: 4_096 }
    }
}

/// The room that there is.
#[derive(Debug)]
pub(super) struct Lanes {
    endings: Arc<Semaphore>,
    others: Arc<Semaphore>,
    /// Verifiers that subscribe; what they then watch has a bound of its own.
    subscribing: Arc<Semaphore>,
    /// Whoever asks for the keys, which everybody may.
    reading_keys: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// The place of one RPC, until the last of its copies is dropped or somebody leaves.
#[derive(Clone, Debug)]
pub(super) struct Room {
    place: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    waiting: Arc<Semaphore>,
}

impl Room {
    /// Gives the place to the next one, for one among those who wait; `false`: there is none.
    // INVARIANT (waiting takes no room): whoever waits for verifiers keeps nobody from ending something.
    pub(super) fn leave(&self) -> bool {
        let waits = self.waiting.clone().try_acquire_owned().ok();
        let is_place = waits.is_some();
        *self.place.lock() = waits;
        is_place
    }
}

/// There is no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Lanes {
    pub(super) fn new(limits: LaneLimits) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            endings: places(limits.endings),
            others: places(limits.others),
            subscribing: places(limits.others),
            reading_keys: places(limits.others),
            waiting: places(limits.waiting),
        }
    }

    /// Room for one RPC.
    pub(super) async fn enter(&self, rpc: Rpc) -> Result<Room, Full> {
        let place = match rpc {
            ending if ending.is_ending() => self.endings.clone().acquire_owned().await.ok(),
            // A verifier that is kept out by a flood of other calls would refuse what is alive. It needs the keys first, and those
            // who ask for nothing else keep no verifier out.
            Rpc::WatchRevocations => self.subscribing.clone().try_acquire_owned().ok(),
            Rpc::GetTrustBundle => self.reading_keys.clone().try_acquire_owned().ok(),
            _ => self.others.clone().try_acquire_owned().ok(),
        };
        let place = Arc::new(Mutex::new(Some(place.ok_or(Full)?)));
        Ok(Room { place, waiting: self.waiting.clone() })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn class_15_verifiers_subscribe_while_issuing_is_turned_away() {
        let lanes = Lanes::new(LaneLimits { endings: 1, others: 1, waiting: 1 });
        let _issuing = lanes.enter(Rpc::IssueCredential).await.unwrap();
        let _reading = lanes.enter(Rpc::GetTrustBundle).await.unwrap();
        assert_eq!(lanes.enter(Rpc::GetTrustBundle).await.map(drop), Err(Full));
        let _subscribing = lanes.enter(Rpc::WatchRevocations).await.unwrap();
        assert_eq!(lanes.enter(Rpc::WatchRevocations).await.map(drop), Err(Full));
    }

    #[tokio::test]
    async fn class_15_revocation_gets_through_when_issuing_is_turned_away() {
        let lanes = Lanes::new(LaneLimits { endings: 1, others: 1, waiting: 1 });
        let _issuing = lanes.enter(Rpc::IssueCredential).await.unwrap();
        assert_eq!(lanes.enter(Rpc::BeginTask).await.map(drop), Err(Full));
        let revoking = lanes.enter(Rpc::RevokeTask).await.unwrap();
        let mut waiting = Box::pin(lanes.enter(Rpc::Quarantine));
        assert!((&mut waiting).now_or_never().is_none(), "a second ending waits for the first");
        drop(revoking);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn class_15_who_waits_for_verifiers_keeps_nobody_from_ending_and_is_counted() {
        let lanes = Lanes::new(LaneLimits { endings: 1, others: 1, waiting: 1 });
        let first = lanes.enter(Rpc::CompleteTask).await.unwrap();
        let held_by_the_gate = first.clone();
        assert!(first.leave(), "there is a place to wait");
        let second = lanes.enter(Rpc::CompleteTask).now_or_never().expect("its room is free");
        assert!(!second.unwrap().leave(), "one too many waits: it is answered at once");
        drop((first, held_by_the_gate));
        let third = lanes.enter(Rpc::CompleteTask).now_or_never().expect("nobody is inside");
        assert!(third.unwrap().leave(), "who was answered waits no more");
    }
}
