//! Proofs that were shown: each is good once (RFC 9449 section 11.1).

use std::collections::{BTreeSet, HashSet};

use parking_lot::Mutex;

use super::refused::Refused;
use crate::domain::time::Stamp;
use crate::jose::dpop::Proof;

/// Proofs by their id until they expire, at most so many. What there is no room for is refused, never forgotten.
pub(super) struct Replays {
    most: usize,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    ids: HashSet<[u8; 32]>,
    by_expiry: BTreeSet<(Stamp, [u8; 32])>,
}

impl Replays {
    pub(super) fn new(most: usize) -> Self {
        Self { most, shown: Mutex::default() }
    }

    /// Takes a proof, if it was not shown before.
    // INVARIANT (proof once): it is forgotten at the very instant from which it is refused as too old, by the same clock.
    pub(super) fn take(&self, proof: &Proof, now: Stamp) -> Result<(), Refused> {
        let mut shown = self.shown.lock();
        while let Some((expires, id)) = shown.by_expiry.first().copied()
            && expires <= now
        {
            shown.by_expiry.pop_first();
            shown.ids.remove(&id);
        }
        if shown.ids.contains(&proof.id()) {
            return Err(Refused::Replayed);
        }
        if shown.ids.len() >= self.most {
            return Err(Refused::TooManyProofs);
        }
        shown.ids.insert(proof.id());
        shown.by_expiry.insert((proof.expires(), proof.id()));
        Ok(())
    }
}
