//! Revocation state as a join-semilattice (DESIGN.md section 4).
//!
//! Entries move one way only, so merging is always safe and order never matters. There is no entry that takes another back.

mod revocation;

pub use revocation::{EntryName, Revocation};

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::id::{LeaseId, TaskId};
use crate::domain::path::{Counter, Origin, Path};
use crate::domain::scope::{Reach, Scope};
use crate::domain::time::{INFINITY, Stamp};

/// Epoch and branch below which a task's credentials, and those that pass through it, are dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The task's own credentials below this epoch are dead.
    pub epoch: Counter,
    /// Credentials of descendants whose path has a lower branch are dead.
    pub branch: Counter,
}

impl Fence {
    /// The fence of an ended task.
    pub fn ended() -> Self {
        Self { epoch: Counter::infinity(), branch: Counter::infinity() }
    }
}

/// One entry, by its absolute value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Kills by epoch and branch.
    Fence(TaskId, Fence),
    /// Kills the partition's credentials that the scope reaches, up to the origin; those of a signing key whatever origin they
    /// claim. In a draft the commit sets the origin.
    Watermark(Scope, Origin),
    /// Forbids issuing for the scope while odd; never verification.
    Block(Scope, u64),
    /// Kills one lease.
    Lease(LeaseId),
    /// Kills the incarnation's credentials after the stamp: their commit was lost. The living one has infinity.
    End(Stamp, Stamp),
}

/// What is known of revocations in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lattice {
    fences: BTreeMap<TaskId, Fence>,
    watermarks: BTreeMap<Reach, Origin>,
    blocks: BTreeMap<Reach, u64>,
    leases: BTreeSet<LeaseId>,
    ends: BTreeMap<Stamp, Stamp>,
    floor: Stamp,
}

/// What a credential says of itself that revocation can hit.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Its execution path.
    pub path: &'a Path,
    /// Its lease.
    pub lease: LeaseId,
    /// When it was committed.
    pub origin: Origin,
    /// Scopes that reach it: agents, classes, issuers, trust domains, orchestrator entry, tier, key and `all`.
    pub reach: &'a [Reach],
}

/// Why a credential is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dead {
    /// Its incarnation is not in the list; retriable, since the list may be behind.
    #[error("the credential's incarnation is not known here")]
    IncarnationUnknown,
    /// Its commit was lost in a change of servers, or everything from before was fenced.
    #[error("the credential's commit was lost")]
    Lost,
    /// Its task, or one that it descends from, moved on.
    #[error("the task or an ancestor changed or ended")]
    Fenced,
    /// A quarantine reaches it.
    #[error("a quarantine reaches it")]
    Quarantined,
    /// Its lease was released or revoked.
    #[error("the lease was released or revoked")]
    LeaseOver,
}

/// What a verifier needs of an entry: scopes by their hashes, and nothing that only forbids issuing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// Credentials of incarnations before this one are dead.
    Floor(Stamp),
    /// Credentials of the incarnation after the stamp are dead.
    End(Stamp, Stamp),
    /// The scope's credentials up to the origin are dead.
    Watermark(Reach, Origin),
    /// The task's credentials below its epoch are dead, and below its branch those that pass through it.
    Fence(TaskId, Fence),
    /// The lease's credentials are dead.
    Lease(LeaseId),
}

impl Entry {
    /// What it kills; `None`: nothing.
    pub fn kill(&self) -> Option<Kill> {
        Some(match self {
            Self::Fence(task, fence) => Kill::Fence(*task, *fence),
            Self::Watermark(scope, origin) => Kill::Watermark(scope.reach(), up_to(scope, *origin)),
            Self::Block(..) => return None,
            Self::Lease(lease) => Kill::Lease(*lease),
            Self::End(incarnation, last) => Kill::End(*incarnation, *last),
        })
    }
}

impl Kill {
    /// Whether it can always hit something, so that it is never dropped.
    pub fn lasts(&self) -> bool {
        match self {
            Self::Floor(_) => true,
            Self::End(_, last) => *last == INFINITY,
            Self::Watermark(_, origin) => *origin == Origin::INFINITY,
            Self::Fence(..) | Self::Lease(_) => false,
        }
    }
}

/// Up to which origin a watermark that was made at `origin` kills.
// INVARIANT (quarantined key): whoever has the key writes any origin and any expiry into what it signs. So its watermark is above
// every origin, and is kept for ever.
fn up_to(scope: &Scope, origin: Origin) -> Origin {
    if matches!(scope, Scope::Key(_)) { Origin::INFINITY } else { origin }
}

impl Lattice {
    /// Everything that it kills, ends and floor first.
    pub fn kills(&self) -> impl Iterator<Item = Kill> {
        let floor = (self.floor > Stamp::ZERO).then_some(Kill::Floor(self.floor));
        let ends = self.ends.iter().map(|(incarnation, last)| Kill::End(*incarnation, *last));
        let marks = self.watermarks.iter().map(|(reach, origin)| Kill::Watermark(*reach, *origin));
        let fences = self.fences.iter().map(|(task, fence)| Kill::Fence(*task, *fence));
        let leases = self.leases.iter().map(|lease| Kill::Lease(*lease));
        floor.into_iter().chain(ends).chain(marks).chain(fences).chain(leases)
    }

    /// Every scope that was ever blocked, by its hash, with its count: odd while it is blocked.
    pub fn blocked(&self) -> impl Iterator<Item = (Reach, u64)> {
        self.blocks.iter().map(|(reach, count)| (*reach, *count))
    }

    /// Merges one entry upward.
    // INVARIANT (lattice monotone): merging never makes a dead credential alive.
    pub fn merge(&mut self, entry: &Entry) {
        match entry {
            Entry::Fence(task, fence) => self.learn(&Revocation::Fence(*task, *fence)),
            Entry::Watermark(scope, origin) => {
                self.learn(&Revocation::Watermark(scope.reach(), up_to(scope, *origin)));
            }
            Entry::Block(scope, count) => {
                let known = self.blocks.entry(scope.reach()).or_insert(*count);
                *known = (*known).max(*count);
            }
            Entry::Lease(lease) => self.learn(&Revocation::Lease(*lease)),
            Entry::End(incarnation, last) => self.learn(&Revocation::End(*incarnation, *last)),
        }
    }

    /// Raises the floor: credentials of earlier incarnations are dead.
    pub fn raise_floor(&mut self, floor: Stamp) {
        self.floor = self.floor.max(floor);
    }

    /// Whether a credential is alive, as far as revocation goes; its time is judged elsewhere.
    ///
    /// # Errors
    /// [`Dead`] says what killed it, in the order of DESIGN.md section 4.
    pub fn judge(&self, facts: &Facts<'_>) -> Result<(), Dead> {
        let Some(last) = self.ends.get(&facts.origin.incarnation) else {
            return Err(Dead::IncarnationUnknown);
        };
        if facts.origin.stamp > *last || facts.origin.incarnation < self.floor {
            return Err(Dead::Lost);
        }
        let own = facts.path.own();
        if self.fences.get(&own.task).is_some_and(|fence| own.counter < fence.epoch) {
            return Err(Dead::Fenced);
        }
        let fenced = |task, branch| self.fences.get(task).is_some_and(|f| branch < f.branch);
        if facts.path.ancestors().iter().any(|hop| fenced(&hop.task, hop.counter)) {
            return Err(Dead::Fenced);
        }
        if self.reaches(facts.reach, facts.origin) {
            return Err(Dead::Quarantined);
        }
        if self.leases.contains(&facts.lease) {
            return Err(Dead::LeaseOver);
        }
        Ok(())
    }

    /// Whether a watermark of one of the scopes is at or past the origin.
    pub fn reaches(&self, reach: &[Reach], origin: Origin) -> bool {
        reach.iter().any(|scope| self.watermarks.get(scope).is_some_and(|mark| origin <= *mark))
    }

    /// Whether issuing is blocked for one of the scopes.
    pub fn blocks(&self, reach: &[Reach]) -> bool {
        reach.iter().any(|scope| self.blocks.get(scope).is_some_and(|count| count % 2 == 1))
    }

    /// How often the scope was blocked and lifted: odd while blocked.
    pub fn block_count(&self, scope: &Scope) -> u64 {
        self.blocks.get(&scope.reach()).copied().unwrap_or(0)
    }

    /// Up to where a quarantine of the scope kills: [`Origin::INFINITY`] for a signing key.
    pub fn watermark(&self, scope: &Scope) -> Option<Origin> {
        self.watermarks.get(&scope.reach()).copied()
    }

    /// Whether an incarnation is known to live.
    pub fn lives(&self, incarnation: Stamp) -> bool {
        self.ends.get(&incarnation) == Some(&INFINITY)
    }

    /// The incarnation that lives.
    pub fn living(&self) -> Option<Stamp> {
        self.ends.iter().find(|(_, last)| **last == INFINITY).map(|(incarnation, _)| *incarnation)
    }
}

#[cfg(test)]
mod tests;
