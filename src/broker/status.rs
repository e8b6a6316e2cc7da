//! What operators look at: tiers, partitions, quarantines; and whether the broker can do its work.

use futures_util::future::try_join_all;

use crate::broker::Broker;
use crate::broker::access::{Caller, Rpc};
use crate::broker::error::BrokerError;
use crate::domain::feed::{BrokerRecord, InstanceId};
use crate::domain::id::Partition;
use crate::domain::tier::Tier;
use crate::domain::time::{Span, Stamp};
use crate::store::{Entries, Meta, Query};
use crate::telemetry::metrics;

/// So far the broker's time and the store's may be apart. More than is ever forgiven to the clock of who issues identities
/// means that this broker and others judge the same caller differently. No credential and no task lives the longer for any
/// difference: all their times are the store's.
pub const MAX_SKEW: Span = Span::from_seconds(60);

/// The broker and its store.
#[derive(Clone, Debug)]
pub struct Status {
    /// Every partition, in order.
    pub partitions: Vec<(Partition, Meta)>,
    /// When this broker started.
    pub started: Stamp,
    /// Texts of the scopes whose block stands.
    pub quarantined_scopes: Vec<String>,
    /// Every broker over the store, with how long its beat was seen to stand still.
    pub brokers: Vec<(BrokerRecord, Span)>,
    /// This broker.
    pub instance: InstanceId,
    /// A view of this age is fresh for nothing.
    pub delta_max: Span,
}

/// What keeps the broker from its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hindrance {
    /// A partition of the store waits to be recovered.
    #[error("a part of the store is closed")]
    Closed,
    /// The broker takes for over what is not.
    #[error(
        "this broker's clock is {} s ahead of the store's, so it refuses what is alive: correct whichever is wrong, then restart the broker, whose time does not go back",
        .0.seconds()
    )]
    Ahead(Span),
    /// The broker's TLS takes for valid what is over, and not for valid what is new.
    #[error("this broker's clock is {} s behind the store's: correct whichever is wrong", .0.seconds())]
    Behind(Span),
}

impl Broker {
    /// The tiers of the configuration.
    ///
    /// # Errors
    /// The caller is no operator.
    pub fn tiers(&self, caller: &Caller) -> Result<Vec<Tier>, BrokerError> {
        caller.admit(Rpc::ListTiers)?;
        Ok(self.settings.tiers.clone())
    }

    /// How the broker and its store stand.
    ///
    /// # Errors
    /// The caller is no operator, or the store did not answer.
    pub async fn status(&self, caller: &Caller) -> Result<Status, BrokerError> {
        caller.admit(Rpc::GetStatus)?;
        let partitions = self.parts.upkeep.constants().partitions;
        let snapshots = try_join_all(partitions.all().map(|partition| {
            self.read_even_closed(Query::new(partition, vec![], Entries::Blocks))
        }));
        let (mut metas, mut quarantined_scopes) = (vec![], vec![]);
        for (partition, snapshot) in partitions.all().zip(snapshots.await?) {
            metas.push((partition, snapshot.meta));
            let standing = snapshot.blocks.into_iter().filter(|(_, count)| count % 2 == 1);
            quarantined_scopes.extend(standing.map(|(scope, _)| scope.to_string()));
        }
        quarantined_scopes.sort_unstable();
        quarantined_scopes.dedup();
        let settings = self.parts.feed.settings();
        Ok(Status {
            partitions: metas,
            started: self.started,
            quarantined_scopes,
            brokers: self.parts.feed.brokers_now().await?,
            instance: settings.identity.instance,
            delta_max: settings.terms.delta_max,
        })
    }

    /// What keeps the broker from its work, if anything does: a closed partition, or a clock that is more than [`MAX_SKEW`]
    /// away from the store's. The metric `leasehold_clock_skew_seconds` shows any difference.
    ///
    /// # Errors
    /// The store's.
    pub async fn hindrance(&self) -> Result<Option<Hindrance>, BrokerError> {
        let partitions = self.parts.upkeep.constants().partitions;
        let before = self.now();
        let snapshots =
            try_join_all(partitions.all().map(|partition| {
                self.read_even_closed(Query::new(partition, vec![], Entries::None))
            }))
            .await?;
        // What the reading took counts for neither side.
        let after = self.parts.clock.now();
        let presents = || snapshots.iter().map(|snapshot| snapshot.meta.now);
        let ahead = presents().map(|store| before.since(store)).max().unwrap_or_default();
        let behind = presents().map(|store| store.since(after)).max().unwrap_or_default();
        metrics::clock_skew(ahead.to_std(), behind.to_std());
        Ok(if snapshots.iter().any(|snapshot| !snapshot.meta.open) {
            Some(Hindrance::Closed)
        } else if ahead > MAX_SKEW {
            Some(Hindrance::Ahead(ahead))
        } else if behind > MAX_SKEW {
            Some(Hindrance::Behind(behind))
        } else {
            None
        })
    }
}
