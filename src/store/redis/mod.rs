//! Leases, tasks and revocations on one Redis server, 7.0 or later.
//!
//! A partition is a hash slot: every key has its tag `{lh:<p>}:`, so one Lua script is one atomic commit, and nothing else ever writes.
//! Scripts are files of this folder, sent by their hash. Endings have a connection of their own and run even when the server's memory
//! is full; so has the feed, and so have lists and upkeep. Redis' own TTL is for positive state only (leases, answers, ceilings, claims): losing one refuses, and allows nothing.
//!
//! ```text
//!  {lh:<p>}:  meta  record of the partition         t:<task>  l:<lease>  r:<hash>  keyring   records: header, body
//!             set   the lattice, entry by entry      c:<hash>  first issue     k:<hash>  whose key it is
//!             e     events, id <stamp>-0             due  tasks by time   tasks  by name   ls:<task>  leases of a task
//!             blocks  names of the blocks in the set     {lh:00}:brokers  the registry, instance by instance
//!             tl:<task>  leases of a task that the version before issued
//! ```
//!
//! Fields of `meta`, as decimal texts: `n`, `delta_max` (µs), `incarnation`, `stamp`, `max_exp`, `floor`; the server, as `replid`;
//! `incarnations`, those that have an end in the set; `durable`, whether nothing answered in this incarnation can be lost; and
//! `identity`, which store this is. The first broker draws it; it goes wherever the data go, and ends with them. Each script compares it
//! with the one that the broker opened: what else that has in memory is of that store, too.

mod commit;
mod connection;
mod feed;
mod hints;
mod identity;
mod keys;
mod read;
mod recovery;
mod script;
mod startup;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::runtime::Handle;

pub use self::connection::Settings;
pub use self::startup::RIGHTS;

use self::connection::{Connection, misconfigured};
use self::hints::Hints;
use self::identity::Identity;
use self::keys::Keys;
use self::recovery::Which;
use self::script::{Call, Reply, Scripts};
use crate::broker::seams::Entropy;
use crate::domain::certificate::IssuedCertificate;
use crate::domain::feed::StoreId;
use crate::domain::id::{Partition, PartitionCount};
use crate::domain::time::{Span, Stamp};
use crate::store::{
    Commit, Constants, Lane, Listing, Outcome, Query, Recorded, Recovered, Snapshot, Store,
    StoreError, Upkeep,
};

/// A store on one Redis server.
pub struct RedisStore {
    ordinary: Connection,
    /// For lists, some of which are long, and for upkeep: nobody who issues waits behind them.
    upkeep: Connection,
    ending: Connection,
    feed: Connection,
    hints: Hints,
    scripts: Scripts,
    constants: Constants,
    /// Once it is open.
    identity: Option<StoreId>,
    entropy: Arc<dyn Entropy>,
    /// The highest stamp seen of each partition.
    seen: Vec<AtomicU64>,
}

impl RedisStore {
    /// Opens a store that was made before. Its partitions may be closed still: see [`Upkeep::recover`].
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`] if there is none, [`StoreError::Misconfigured`] if the server is not set up as it must be,
    /// [`StoreError::Unavailable`].
    pub async fn connect(
        settings: &Settings,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, StoreError> {
        Self::connect_on(Handle::current(), settings, entropy).await
    }

    /// The same, where what is no ending is done on the threads of another runtime than this runs on.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_on(
        ordinary: Handle,
        settings: &Settings,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, StoreError> {
        let mut store = Self::reach(ordinary, settings, entropy).await?;
        store.constants = store.read_constants().await?;
        store.identity = Some(store.identify(Identity::Kept).await?);
        store.seen = store.constants.partitions.all().map(|_| AtomicU64::new(0)).collect();
        Ok(store)
    }

    /// Makes a store: `leasehold store init`.
    ///
    /// # Errors
    /// As [`Self::connect`]; [`StoreError::Misconfigured`] if there is a store already, which stays as it is.
    pub async fn init(
        settings: &Settings,
        constants: Constants,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(), StoreError> {
        Self::reach(Handle::current(), settings, entropy).await?.make(constants).await
    }

    /// Fences everything in a store that was put back from a backup, which is another store from then on than what else was put back
    /// from it: `leasehold store restored`. Brokers are stopped meanwhile.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn restored(
        settings: &Settings,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Vec<Recovered>, StoreError> {
        loop {
            let store = Self::connect(settings, entropy.clone()).await?;
            match store.recover_all(Which::Restored).await {
                // Somebody who did the same was faster.
                Err(StoreError::OtherStore) => {}
                recovered => {
                    let recovered = recovered?;
                    store.identify(Identity::Anew).await?;
                    return Ok(recovered);
                }
            }
        }
    }

    async fn reach(
        ordinary: Handle,
        settings: &Settings,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, StoreError> {
        let own = Handle::current();
        let store = Self {
            ordinary: Connection::new(settings, ordinary.clone())?,
            upkeep: Connection::new(settings, ordinary)?,
            ending: Connection::new(settings, own.clone())?,
            feed: Connection::new(settings, own)?,
            hints: Hints::new(settings.client()?, settings.response_timeout.to_std()),
            scripts: Scripts::new(),
            constants: Constants { partitions: PartitionCount::DEFAULT, delta_max: Span::ZERO },
            identity: None,
            entropy,
            seen: Vec::new(),
        };
        store.check_server().await?;
        Ok(store)
    }

    async fn read_constants(&self) -> Result<Constants, StoreError> {
        let call = Call::on([Keys(Partition::ZERO).meta()]);
        let value = self.ordinary.run(&self.scripts.constants, &call).await?;
        let (_, mut reply) = Reply::parse(value, Partition::ZERO)?;
        let mut values = Reply::of(reply.next()?)?;
        let count = u16::try_from(values.number()?).ok().and_then(PartitionCount::new);
        let partitions = count
            .ok_or_else(|| misconfigured("the number of partitions in the store makes no sense"))?;
        Ok(Constants { partitions, delta_max: Span::from_micros(values.number()?) })
    }

    fn saw(&self, partition: Partition, stamp: Stamp) {
        if let Some(seen) = self.seen.get(usize::from(partition.0)) {
            seen.fetch_max(stamp.micros(), Ordering::AcqRel);
        }
    }

    fn seen(&self, partition: Partition) -> Stamp {
        let seen = self.seen.get(usize::from(partition.0));
        Stamp::saturating_from_micros(seen.map_or(0, |seen| seen.load(Ordering::Acquire)))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let (connection, script) = match commit.lane {
            Lane::Ordinary => (&self.ordinary, &self.scripts.commit),
            Lane::Ending => (&self.ending, &self.scripts.ending),
        };
        let value = connection.run(script, &commit::call(self.identity, &commit)?).await?;
        let (word, mut reply) = Reply::parse(value, commit.partition)?;
        let outcome = commit::outcome(&commit, &word, &mut reply)?;
        if let Outcome::Done(receipt) = &outcome {
            self.saw(commit.partition, receipt.origin.stamp);
        }
        Ok(outcome)
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        self.read_snapshot(&query).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.list_names(&listing).await
    }
}

#[async_trait]
impl Upkeep for RedisStore {
    async fn recover(&self) -> Result<Vec<Recovered>, StoreError> {
        self.recover_all(Which::Closed).await
    }

    async fn prune(&self, partition: Partition, now: Stamp) -> Result<(), StoreError> {
        self.prune_all(partition, now).await
    }

    async fn events(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.events_after(partition, after, limit).await
    }

    async fn certificates(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<IssuedCertificate>, StoreError> {
        self.certificates_after(partition, after, limit).await
    }

    fn constants(&self) -> Constants {
        self.constants
    }
}

#[cfg(test)]
mod tests;
