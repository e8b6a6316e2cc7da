//! Numbers on everything that callers can make grow.

use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::broker::access::Rpc;
use crate::broker::error::BrokerError;
use crate::domain::principal::Principal;
use crate::domain::time::Span;

/// The limits of configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Levels of children below a root, whose depth is 0; 8 by default, 16 at most.
    pub depth: usize,
    /// Living children of a task; 64 by default, 4,096 at most.
    pub fan_out: u32,
    /// Instances of a task; 1,024 at most.
    pub instances: u32,
    /// How long the record of an ended task is kept.
    pub ended_task_retention: Span,
    /// Calls a second from one principal at one broker; endings, which are counted apart, as many again.
    pub requests_per_second: NonZeroU32,
}

/// Calls of each principal, counted by this broker alone. Who has spent its rate can still end what it began.
pub(super) struct Rates {
    endings: DefaultKeyedRateLimiter<Principal>,
    others: DefaultKeyedRateLimiter<Principal>,
    limit: NonZeroU32,
}

impl Rates {
    pub(super) fn new(limit: NonZeroU32) -> Self {
        let limiter = || RateLimiter::keyed(Quota::per_second(limit));
        Self { endings: limiter(), others: limiter(), limit }
    }

    /// Counts one call.
    pub(super) fn count(&self, principal: &Principal, rpc: Rpc) -> Result<(), BrokerError> {
        let limiter = if rpc.is_ending() { &self.endings } else { &self.others };
        limiter.check_key(principal).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            BrokerError::RateLimited {
                limit: self.limit.get(),
                retry_after_millis: Span::from(wait).millis().max(1),
            }
        })
    }

    /// Forgets principals that have not called for a while.
    pub(super) fn prune(&self) {
        self.endings.retain_recent();
        self.others.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_18_one_principal_cannot_spend_another_s_rate() {
        let rates = Rates::new(NonZeroU32::new(2).unwrap());
        let [one, other] = ["spiffe://td/a", "spiffe://td/A"].map(|t| Principal::parse(t).unwrap());
        let issue = |principal| rates.count(principal, Rpc::IssueCredential);
        assert!(issue(&one).is_ok());
        assert!(issue(&one).is_ok());
        let refused = issue(&one);
        assert!(matches!(refused, Err(BrokerError::RateLimited { limit: 2, .. })));
        assert!(issue(&other).is_ok());
    }

    #[test]
    fn class_15_who_has_spent_its_rate_can_still_end_and_nothing_is_without_limit() {
        let rates = Rates::new(NonZeroU32::MIN);
        let one = Principal::parse("spiffe://td/a").unwrap();
        assert!(rates.count(&one, Rpc::IssueCredential).is_ok());
        assert!(rates.count(&one, Rpc::RenewCredential).is_err());
        assert!(rates.count(&one, Rpc::CompleteTask).is_ok());
        assert!(rates.count(&one, Rpc::CancelTask).is_err());
    }
}
