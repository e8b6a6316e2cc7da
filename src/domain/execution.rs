//! Where in which execution a credential belongs: what a token's `leasehold` claim and a certificate's extension say.

use crate::domain::id::{LeaseId, TaskId};
use crate::domain::lattice::Facts;
use crate::domain::lease::{Lease, full_reach};
use crate::domain::path::{Counter, Hop, Origin, Path};
use crate::domain::principal::Name;
use crate::domain::scope::Reach;
use crate::domain::time::{INFINITY, Span, Stamp};

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

/// The same as a credential spells it, in whatever syntax; nothing is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelled {
    /// Task and counter of each hop, root first.
    pub path: Vec<(String, u64)>,
    /// The lease.
    pub lease: String,
    /// Incarnation of the origin, in microseconds.
    pub incarnation: u64,
    /// Stamp of the origin, in microseconds.
    pub stamp: u64,
    /// The tier.
    pub tier: String,
    /// Δ in milliseconds.
    pub delta_ms: u64,
    /// Scopes, each by 16 bytes.
    pub reach: Vec<Vec<u8>>,
    /// The step; absent if there is none.
    pub step: Option<String>,
}

/// A member of the execution is not what the format says (FORMATS.md, Tokens); it is named as in the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` of the credential's execution is not of the form that Leasehold writes")]
pub struct ExecutionError(pub &'static str);

/// The largest Δ that a store allows (FORMATS.md, Numbers).
const MAX_FRESHNESS_MILLIS: u64 = 300_000;
/// The longest step.
const MAX_STEP_BYTES: usize = 63;

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

    /// Reads what a credential spells.
    ///
    /// # Errors
    /// [`ExecutionError`] names the member that breaks its rule.
    pub fn read(spelled: Spelled) -> Result<Self, ExecutionError> {
        let hops: Option<Vec<Hop>> = spelled.path.iter().map(|(task, n)| hop(task, *n)).collect();
        let path = hops.and_then(Path::from_hops).ok_or(ExecutionError("path"))?;
        let lease = LeaseId::parse(&spelled.lease).map_err(|_| ExecutionError("lease"))?;
        if lease.partition() != path.own().task.partition() {
            return Err(ExecutionError("lease"));
        }
        let origin = origin(spelled.incarnation, spelled.stamp).ok_or(ExecutionError("origin"))?;
        let tier = Name::parse(&spelled.tier).map_err(|_| ExecutionError("tier"))?;
        if !(1..=MAX_FRESHNESS_MILLIS).contains(&spelled.delta_ms) {
            return Err(ExecutionError("delta_ms"));
        }
        let reach: Result<Vec<Reach>, _> =
            spelled.reach.into_iter().map(|bytes| bytes.try_into().map(Reach)).collect();
        let reach = reach.map_err(|_| ExecutionError("reach"))?;
        // An agent is always in reach: a credential without is not one that we made.
        if reach.is_empty() {
            return Err(ExecutionError("reach"));
        }
        let step = match spelled.step {
            None => String::new(),
            Some(step) if (1..=MAX_STEP_BYTES).contains(&step.len()) => step,
            Some(_) => return Err(ExecutionError("step")),
        };
        let freshness = Span::from_millis(spelled.delta_ms);
        Ok(Self { path, lease, origin, tier, freshness, reach, step })
    }

    /// As a credential spells it.
    pub fn spelled(&self) -> Spelled {
        let hop = |hop: &Hop| (hop.task.to_string(), hop.counter.get());
        Spelled {
            path: self.path.hops().map(hop).collect(),
            lease: self.lease.to_string(),
            incarnation: self.origin.incarnation.micros(),
            stamp: self.origin.stamp.micros(),
            tier: self.tier.to_string(),
            delta_ms: self.freshness.millis(),
            reach: self.reach.iter().map(|reach| reach.0.to_vec()).collect(),
            step: (!self.step.is_empty()).then(|| self.step.clone()),
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

/// A counter is at least 1, and never the infinity of an ended task.
fn hop(task: &str, counter: u64) -> Option<Hop> {
    let living = (1..INFINITY.micros()).contains(&counter);
    let task = TaskId::parse(task).ok()?;
    living.then(|| Hop { task, counter: Counter::new(counter) })
}

/// No commit has the stamp zero or infinity, or lies before the start of its incarnation.
fn origin(incarnation: u64, stamp: u64) -> Option<Origin> {
    let possible = 0 < incarnation && incarnation <= stamp && stamp < INFINITY.micros();
    let stamps = Stamp::from_micros(incarnation).zip(Stamp::from_micros(stamp));
    let (incarnation, stamp) = stamps.filter(|_| possible)?;
    Some(Origin { incarnation, stamp })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "tsk_0a00000000000000000000000001";
    const LEASE: &str = "lse_0a00000000000000000000000002";

    fn good() -> Spelled {
        Spelled {
            path: vec![(TASK.to_owned(), 3), ("tsk_0a00000000000000000000000003".to_owned(), 1)],
            lease: LEASE.to_owned(),
            incarnation: 1_790_000_000_000_000,
            stamp: (1 << 53) - 2,
            tier: "standard".to_owned(),
            delta_ms: 5_000,
            reach: vec![vec![7; 16], vec![9; 16]],
            step: Some("s-3".to_owned()),
        }
    }

    #[test]
    fn what_is_spelled_is_read_as_it_was() {
        let execution = Execution::read(good()).unwrap();
        assert_eq!(execution.spelled(), good());
        let without = Spelled { step: None, ..good() };
        assert_eq!(Execution::read(without.clone()).unwrap().spelled(), without);
    }

    #[test]
    fn class_10_every_member_out_of_its_bounds_is_refused_by_its_name() {
        let hop = |task: &str, counter| vec![(task.to_owned(), counter)];
        let other_partition =
            vec![(TASK.to_owned(), 1), ("tsk_0b00000000000000000000000003".to_owned(), 1)];
        let reach = |lengths: &[usize]| lengths.iter().map(|n| vec![0; *n]).collect();
        let s = |text: &str| text.to_owned();
        for (member, wrong) in [
            ("path", Spelled { path: vec![], ..good() }),
            ("path", Spelled { path: hop(TASK, 0), ..good() }),
            ("path", Spelled { path: hop(TASK, (1 << 53) - 1), ..good() }),
            ("path", Spelled { path: hop(TASK, u64::MAX), ..good() }),
            ("path", Spelled { path: hop(LEASE, 1), ..good() }),
            ("path", Spelled { path: hop("", 1), ..good() }),
            ("path", Spelled { path: other_partition, ..good() }),
            ("lease", Spelled { lease: s(TASK), ..good() }),
            ("lease", Spelled { lease: s("lse_0b00000000000000000000000002"), ..good() }),
            ("origin", Spelled { incarnation: 0, ..good() }),
            ("origin", Spelled { stamp: 1_789_999_999_999_999, ..good() }),
            ("origin", Spelled { stamp: (1 << 53) - 1, ..good() }),
            ("origin", Spelled { stamp: u64::MAX, ..good() }),
            ("tier", Spelled { tier: s(""), ..good() }),
            ("tier", Spelled { tier: s("Standard"), ..good() }),
            ("delta_ms", Spelled { delta_ms: 0, ..good() }),
            ("delta_ms", Spelled { delta_ms: 300_001, ..good() }),
            ("reach", Spelled { reach: vec![], ..good() }),
            ("reach", Spelled { reach: reach(&[16, 15]), ..good() }),
            ("reach", Spelled { reach: reach(&[17]), ..good() }),
            ("step", Spelled { step: Some(s("")), ..good() }),
            ("step", Spelled { step: Some("s".repeat(64)), ..good() }),
        ] {
            assert_eq!(Execution::read(wrong.clone()), Err(ExecutionError(member)), "{wrong:?}");
        }
    }
}
