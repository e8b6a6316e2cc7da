//! Admission: endings have room of their own and wait for it; everything else is turned away when there is none.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::broker::access::Rpc;

/// How many RPCs run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Those that end something. Further ones wait until their deadline.
    pub endings: usize,
    /// All others. Further ones are told to come back.
    pub others: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self { endings: 512, others: 512 }
    }
}

/// The room that there is.
#[derive(Debug)]
pub(super) struct Lanes {
    endings: Semaphore,
    others: Semaphore,
    /// Verifiers that subscribe; what they then watch has a bound of its own.
    subscribing: Semaphore,
}

/// There is no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Lanes {
    pub(super) fn new(limits: LaneLimits) -> Self {
        Self {
            endings: Semaphore::new(limits.endings),
            others: Semaphore::new(limits.others),
            subscribing: Semaphore::new(limits.others),
        }
    }

    /// Room for one RPC, until the permit is dropped.
    pub(super) async fn enter(&self, rpc: Rpc) -> Result<SemaphorePermit<'_>, Full> {
        match rpc {
            ending if ending.is_ending() => self.endings.acquire().await.map_err(|_| Full),
            // A verifier that is kept out by a flood of other calls would refuse what is alive.
            Rpc::WatchRevocations => self.subscribing.try_acquire().map_err(|_| Full),
            _ => self.others.try_acquire().map_err(|_| Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn class_15_verifiers_subscribe_while_issuing_is_turned_away() {
        let lanes = Lanes::new(LaneLimits { endings: 1, others: 1 });
        let _issuing = lanes.enter(Rpc::IssueCredential).await.unwrap();
        let _subscribing = lanes.enter(Rpc::WatchRevocations).await.unwrap();
        assert_eq!(lanes.enter(Rpc::WatchRevocations).await.map(drop), Err(Full));
    }

    #[tokio::test]
    async fn class_15_revocation_gets_through_when_issuing_is_turned_away() {
        let lanes = Lanes::new(LaneLimits { endings: 1, others: 1 });
        let _issuing = lanes.enter(Rpc::IssueCredential).await.unwrap();
        assert_eq!(lanes.enter(Rpc::BeginTask).await.map(drop), Err(Full));
        let revoking = lanes.enter(Rpc::RevokeTask).await.unwrap();
        let mut waiting = Box::pin(lanes.enter(Rpc::Quarantine));
        assert!((&mut waiting).now_or_never().is_none(), "a second ending waits for the first");
        drop(revoking);
        assert!(waiting.await.is_ok());
    }
}
