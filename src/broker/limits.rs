//! Numbers on everything that callers can make grow.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock, QuantaInstant};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};

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
    /// Tokens of ours a second that strangers may show at one broker to end them.
    pub shown_tokens_per_second: NonZeroU32,
    /// What one address may show, tokens or not.
    pub shown_tokens_per_second_per_address: NonZeroU32,
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
        limiter
            .check_key(principal)
            .map_err(|not_until| limited("requests from this principal", self.limit, &not_until))
    }

    /// Forgets principals that have not called for a while.
    pub(super) fn prune(&self) {
        self.endings.retain_recent();
        self.others.retain_recent();
    }
}

/// Tokens that are shown to end them, by whoever has them: nobody is asked who he is, so each address counts for one. What is a token
/// at all costs a signature to find out, and a living one a commit; all of those together are bounded, and by nothing that is none.
pub(super) struct Strangers {
    by_address: DefaultKeyedRateLimiter<IpAddr>,
    all: DefaultDirectRateLimiter,
    limits: (NonZeroU32, NonZeroU32),
}

/// A stranger whose turn it is. It is the right to show one token.
#[derive(Debug)]
pub struct Stranger(());

impl Strangers {
    pub(super) fn new(limits: &Limits) -> Self {
        let (most, share) =
            (limits.shown_tokens_per_second, limits.shown_tokens_per_second_per_address);
        Self {
            by_address: RateLimiter::keyed(Quota::per_second(share)),
            all: RateLimiter::direct(Quota::per_second(most)),
            limits: (most, share),
        }
    }

    /// Counts what an address shows, whatever it is.
    pub(super) fn count(&self, address: IpAddr) -> Result<Stranger, BrokerError> {
        let (_, share) = self.limits;
        let own = self.by_address.check_key(&address);
        own.map_err(|until| {
            limited("tokens shown to be revoked from this address", share, &until)
        })?;
        Ok(Stranger(()))
    }

    /// Counts a token, whoever shows it.
    // INVARIANT (garbage costs nobody else): what no key of ours signed takes nothing of what all have together.
    pub(super) fn count_token(&self, _by: Stranger) -> Result<(), BrokerError> {
        let (most, _) = self.limits;
        let all = self.all.check();
        all.map_err(|until| limited("tokens shown to be revoked by anybody", most, &until))
    }

    /// Forgets addresses that have shown none for a while.
    pub(super) fn prune(&self) {
        self.by_address.retain_recent();
    }
}

fn limited(
    what: &'static str,
    limit: NonZeroU32,
    not_until: &NotUntil<QuantaInstant>,
) -> BrokerError {
    let wait = not_until.wait_time_from(DefaultClock::default().now());
    let retry_after_millis = Span::from(wait).millis().max(1);
    BrokerError::RateLimited { what, limit: limit.get(), retry_after_millis }
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

    fn strangers(most: u32, share: u32) -> Strangers {
        let number = |n| NonZeroU32::new(n).unwrap();
        Strangers::new(&Limits {
            shown_tokens_per_second: number(most),
            shown_tokens_per_second_per_address: number(share),
            ..crate::testing::world::settings().limits
        })
    }

    #[test]
    fn class_15_one_address_shows_no_more_tokens_than_its_share_and_takes_nothing_of_the_others() {
        let strangers = strangers(100, 2);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        // Far more often than could be made good by the time that it takes.
        let taken = (0..1_000).filter(|_| strangers.count(one).is_ok()).count();
        assert!((2..10).contains(&taken), "{taken}");
        let refused = strangers.count(one).unwrap_err();
        assert!(refused.to_string().contains("from this address than 2 a second"), "{refused}");
        assert!(strangers.count(other).is_ok());
    }

    #[test]
    fn class_15_all_addresses_together_show_no_more_tokens_than_there_may_be() {
        let strangers = strangers(3, 2);
        let addresses = (0..1_000u32).map(|n| IpAddr::from(n.to_be_bytes()));
        let shown: Vec<_> = addresses.map(|address| strangers.count(address).unwrap()).collect();
        let taken: Vec<_> = shown.into_iter().map(|by| strangers.count_token(by)).collect();
        let count = taken.iter().filter(|taken| taken.is_ok()).count();
        assert!((3..15).contains(&count), "{count}");
        let limited = |taken: &Result<(), BrokerError>| {
            taken.as_ref().is_err_and(|e| e.to_string().contains("by anybody than 3 a second"))
        };
        assert!(taken.iter().any(limited));
    }
}
