//! What is known of one partition's revocations, for as long as each can hit a credential.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::ops::Bound;

use crate::domain::id::{LeaseId, TaskId};
use crate::domain::lattice::{Entry, Kill};
use crate::domain::scope::Reach;
use crate::domain::time::{INFINITY, Span, Stamp};

/// How often entries whose time is over are looked for.
const PRUNE_EVERY: Span = Span::from_seconds(10);

/// What a kill is about: one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The floor.
    Floor,
    /// An incarnation's end.
    End(Stamp),
    /// A scope's watermark.
    Watermark(Reach),
    /// A task's fence.
    Fence(TaskId),
    /// A lease.
    Lease(LeaseId),
}

/// A kill, and until when it matters; [`INFINITY`]: it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it kills.
    pub kill: Kill,
    /// No credential that it could hit is unexpired after that.
    pub until: Stamp,
}

/// One partition's revocations. They move upward only, and are dropped when they can hit nothing any more.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    kept: BTreeMap<Key, Kept>,
    /// How often a scope was blocked and lifted.
    blocks: BTreeMap<Reach, u64>,
    /// Largest expiry of a credential of the partition, as far as it was heard.
    max_expiry: Stamp,
    pruned: Stamp,
}

impl Memory {
    /// Merges what a commit wrote. Says what of it is news to a verifier.
    pub fn merge_entry(&mut self, entry: &Entry, until: Stamp) -> Option<Kept> {
        if let Entry::Block(scope, count) = entry {
            self.merge_block(scope.reach(), *count);
        }
        let kill = entry.kill()?;
        let until = if kill.lasts() { INFINITY } else { until };
        self.merge(Kept { kill, until })
    }

    /// Merges one kill upward; what is now known, if that is more than before.
    // INVARIANT (lattice monotone): no kill is taken back, and none is dropped the sooner for having come twice.
    pub fn merge(&mut self, new: Kept) -> Option<Kept> {
        let known = match self.kept.entry(key(&new.kill)) {
            Vacant(place) => return Some(*place.insert(new)),
            Occupied(known) => known.into_mut(),
        };
        let before = *known;
        match (&mut known.kill, new.kill) {
            (Kill::Floor(known), Kill::Floor(new)) => *known = (*known).max(new),
            (Kill::Watermark(_, known), Kill::Watermark(_, new)) => *known = (*known).max(new),
            (Kill::Fence(_, known), Kill::Fence(_, new)) => {
                known.epoch = known.epoch.max(new.epoch);
                known.branch = known.branch.max(new.branch);
            }
            (Kill::End(_, last), Kill::End(_, new_last)) if new_last < *last => {
                *last = new_last;
                // That it lived was kept for ever; that it ended is not.
                known.until = Stamp::ZERO;
            }
            // What says that it still lives says nothing new, nor how long to keep that it ended.
            (Kill::End(_, last), Kill::End(_, new_last)) if new_last > *last => return None,
            _ => {}
        }
        known.until = known.until.max(new.until);
        (*known != before).then_some(*known)
    }

    /// Merges how often a scope was blocked and lifted.
    pub fn merge_block(&mut self, reach: Reach, count: u64) {
        let known = self.blocks.entry(reach).or_insert(count);
        *known = (*known).max(count);
    }

    /// Whether a scope is blocked.
    pub fn is_blocked(&self, reach: &Reach) -> bool {
        self.blocks.get(reach).is_some_and(|count| count % 2 == 1)
    }

    /// Whether a scope's quarantine kills whatever it reaches, for good.
    pub fn is_condemned(&self, reach: &Reach) -> bool {
        self.kept.get(&Key::Watermark(*reach)).is_some_and(|kept| kept.kill.lasts())
    }

    /// At most `limit` of what is known, in the order of [`Key`], after one of them; and the last one's key.
    pub fn after(&self, after: Option<Key>, limit: usize) -> (Vec<Kept>, Option<Key>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let part = self.kept.range((from, Bound::Unbounded)).take(limit);
        let (mut kills, mut last) = (Vec::new(), None);
        for (key, kept) in part {
            kills.push(*kept);
            last = Some(*key);
        }
        (kills, last)
    }

    /// Takes note of the largest expiry in the partition.
    pub fn hear_expiry(&mut self, max_expiry: Stamp) {
        self.max_expiry = self.max_expiry.max(max_expiry);
    }

    /// The largest expiry that was heard of.
    pub fn max_expiry(&self) -> Stamp {
        self.max_expiry
    }

    /// Drops what can hit nothing any more, by the partition's own time.
    pub fn prune(&mut self, now: Stamp) {
        if now.since(self.pruned) >= PRUNE_EVERY {
            self.pruned = now;
            self.kept.retain(|_, kept| kept.until > now);
        }
    }

    /// How much is known.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

fn key(kill: &Kill) -> Key {
    match kill {
        Kill::Floor(_) => Key::Floor,
        Kill::End(incarnation, _) => Key::End(*incarnation),
        Kill::Watermark(reach, _) => Key::Watermark(*reach),
        Kill::Fence(task, _) => Key::Fence(*task),
        Kill::Lease(lease) => Key::Lease(*lease),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Partition;
    use crate::domain::lattice::Fence;
    use crate::domain::path::{Counter, Origin};
    use crate::domain::scope::Scope;

    fn stamp(seconds: u64) -> Stamp {
        Stamp::from_seconds(seconds)
    }

    fn fence(epoch: u64, branch: u64, until: u64) -> Kept {
        let fence = Fence { epoch: Counter::new(epoch), branch: Counter::new(branch) };
        Kept { kill: Kill::Fence(TaskId::new(Partition(0), 1), fence), until: stamp(until) }
    }

    #[test]
    fn what_is_no_more_than_what_is_known_is_no_news() {
        let mut memory = Memory::default();
        assert_eq!(memory.merge(fence(3, 1, 100)), Some(fence(3, 1, 100)));
        assert_eq!(memory.merge(fence(3, 1, 100)), None);
        assert_eq!(memory.merge(fence(2, 1, 90)), None);
        assert_eq!(memory.merge(fence(2, 5, 90)), Some(fence(3, 5, 100)), "each moves by itself");
        assert_eq!(memory.merge(fence(1, 1, 200)), Some(fence(3, 5, 200)), "it is kept the longer");
    }

    #[test]
    fn what_was_not_known_is_news_whatever_its_time() {
        let mut memory = Memory::default();
        assert_eq!(memory.merge(fence(3, 1, 0)), Some(fence(3, 1, 0)));
        assert_eq!(memory.merge(fence(3, 1, 0)), None);
    }

    #[test]
    fn an_entry_is_dropped_when_its_time_is_over_by_the_partitions_own_time() {
        let mut memory = Memory::default();
        memory.merge(fence(3, 1, 100));
        memory.merge(Kept { kill: Kill::Floor(stamp(1)), until: INFINITY });
        memory.prune(stamp(99));
        assert_eq!(memory.len(), 2);
        memory.prune(stamp(109));
        assert_eq!(
            memory.after(None, 9).0,
            [Kept { kill: Kill::Floor(stamp(1)), until: INFINITY }]
        );
    }

    /// Its commit says how long credentials live that were committed; the key's thief commits nothing.
    #[test]
    fn class_06_that_a_signing_key_was_quarantined_is_never_dropped() {
        let mut memory = Memory::default();
        let (key, class) = (Scope::parse("key:9f86").unwrap(), Scope::parse("class:a").unwrap());
        for scope in [&key, &class] {
            memory.merge_entry(&Entry::Watermark(scope.clone(), Origin::default()), stamp(100));
        }
        memory.prune(stamp(1_000_000));
        let kept = Kept { kill: Kill::Watermark(key.reach(), Origin::INFINITY), until: INFINITY };
        assert_eq!(memory.after(None, 9).0, [kept]);
        assert!(memory.is_condemned(&key.reach()) && !memory.is_condemned(&class.reach()));
    }

    #[test]
    fn an_incarnation_that_ended_does_not_live_again_and_is_forgotten_in_time() {
        let mut memory = Memory::default();
        let end = |last, until| Kept { kill: Kill::End(stamp(1), last), until };
        memory.merge(end(INFINITY, INFINITY));
        assert_eq!(memory.merge(end(stamp(5), stamp(50))), Some(end(stamp(5), stamp(50))));
        assert_eq!(memory.merge(end(INFINITY, INFINITY)), None);
        memory.prune(stamp(50));
        assert!(memory.is_empty());
    }

    #[test]
    fn floor_watermark_and_block_move_one_way() {
        let mut memory = Memory::default();
        let reach = Scope::All.reach();
        let floor = |at| Kept { kill: Kill::Floor(stamp(at)), until: INFINITY };
        let mark = |at| {
            let origin = Origin { incarnation: stamp(1), stamp: stamp(at) };
            Kept { kill: Kill::Watermark(reach, origin), until: stamp(9) }
        };
        for (first, earlier) in [(floor(5), floor(4)), (mark(5), mark(4))] {
            assert_eq!(memory.merge(first), Some(first));
            assert_eq!(memory.merge(earlier), None);
        }
        assert_eq!(memory.after(None, 9).0, [floor(5), mark(5)]);
        for (count, is_blocked) in [(1, true), (2, false), (1, false), (3, true)] {
            memory.merge_block(reach, count);
            assert_eq!(memory.is_blocked(&reach), is_blocked, "{count}");
        }
    }

    #[test]
    fn the_whole_is_told_in_parts_that_leave_nothing_out() {
        let mut memory = Memory::default();
        for n in 0..5u8 {
            let lease = LeaseId::new(Partition(0), u128::from(n));
            memory.merge(Kept { kill: Kill::Lease(lease), until: stamp(9) });
        }
        let (first, at) = memory.after(None, 3);
        let (rest, end) = memory.after(at, 3);
        assert_eq!((first.len(), rest.len()), (3, 2));
        assert_eq!(memory.after(end, 3), (vec![], None));
    }
}
