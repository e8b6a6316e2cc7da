//! What kills, as verifiers are told of it: a scope by its hash alone, and no blocks, which stop issuing only.

use super::{Fence, Lattice};
use crate::domain::id::{LeaseId, TaskId};
use crate::domain::path::Origin;
use crate::domain::scope::Reach;
use crate::domain::time::Stamp;

/// One entry that kills, by its absolute value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Kills by epoch and branch.
    Fence(TaskId, Fence),
    /// Kills what the scope reaches, up to the origin.
    Watermark(Reach, Origin),
    /// Kills one lease.
    Lease(LeaseId),
    /// Kills the incarnation's credentials after the stamp.
    End(Stamp, Stamp),
    /// Kills the credentials of earlier incarnations.
    Floor(Stamp),
}

/// Which entry one is: entries of one name merge into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryName {
    /// The fence of a task.
    Fence(TaskId),
    /// The watermark of a scope.
    Watermark(Reach),
    /// A lease.
    Lease(LeaseId),
    /// The end of an incarnation.
    End(Stamp),
    /// The floor.
    Floor,
}

impl Revocation {
    /// What it is merged with.
    pub fn name(&self) -> EntryName {
        match self {
            Self::Fence(task, _) => EntryName::Fence(*task),
            Self::Watermark(reach, _) => EntryName::Watermark(*reach),
            Self::Lease(lease) => EntryName::Lease(*lease),
            Self::End(incarnation, _) => EntryName::End(*incarnation),
            Self::Floor(_) => EntryName::Floor,
        }
    }
}

impl Lattice {
    /// Merges what kills upward.
    // INVARIANT (lattice monotone): merging never makes a dead credential alive.
    pub fn learn(&mut self, revocation: &Revocation) {
        match revocation {
            Revocation::Fence(task, fence) => {
                let known = self.fences.entry(*task).or_insert(*fence);
                known.epoch = known.epoch.max(fence.epoch);
                known.branch = known.branch.max(fence.branch);
            }
            Revocation::Watermark(reach, origin) => {
                let known = self.watermarks.entry(*reach).or_insert(*origin);
                *known = (*known).max(*origin);
            }
            Revocation::Lease(lease) => {
                self.leases.insert(*lease);
            }
            Revocation::End(incarnation, last) => {
                let known = self.ends.entry(*incarnation).or_insert(*last);
                *known = (*known).min(*last);
            }
            Revocation::Floor(floor) => self.raise_floor(*floor),
        }
    }

    /// Drops an entry, once no credential that it could hit is unexpired. The floor stays.
    pub fn forget(&mut self, name: &EntryName) {
        match name {
            EntryName::Fence(task) => drop(self.fences.remove(task)),
            EntryName::Watermark(reach) => drop(self.watermarks.remove(reach)),
            EntryName::Lease(lease) => drop(self.leases.remove(lease)),
            EntryName::End(incarnation) => drop(self.ends.remove(incarnation)),
            EntryName::Floor => {}
        }
    }
}
