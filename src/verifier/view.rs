//! What a verifier knows of revocations, and how fresh that is: one value, read once for each check.

use std::collections::BTreeMap;

use crate::clock::Present;
use crate::domain::feed::Freshness;
use crate::domain::id::Partition;
use crate::domain::lattice::{Dead, EntryName, Facts, Lattice, Revocation};
use crate::domain::path::Origin;
use crate::domain::time::{Moment, Span, Stamp};

/// What a verifier knows of revocations. A new one knows nothing, and is not fresh.
#[derive(Clone, Debug, Default)]
pub struct View {
    lattices: BTreeMap<Partition, Lattice>,
    positions: BTreeMap<Partition, Origin>,
    freshness: Freshness,
    store: Heard,
}

/// What the store's clock said, and when that was heard.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    store: Stamp,
    at: Moment,
}

/// One thing that changes a view.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Something is revoked.
    Learn(Partition, Revocation),
    /// An entry can hit nothing any more.
    Forget(Partition, EntryName),
    /// Everything up to here was learnt.
    Position(Partition, Origin),
    /// A keep-alive that was sent then was answered: the broker's view was so old, and the store's clock said this.
    Answer { sent: Present, age: Span, store: Stamp, heard: Moment },
}

impl Change {
    /// The partition in which something may be dead that was not before.
    pub(super) fn kills_in(&self) -> Option<Partition> {
        match self {
            Self::Learn(partition, _) => Some(*partition),
            Self::Forget(..) | Self::Position(..) | Self::Answer { .. } => None,
        }
    }
}

impl View {
    /// Whether a credential is alive, as far as it is known.
    ///
    /// # Errors
    /// [`Dead`]; of a partition that nothing is known of, every incarnation is unknown.
    pub fn judge(&self, facts: &Facts<'_>) -> Result<(), Dead> {
        let lattice = self.lattices.get(&facts.path.own().task.partition());
        lattice.ok_or(Dead::IncarnationUnknown)?.judge(facts)
    }

    /// Whether it is younger than the Δ that a credential carries.
    pub fn is_within(&self, now: Present, delta: Span) -> bool {
        self.freshness.is_within(now, delta)
    }

    /// How old it is; `None`: it never was fresh.
    pub fn age(&self, now: Present) -> Option<Span> {
        self.freshness.age(now)
    }

    /// How long it is still younger than Δ; zero if it is not.
    pub fn fresh_for(&self, now: Present, delta: Span) -> Span {
        let age = self.age(now).unwrap_or(delta);
        Span::from_micros(delta.micros().saturating_sub(age.micros()))
    }

    /// Whether an incarnation of a partition is known to live.
    pub(super) fn lives(&self, partition: Partition, incarnation: Stamp) -> bool {
        self.lattices.get(&partition).is_some_and(|lattice| lattice.lives(incarnation))
    }

    /// How far a partition is known.
    pub fn position(&self, partition: Partition) -> Option<Origin> {
        self.positions.get(&partition).copied()
    }

    /// The present by which credentials expire and entries are dropped (DESIGN.md section 4).
    pub(super) fn now(&self, present: Present) -> Stamp {
        present.wall.max(self.store.store.plus(present.moment.since(self.store.at)))
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Learn(partition, revocation) => {
                self.lattices.entry(*partition).or_default().learn(revocation);
            }
            Change::Forget(partition, name) => {
                if let Some(lattice) = self.lattices.get_mut(partition) {
                    lattice.forget(name);
                }
            }
            Change::Position(partition, at) => {
                let known = self.positions.entry(*partition).or_insert(*at);
                *known = (*known).max(*at);
            }
            Change::Answer { sent, age, store, heard } => self.answer(*sent, *age, *store, *heard),
        }
    }

    fn answer(&mut self, sent: Present, age: Span, store: Stamp, heard: Moment) {
        self.freshness.answered(sent, age);
        // INVARIANT (time does not go back): an answer that says less than is known adds nothing.
        if store > self.store.store.plus(heard.since(self.store.at)) {
            self.store = Heard { store, at: heard };
        }
    }
}
