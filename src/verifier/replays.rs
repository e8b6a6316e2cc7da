//! Proofs that somebody was let in with: each is good once (RFC 9449 section 11.1).

use std::collections::{BTreeSet, HashMap, HashSet};

use parking_lot::Mutex;

use super::refused::Refused;
use crate::domain::time::Stamp;
use crate::jose::dpop::{DpopError, Proof};

/// No key has more than this part of the room: one that takes all it can leaves room for the others.
const PART_OF_A_KEY: usize = 8;

/// Proofs by their id until they expire, at most so many. What there is no room for is refused, never forgotten.
pub(super) struct Replays {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    ids: HashSet<[u8; 32]>,
    /// When each expires, its id, and its key's thumbprint.
    by_expiry: BTreeSet<(Stamp, [u8; 32], [u8; 32])>,
    /// How many there are of each key.
    by_key: HashMap<[u8; 32], usize>,
    /// The latest present that anything was forgotten by.
    forgotten: Stamp,
}

impl Replays {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// Takes a proof, if nobody was let in with it before.
    // INVARIANT (proof once): one step for each, so of two who show it at once one is let in.
    pub(super) fn take(&self, proof: &Proof, now: Stamp) -> Result<(), Refused> {
        let mut taken = self.taken.lock();
        taken.forget_until(now);
        // INVARIANT (proof once): what may have been forgotten is too old, also for whoever looked at the clock before that.
        if proof.expires() <= taken.forgotten {
            return Err(DpopError::TooOld.into());
        }
        if taken.ids.contains(&proof.id()) {
            return Err(Refused::Replayed);
        }
        let own = taken.by_key.get(&proof.thumbprint).copied().unwrap_or(0);
        if taken.ids.len() >= self.most || own >= self.most.div_ceil(PART_OF_A_KEY) {
            return Err(Refused::TooManyProofs);
        }
        taken.ids.insert(proof.id());
        taken.by_expiry.insert((proof.expires(), proof.id(), proof.thumbprint));
        taken.by_key.insert(proof.thumbprint, own.saturating_add(1));
        Ok(())
    }
}

impl Taken {
    fn forget_until(&mut self, now: Stamp) {
        self.forgotten = self.forgotten.max(now);
        while let Some((expires, id, key)) = self.by_expiry.first().copied()
            && expires <= self.forgotten
        {
            self.by_expiry.pop_first();
            self.ids.remove(&id);
            match self.by_key.get_mut(&key) {
                Some(own) if *own > 1 => *own -= 1,
                _ => drop(self.by_key.remove(&key)),
            }
        }
    }
}
