//! How long a credential lives: the smallest of all limits, and which one that was.

use std::fmt;

use crate::domain::refusal::Refusal;
use crate::domain::time::Stamp;

/// The limits on a credential's life, in the order in which ties are broken (DESIGN.md section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clamp {
    /// What the caller asked for.
    Requested,
    /// The tier's TTL.
    Tier,
    /// `max_ttl_seconds` of the grant.
    Grant,
    /// The deadline of the task, or of an ancestor.
    TaskDeadline,
    /// What is left of the caller's own credential.
    CallerCredential,
    /// The tier's ceiling since first issue per task, principal and audience.
    LeaseCeiling,
    /// What is left of the signing key or the CA certificate.
    SigningKey,
}

impl Clamp {
    /// Every clamp, in order.
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::Tier,
        Self::Grant,
        Self::TaskDeadline,
        Self::CallerCredential,
        Self::LeaseCeiling,
        Self::SigningKey,
    ];

    /// Its number in records and in the contract, from 1.
    pub fn number(self) -> u64 {
        match self {
            Self::Requested => 1,
            Self::Tier => 2,
            Self::Grant => 3,
            Self::TaskDeadline => 4,
            Self::CallerCredential => 5,
            Self::LeaseCeiling => 6,
            Self::SigningKey => 7,
        }
    }

    /// The clamp of that number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|clamp| clamp.number() == number)
    }

    /// What the caller can refresh to get more time.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Requested => "ask for a longer `ttl`, or for none",
            Self::Tier => "the tier's `ttl` is below its `min_ttl`; tell an operator",
            Self::Grant => "ask the orchestrator for a larger `max_ttl_seconds`",
            Self::TaskDeadline => "the task is nearly over; begin another one",
            Self::CallerCredential => "refresh your own identity first, then ask again",
            Self::LeaseCeiling => "the lease is as old as the tier allows; begin another task",
            Self::SigningKey => "the broker's signing key is about to be replaced; try again soon",
        }
    }
}

impl fmt::Display for Clamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "requested",
            Self::Tier => "tier",
            Self::Grant => "grant",
            Self::TaskDeadline => "task deadline",
            Self::CallerCredential => "caller credential",
            Self::LeaseCeiling => "lease ceiling",
            Self::SigningKey => "signing key",
        })
    }
}

/// One limit, before the commit's own time is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many seconds after issue.
    After(u64),
    /// At this second of the Unix epoch.
    At(u64),
    /// So many seconds after the first issue for task, principal and audience.
    AfterFirstIssue(u64),
}

/// What the broker hands to the commit, which alone knows the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In the order of [`Clamp::ALL`]; each clamp at most once.
    pub limits: Vec<(Clamp, Limit)>,
    /// The tier's `min_ttl` in seconds.
    pub minimum_seconds: u64,
}

/// When a credential ends, and why then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// `exp`, in seconds of the Unix epoch; the credential is dead from then on.
    pub expires_seconds: u64,
    /// The limit that won.
    pub clamp: Clamp,
}

/// The expiry of a credential that is committed at `stamp`, first issued at `first_issue`.
///
/// # Errors
/// [`Refusal::CeilingReached`] or [`Refusal::TtlBelowMinimum`] if less than the minimum is left; also if there is no limit at
/// all, since nothing is issued without one.
// INVARIANT (expiry bounded): no credential's `exp` is later than any of its limits.
pub fn clamp(stamp: Stamp, first_issue: Stamp, limits: &Limits) -> Result<Expiry, Refusal> {
    let issued = stamp.seconds();
    let mut least: Option<Expiry> = None;
    for (clamp, limit) in &limits.limits {
        let expires_seconds = match limit {
            Limit::After(seconds) => issued.saturating_add(*seconds),
            Limit::At(second) => *second,
            Limit::AfterFirstIssue(seconds) => first_issue.seconds().saturating_add(*seconds),
        };
        if least.is_none_or(|l| expires_seconds < l.expires_seconds) {
            least = Some(Expiry { expires_seconds, clamp: *clamp });
        }
    }
    let Some(expiry) = least else {
        return Err(too_short(Clamp::Tier, 0, limits.minimum_seconds));
    };
    let seconds = expiry.expires_seconds.saturating_sub(issued);
    if seconds < limits.minimum_seconds.max(1) {
        return Err(too_short(expiry.clamp, seconds, limits.minimum_seconds));
    }
    Ok(expiry)
}

/// The refusal of a life that is too short.
pub fn too_short(clamp: Clamp, seconds: u64, minimum: u64) -> Refusal {
    match clamp {
        Clamp::LeaseCeiling => Refusal::CeilingReached,
        Clamp::Requested
        | Clamp::Tier
        | Clamp::Grant
        | Clamp::TaskDeadline
        | Clamp::CallerCredential
        | Clamp::SigningKey => Refusal::TtlBelowMinimum { clamp, seconds, minimum },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(limits: &[(Clamp, Limit)]) -> Limits {
        Limits { limits: limits.to_vec(), minimum_seconds: 10 }
    }

    #[test]
    fn the_first_listed_limit_wins_a_tie() {
        let now = Stamp::from_seconds(1_000);
        let tied = limits(&[(Clamp::Requested, Limit::After(60)), (Clamp::Tier, Limit::At(1_060))]);
        let expiry = clamp(now, now, &tied).unwrap();
        assert_eq!(expiry, Expiry { expires_seconds: 1_060, clamp: Clamp::Requested });
    }

    #[test]
    fn class_04_renewal_within_a_second_of_the_ceiling_is_refused() {
        let first = Stamp::from_seconds(1_000);
        let near = Stamp::saturating_from_micros(4_599_999_999);
        let all = limits(&[
            (Clamp::Tier, Limit::After(300)),
            (Clamp::LeaseCeiling, Limit::AfterFirstIssue(3_600)),
        ]);
        assert_eq!(clamp(near, first, &all), Err(Refusal::CeilingReached));
        let past = Stamp::from_seconds(9_999);
        assert_eq!(clamp(past, first, &all), Err(Refusal::CeilingReached));
    }

    #[test]
    fn class_04_no_limit_at_all_issues_nothing() {
        let now = Stamp::from_seconds(1_000);
        assert!(clamp(now, now, &limits(&[])).is_err());
        let zero = Limits { limits: vec![(Clamp::Requested, Limit::After(0))], minimum_seconds: 0 };
        assert!(clamp(now, now, &zero).is_err(), "a credential that is born dead");
    }

    proptest! {
        #[test]
        fn class_04_expiry_is_never_past_any_limit(
            now in 0u64..1 << 53, first in 0u64..1 << 53,
            spans in proptest::collection::vec(prop_oneof![any::<u64>(), u64::MAX - 99..=u64::MAX, 0u64..9_999], 7),
            minimum in 0u64..100,
        ) {
            let now = Stamp::saturating_from_micros(now);
            let first = Stamp::saturating_from_micros(first);
            let list: Vec<_> = Clamp::ALL.into_iter().zip(&spans).enumerate().map(|(i, (clamp, n))| match i % 3 {
                0 => (clamp, Limit::After(*n)),
                1 => (clamp, Limit::At(*n)),
                _ => (clamp, Limit::AfterFirstIssue(*n)),
            }).collect();
            let all = Limits { limits: list, minimum_seconds: minimum };
            if let Ok(expiry) = clamp(now, first, &all) {
                for (_, limit) in &all.limits {
                    let end = match limit {
                        Limit::After(s) => u128::from(now.seconds()) + u128::from(*s),
                        Limit::At(s) => u128::from(*s),
                        Limit::AfterFirstIssue(s) => u128::from(first.seconds()) + u128::from(*s),
                    };
                    prop_assert!(u128::from(expiry.expires_seconds) <= end);
                }
                prop_assert!(expiry.expires_seconds > now.seconds());
                prop_assert!(expiry.expires_seconds - now.seconds() >= minimum);
            }
        }
    }
}
