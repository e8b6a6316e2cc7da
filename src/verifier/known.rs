//! Credentials that were verified before: a signature is checked once, and everything that can change at each showing.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use super::credential::Credential;
use super::trust::Trust;
use crate::domain::secret::Secret;

/// Locks, so that threads seldom wait for each other.
const SHARDS: usize = 16;
/// How much of a text its hash is taken of: the end of a signature is as good as random, and the whole text is compared.
const HASHED_BYTES: usize = 43;

/// Verified credentials by their text, at most so many.
pub(super) struct Known {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// How many a shard takes before it forgets those of the generation before.
    generation: usize,
}

#[derive(Default)]
struct Shard {
    young: HashMap<u64, Entry>,
    old: HashMap<u64, Entry>,
}

struct Entry {
    text: Secret,
    /// The keys that it was verified with: with others it is another question.
    by: Arc<Trust>,
    credential: Arc<Credential>,
}

impl Known {
    pub(super) fn new(most: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), generation: (most / SHARDS / 2).max(1) }
    }

    /// The credential of this text, if these keys verified it.
    pub(super) fn get(&self, text: &[u8], by: &Arc<Trust>) -> Option<Arc<Credential>> {
        let (hash, shard) = self.shard(text)?;
        let mut shard = shard.lock();
        let is_it = |entry: &Entry| Arc::ptr_eq(&entry.by, by) && entry.text.expose() == text;
        if let Some(entry) = shard.young.get(&hash) {
            return is_it(entry).then(|| Arc::clone(&entry.credential));
        }
        let entry = shard.old.remove(&hash).filter(is_it)?;
        let credential = Arc::clone(&entry.credential);
        shard.put(hash, entry, self.generation);
        Some(credential)
    }

    pub(super) fn put(&self, text: &[u8], by: &Arc<Trust>, credential: &Arc<Credential>) {
        let Some((hash, shard)) = self.shard(text) else { return };
        let text = Secret::new(text.to_vec());
        let entry = Entry { text, by: Arc::clone(by), credential: Arc::clone(credential) };
        shard.lock().put(hash, entry, self.generation);
    }

    fn shard(&self, text: &[u8]) -> Option<(u64, &Mutex<Shard>)> {
        let end = text.len().saturating_sub(HASHED_BYTES);
        let hash = self.hasher.hash_one(text.get(end..)?);
        let shard = usize::try_from(hash >> 32).unwrap_or(0) % SHARDS;
        Some((hash, self.shards.get(shard)?))
    }
}

impl Shard {
    fn put(&mut self, hash: u64, entry: Entry, generation: usize) {
        if self.young.len() >= generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }
}
