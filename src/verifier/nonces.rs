//! Which proofs must have a nonce: all of them where a secret for that is configured (RFC 9449 section 9), and else those
//! that may have been shown before this run of the process, which remembers none of them.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::SystemRandom;

use crate::domain::time::{Moment, Stamp};
use crate::jose::dpop::{DpopError, NonceKey, Proof, WINDOW};

/// What nonces are made with, and since when proofs are remembered.
pub(super) struct Nonces {
    /// Of all servers of one name; `None`: a nonce is demanded only after a start.
    shared: Option<NonceKey>,
    /// Of this run alone; `None`: there was no randomness, and nothing that must have its nonce is let in.
    own: Option<NonceKey>,
    began: Moment,
    /// When that was, as a time of today's clocks, in microseconds: it is raised where they are put forward.
    start: AtomicU64,
}

impl Nonces {
    /// Of a run that began then.
    pub(super) fn new(shared: Option<NonceKey>, began: Moment) -> Self {
        let own = NonceKey::generate(&SystemRandom::new()).ok();
        Self { shared, own, began, start: AtomicU64::new(0) }
    }

    /// Whether the proof has the nonce that it must have. `now` is the present by which proofs expire.
    // INVARIANT (proof once): an earlier run let in with no proof whose `iat` lay further ahead of it than `WINDOW`. Whatever is not
    // younger than that is shown here for the first time only if it has a nonce that was given since the start.
    pub(super) fn check(&self, proof: &Proof, now: Stamp, at: Moment) -> Result<(), DpopError> {
        let start = self.start(now, at);
        let may_be_of_before = proof.issued <= start.plus(WINDOW);
        if !may_be_of_before && self.shared.is_none() {
            return Ok(());
        }
        let is_ours = |nonce: &str| {
            let own = self.own.as_ref().and_then(|key| key.given(nonce, now));
            let shared = self.shared.as_ref().and_then(|key| key.given(nonce, now));
            own.is_some() || shared.is_some_and(|given| !may_be_of_before || given >= start)
        };
        match proof.nonce.as_deref() {
            Some(nonce) if is_ours(nonce) => Ok(()),
            _ => Err(DpopError::Nonce),
        }
    }

    /// Whether every proof must have one.
    pub(super) fn are_always_demanded(&self) -> bool {
        self.shared.is_some()
    }

    /// A nonce for the next proof: one that other servers take too, unless it would look like one from before the start.
    pub(super) fn fresh(&self, now: Stamp, at: Moment) -> Option<String> {
        let start = self.start(now, at);
        let shared = self.shared.as_ref().filter(|_| Stamp::from_seconds(now.seconds()) >= start);
        shared.or(self.own.as_ref()).map(|key| key.fresh(now))
    }

    fn start(&self, now: Stamp, at: Moment) -> Stamp {
        let start = now.minus(at.since(self.began));
        let before = self.start.fetch_max(start.micros(), Ordering::AcqRel);
        start.max(Stamp::saturating_from_micros(before))
    }
}
