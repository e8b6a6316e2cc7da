//! The feed: pages of events, and the registry of brokers, over a connection that neither waits for issuing nor holds an ending up.

use async_trait::async_trait;
use tokio::sync::watch;

use super::RedisStore;
use super::keys::Keys;
use super::read::{event, meta};
use super::script::{Call, Reply, array, unexpected};
use crate::domain::feed::{BrokerRecord, InstanceId, ReadPosition, StoreId};
use crate::domain::id::Partition;
use crate::domain::time::Stamp;
use crate::store::codec_broker::{broker, broker_bytes};
use crate::store::feed::{position, split};
use crate::store::{Changed, Feed, Page, StoreError};

/// No page is longer: while a script runs, the server does nothing else.
const LONGEST: usize = 10_000;

#[async_trait]
impl Feed for RedisStore {
    async fn page(
        &self,
        partition: Partition,
        after: Option<ReadPosition>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let (keys, limit) = (Keys(partition), limit.min(LONGEST));
        let mut call = self.call([keys.meta(), keys.events()]);
        // The event at the position itself, and one more than wanted, say whether the page goes on and whether there is more.
        call.maybe(after.map(|after| after.at.stamp)).length(limit.saturating_add(2));
        let value = self.feed.run(&self.scripts.page, &call).await?;
        let (_, mut reply) = Reply::parse(value, partition)?;
        let meta = meta(&mut reply)?;
        self.saw(partition, meta.stamp);
        let mut events =
            || array(reply.next()?)?.into_iter().map(event).collect::<Result<Vec<_>, _>>();
        let (events, newest) = (events()?, events()?);
        let head = newest.last().or(events.last()).map(position);
        let (events, more) = split(events, after, limit);
        Ok(Page { meta, events, more, head })
    }

    /// One server is a majority of its copies. If it loses the record, it restarted, and the partition gets another incarnation:
    /// by that the broker learns that it is not registered.
    async fn beat(&self, record: &BrokerRecord) -> Result<Stamp, StoreError> {
        let mut call = self.registry();
        call.arg(record.instance.to_string()).arg(broker_bytes(record));
        let value = self.feed.run(&self.scripts.beat, &call).await?;
        Reply::parse(value, Partition::ZERO)?.1.stamp()
    }

    async fn brokers(&self) -> Result<(Stamp, Vec<BrokerRecord>), StoreError> {
        let (incarnation, values) = self.records("").await?;
        let records = values.iter().map(|value| broker(value)).collect::<Result<_, _>>()?;
        Ok((incarnation, records))
    }

    async fn forget(&self, instance: InstanceId, beat: u64) -> Result<bool, StoreError> {
        let Some(known) = self.records(&instance.to_string()).await?.1.pop() else {
            return Ok(false);
        };
        if broker(&known)?.beat != beat {
            return Ok(false);
        }
        let mut call = self.registry();
        call.arg(instance.to_string()).arg(known);
        let value = self.feed.run(&self.scripts.forget, &call).await?;
        match Reply::parse(value, Partition::ZERO)?.0.as_str() {
            "forgotten" => Ok(true),
            "moved" => Ok(false),
            _ => Err(unexpected("an unknown word")),
        }
    }

    fn identity(&self) -> Option<StoreId> {
        self.identity
    }

    fn changes(&self, of: Changed) -> watch::Receiver<u64> {
        self.hints.watch(of, self.constants.partitions)
    }
}

impl RedisStore {
    /// A call of a script about the registry.
    pub(super) fn registry(&self) -> Call {
        let keys = Keys(Partition::ZERO);
        self.call([keys.meta(), keys.brokers()])
    }

    /// The record of one broker, or of every one.
    async fn records(&self, instance: &str) -> Result<(Stamp, Vec<Vec<u8>>), StoreError> {
        let mut call = self.registry();
        call.arg(instance);
        let value = self.feed.run(&self.scripts.brokers, &call).await?;
        let (_, mut reply) = Reply::parse(value, Partition::ZERO)?;
        Ok((reply.stamp()?, reply.values()?.into_iter().flatten().collect()))
    }
}
