//! Numbers on everything that callers can make grow.

use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::broker::error::BrokerError;
use crate::domain::principal::Principal;
use crate::domain::time::Span;

/// The limits of configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How deep a tree grows; 8 by default, 16 at most.
    pub depth: usize,
    /// Living children of a task; 64 by default, 4,096 at most.
    pub fan_out: u32,
    /// Instances of a task; 1,024 at most.
    pub instances: u32,
    /// How long the record of an ended task is kept.
    pub ended_task_retention: Span,
    /// Calls a second from one principal at one broker.
    pub requests_per_second: NonZeroU32,
}

/// Calls of each principal, counted by this broker alone.
pub(super) struct Rates {
    limiter: DefaultKeyedRateLimiter<Principal>,
    limit: NonZeroU32,
}

impl Rates {
    pub(super) fn new(limit: NonZeroU32) -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_second(limit)), limit }
    }

    /// Counts one call.
    pub(super) fn count(&self, principal: &Principal) -> Result<(), BrokerError> {
        self.limiter.check_key(principal).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            BrokerError::RateLimited {
                limit: self.limit.get(),
                retry_after_millis: Span::from(wait).millis().max(1),
            }
        })
    }

    /// Forgets principals that have not called for a while.
    pub(super) fn prune(&self) {
        self.limiter.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_18_one_principal_cannot_spend_another_s_rate() {
        let rates = Rates::new(NonZeroU32::new(2).unwrap());
        let [one, other] = ["spiffe://td/a", "spiffe://td/A"].map(|t| Principal::parse(t).unwrap());
        assert!(rates.count(&one).is_ok());
        assert!(rates.count(&one).is_ok());
        let refused = rates.count(&one);
        assert!(matches!(refused, Err(BrokerError::RateLimited { limit: 2, .. })));
        assert!(rates.count(&other).is_ok());
    }
}
