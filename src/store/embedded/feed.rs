//! The feed of one process: events of one instant of the disk, and the registry as rows of partition 0.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::feed::{BrokerRecord, InstanceId, ReadPosition, StoreId};
use crate::domain::id::Partition;
use crate::domain::time::Stamp;
use crate::store::codec_broker::{broker, broker_bytes};
use crate::store::codec_event;
use crate::store::embedded::EmbeddedStore;
use crate::store::embedded::keys;
use crate::store::embedded::queue::Job;
use crate::store::embedded::reads::meta;
use crate::store::embedded::rows::{Source, Transaction, View};
use crate::store::embedded::state::State;
use crate::store::feed::{position, split};
use crate::store::{Changed, Feed, Lane, Page, StoreError};

/// Events of a page that are read sooner than another thread would begin to read them.
const SHORT_PAGE: usize = 32;

#[async_trait]
impl Feed for EmbeddedStore {
    async fn page(
        &self,
        partition: Partition,
        after: Option<ReadPosition>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let clock = self.clock.now();
        if limit <= SHORT_PAGE {
            return page(&self.view(), partition, (after, limit), clock);
        }
        self.scan(move |view| page(view, partition, (after, limit), clock)).await
    }

    /// With the endings: it is small, and they wait for it.
    async fn beat(&self, record: &BrokerRecord) -> Result<Stamp, StoreError> {
        let record = Box::new(record.clone());
        self.job(Lane::Ending, |reply| Job::Beat(record, reply)).await
    }

    async fn brokers(&self) -> Result<(Stamp, Vec<BrokerRecord>), StoreError> {
        self.scan(brokers).await
    }

    async fn forget(&self, broker: InstanceId, beat: u64) -> Result<bool, StoreError> {
        self.job(Lane::Ending, |reply| Job::Forget(broker, beat, reply)).await
    }

    /// The time at which it was first opened, in microseconds.
    fn identity(&self) -> Option<StoreId> {
        self.first.and_then(|first| StoreId::from_number(first.micros()))
    }

    fn first(&self) -> Option<Stamp> {
        self.first
    }

    fn changes(&self, of: Changed) -> watch::Receiver<u64> {
        self.changes.watch_at_once(of)
    }
}

fn page(
    view: &View,
    partition: Partition,
    (after, limit): (Option<ReadPosition>, usize),
    clock: Stamp,
) -> Result<Page, StoreError> {
    let meta = meta(view, partition, clock)?;
    let all = keys::events(partition);
    let head = view.last_below(&all)?.map(|row| codec_event::event(&row)).transpose()?;
    let mut events = Vec::new();
    if let Some(after) = after {
        let before = after.at.stamp.micros().saturating_sub(1).to_be_bytes();
        for row in view.below(&all, &before, limit.saturating_add(2)) {
            events.push(codec_event::event(&row?.1)?);
        }
    }
    let (events, more) = split(events, after, limit);
    Ok(Page { meta, events, more, head: head.as_ref().map(position) })
}

fn brokers(view: &View) -> Result<(Stamp, Vec<BrokerRecord>), StoreError> {
    let state = State::read(view, Partition::ZERO)?;
    let rows = view.below(&keys::brokers(), &[], usize::MAX);
    let records = rows.map(|row| broker(&row?.1)).collect::<Result<_, _>>()?;
    Ok((state.incarnation, records))
}

/// Whether a write must be on the disk before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// Yes.
    Yes,
    /// It survives the process, but not the machine.
    ///
    /// Only for the registry. Losing its newest state takes a start of this process, and so a new incarnation of partition 0: then
    /// no acknowledgement counts until every verifier that this state could have spoken of has lapsed (fencing, rule 13).
    Process,
}

/// Writes a record over the earlier one. The first of an instance waits for the disk: it is what makes a registration.
pub(super) fn beat(
    rows: &mut Transaction<'_>,
    record: &BrokerRecord,
) -> Result<(Stamp, Durable), StoreError> {
    let state = State::read(rows, Partition::ZERO)?;
    let key = keys::broker(record.instance);
    let durable = if rows.get(&key)?.is_some() { Durable::Process } else { Durable::Yes };
    rows.own.put(key, broker_bytes(record));
    Ok((state.incarnation, durable))
}

/// Removes a record whose beat is still this one.
pub(super) fn forget(
    rows: &mut Transaction<'_>,
    instance: InstanceId,
    beat: u64,
) -> Result<bool, StoreError> {
    let key = keys::broker(instance);
    let Some(row) = rows.get(&key)? else { return Ok(false) };
    let stands = broker(&row)?.beat == beat;
    if stands {
        rows.own.remove(key);
    }
    Ok(stands)
}
