//! Where in which execution a credential belongs: what a token's `leasehold` claim and a certificate's extension say.

use crate::domain::id::LeaseId;
use crate::domain::lattice::Facts;
use crate::domain::lease::{Lease, full_reach};
use crate::domain::path::{Origin, Path};
use crate::domain::principal::Name;
use crate::domain::scope::Reach;
use crate::domain::time::Span;

/// The part that is the same in credentials of every kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The execution path.
    pub path: Path,
    /// The lease.
    pub lease: LeaseId,
    /// When it was committed.
    pub origin: Origin,
    /// The tier.
    pub tier: Name,
    /// Δ, whole milliseconds: how old a verifier's view may be.
    pub freshness: Span,
    /// Scopes that reach it, without tier, key and `all`.
    pub reach: Vec<Reach>,
    /// The task's step; empty if it has none.
    pub step: String,
}

/// The largest Δ that any store allows, in milliseconds (FORMATS.md, Numbers).
pub const MAX_FRESHNESS_MILLIS: u64 = 300_000;
/// The longest step, in bytes.
pub const MAX_STEP_BYTES: usize = 63;

impl Execution {
    /// Of the latest credential of a lease.
    pub fn of(lease: &Lease) -> Self {
        let draft = &lease.draft;
        Self {
            path: draft.path.clone(),
            lease: draft.id,
            origin: lease.origin,
            tier: draft.tier.clone(),
            freshness: draft.freshness,
            reach: draft.reach.clone(),
            step: draft.step.clone(),
        }
    }

    /// Every scope that reaches a credential with this execution, signed with this key.
    pub fn full_reach(&self, signing_key: &str) -> Vec<Reach> {
        full_reach(&self.reach, &self.tier, signing_key)
    }

    /// What revocation can hit of it; `reach` as [`Self::full_reach`] gave it.
    pub fn facts<'a>(&'a self, reach: &'a [Reach]) -> Facts<'a> {
        Facts { path: &self.path, lease: self.lease, origin: self.origin, reach }
    }
}
