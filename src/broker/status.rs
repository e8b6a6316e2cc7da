//! What operators look at: tiers, partitions, quarantines.

use futures_util::future::try_join_all;

use crate::broker::Broker;
use crate::broker::access::{Caller, Rpc};
use crate::broker::error::BrokerError;
use crate::domain::id::Partition;
use crate::domain::tier::Tier;
use crate::domain::time::Stamp;
use crate::store::{Entries, Meta, Query};

/// The broker and its store.
#[derive(Clone, Debug)]
pub struct Status {
    /// Every partition, in order.
    pub partitions: Vec<(Partition, Meta)>,
    /// When this broker started.
    pub started: Stamp,
    /// Texts of the scopes whose block stands.
    pub quarantined_scopes: Vec<String>,
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
            self.read_even_closed(Query { partition, records: vec![], entries: Entries::Blocks })
        }));
        let mut status =
            Status { partitions: vec![], started: self.started, quarantined_scopes: vec![] };
        for (partition, snapshot) in partitions.all().zip(snapshots.await?) {
            status.partitions.push((partition, snapshot.meta));
            let standing = snapshot.blocks.into_iter().filter(|(_, count)| count % 2 == 1);
            status.quarantined_scopes.extend(standing.map(|(scope, _)| scope.to_string()));
        }
        status.quarantined_scopes.sort_unstable();
        status.quarantined_scopes.dedup();
        Ok(status)
    }

    /// Whether every partition is open: whether the broker can do its work.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_ready(&self) -> Result<bool, BrokerError> {
        let partitions = self.parts.upkeep.constants().partitions;
        let snapshots = try_join_all(partitions.all().map(|partition| {
            self.read_even_closed(Query { partition, records: vec![], entries: Entries::None })
        }));
        Ok(snapshots.await?.iter().all(|snapshot| snapshot.meta.open))
    }
}
