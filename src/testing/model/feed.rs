//! The feed of the store in memory.

use async_trait::async_trait;
use tokio::sync::watch;

use super::{ModelStore, Part};
use crate::domain::event::{Event, EventKind};
use crate::domain::feed::{BrokerRecord, InstanceId, ReadPosition, StoreId};
use crate::domain::id::Partition;
use crate::domain::lattice::Entry;
use crate::domain::time::Stamp;
use crate::store::feed::position;
use crate::store::{Changed, Continuity, Feed, Page, Recorded, StoreError};

#[async_trait]
impl Feed for ModelStore {
    async fn page(
        &self,
        partition: Partition,
        after: Option<ReadPosition>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let clock = self.clock.now();
        self.part(partition, |part| part.page(after, limit, clock))
    }

    async fn beat(&self, record: &BrokerRecord) -> Result<Stamp, StoreError> {
        self.brokers.lock().insert(record.instance, record.clone());
        self.changes.tell(Changed::Registry);
        self.part(Partition::ZERO, |part| part.incarnation)
    }

    async fn brokers(&self) -> Result<(Stamp, Vec<BrokerRecord>), StoreError> {
        let brokers = self.brokers.lock();
        self.part(Partition::ZERO, |part| (part.incarnation, brokers.values().cloned().collect()))
    }

    async fn forget(&self, broker: InstanceId, beat: u64) -> Result<bool, StoreError> {
        let mut brokers = self.brokers.lock();
        let stands = brokers.get(&broker).is_some_and(|record| record.beat == beat);
        if stands {
            brokers.remove(&broker);
            self.changes.tell(Changed::Registry);
        }
        Ok(stands)
    }

    fn identity(&self) -> Option<StoreId> {
        StoreId::from_number(self.first.micros())
    }

    fn first(&self) -> Option<Stamp> {
        Some(self.first)
    }

    fn changes(&self, of: Changed) -> watch::Receiver<u64> {
        self.changes.watch_at_once(of)
    }
}

impl Part {
    /// Announces the incarnation that begins.
    pub(super) fn announce(&mut self, entries: Vec<Entry>) {
        // Unlike that of any other history, as long as the clock is not set back.
        let tag = self.incarnation.micros();
        let event = Event::of_broker(tag, EventKind::IncarnationBegun, "the store was opened");
        self.keep(Event { entries, ..event });
    }

    /// Writes an event of the last commit.
    pub(super) fn keep(&mut self, event: Event) {
        let (stamp, incarnation, keep_until) = (self.stamp, self.incarnation, self.max_expiry);
        self.events.insert(stamp, Recorded { stamp, incarnation, keep_until, event });
    }

    fn page(&self, after: Option<ReadPosition>, limit: usize, clock: Stamp) -> Page {
        let known = after.and_then(|after| self.events.get(&after.at.stamp));
        let known = known.map(position).filter(|known| Some(*known) == after);
        let later = known.map(|known| self.events.range(known.at.stamp.next()..));
        Page {
            meta: self.meta(clock),
            more: later.clone().is_none_or(|later| later.count() > limit),
            events: later.map_or(Continuity::Broken, |later| {
                Continuity::Continued(later.take(limit).map(|(_, event)| event.clone()).collect())
            }),
            head: self.events.last_key_value().map(|(_, event)| position(event)),
        }
    }
}
