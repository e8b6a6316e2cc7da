//! Execution paths and origins: where in the tree of tasks, and when, a credential was committed.

use crate::domain::id::TaskId;
use crate::domain::time::{INFINITY, Stamp};

/// An epoch or a branch: from 1, raised by one, at most 2^53 − 1, which stands for an ended task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter(u64);

impl Counter {
    /// What every epoch and branch begins at.
    pub const FIRST: Self = Self(1);

    /// Above every counter that a living task can have.
    pub fn infinity() -> Self {
        Self(INFINITY.micros())
    }

    /// A counter of this value; at most infinity.
    pub fn new(value: u64) -> Self {
        Self(value.min(INFINITY.micros()))
    }

    /// The number itself.
    pub fn get(self) -> u64 {
        self.0
    }

    /// One more; infinity stays.
    pub fn raised(self) -> Self {
        Self::new(self.0.saturating_add(1))
    }
}

/// One step of an execution path: a task, and its branch or epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The task.
    pub task: TaskId,
    /// Of an ancestor its branch, of the credential's own task its epoch.
    pub counter: Counter,
}

/// The chain from root task to the credential's own: `[task, branch]` for each ancestor, `[task, epoch]` last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    ancestors: Vec<Hop>,
    own: Hop,
}

impl Path {
    /// A path from its ancestors, root first, and its own task.
    pub fn new(ancestors: Vec<Hop>, own: Hop) -> Self {
        Self { ancestors, own }
    }

    /// A path from its hops, root first; `None` if there are none, or they lie in different partitions.
    pub fn from_hops(mut hops: Vec<Hop>) -> Option<Self> {
        let own = hops.pop()?;
        let together = hops.iter().all(|hop| hop.task.partition() == own.task.partition());
        together.then_some(Self { ancestors: hops, own })
    }

    /// The ancestors with their branches, root first.
    pub fn ancestors(&self) -> &[Hop] {
        &self.ancestors
    }

    /// The credential's own task with its epoch.
    pub fn own(&self) -> Hop {
        self.own
    }

    /// The root of the tree.
    pub fn root(&self) -> TaskId {
        self.ancestors.first().unwrap_or(&self.own).task
    }

    /// Every hop, root first.
    pub fn hops(&self) -> impl Iterator<Item = &Hop> {
        self.ancestors.iter().chain(std::iter::once(&self.own))
    }
}

/// When a credential was committed: the partition's incarnation, and the commit's stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Stamp of the first commit of the incarnation.
    pub incarnation: Stamp,
    /// Stamp of the commit.
    pub stamp: Stamp,
}

impl Origin {
    /// At or after every origin that a credential can claim.
    pub const INFINITY: Self = Self { incarnation: INFINITY, stamp: INFINITY };
}
