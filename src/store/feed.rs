//! What the feed asks of a store: counted reads of partitions, and the registry of brokers (DESIGN.md section 5).

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Meta, Recorded, StoreError};
use crate::domain::feed::{BrokerRecord, InstanceId, ReadPosition, StoreId};
use crate::domain::id::Partition;
use crate::domain::path::Origin;
use crate::domain::time::Stamp;

/// The store's part of the feed. Nothing here waits for a commit, nor holds one up.
#[async_trait]
pub trait Feed: Send + Sync {
    /// One partition at one instant: how it stands, and at most `limit` events after a position; from a closed one too.
    ///
    /// # Errors
    /// [`StoreError::OtherStore`], or another one.
    async fn page(
        &self,
        partition: Partition,
        after: Option<ReadPosition>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Writes a broker's record over its earlier one. When it answers, the node of partition 0 is confirmed: a majority of its
    /// copies has the record, and the partition is open in the incarnation that comes back.
    ///
    /// # Errors
    /// [`StoreError::Closed`], [`StoreError::OtherStore`]; or another one: then the record may be there or not, and nothing is confirmed.
    async fn beat(&self, record: &BrokerRecord) -> Result<Stamp, StoreError>;

    /// Every broker's record, and the incarnation of partition 0 that they lie in, at one instant.
    ///
    /// # Errors
    /// [`StoreError::Closed`] while partition 0 is closed: what its server lost may be a registration. Or another one.
    async fn brokers(&self) -> Result<(Stamp, Vec<BrokerRecord>), StoreError>;

    /// Removes the record of a broker whose beat still is the one given; `false` if it is not there so any more.
    ///
    /// # Errors
    /// [`StoreError::Closed`]; or another one: then the record may be there or not.
    async fn forget(&self, broker: InstanceId, beat: u64) -> Result<bool, StoreError>;

    /// Which store this was when it was opened: told to verifiers, and to nobody else. `None`: it is older than such ids.
    fn identity(&self) -> Option<StoreId>;

    /// The first incarnation that partition 0 of this store ever had, where nothing but a start of this process begins another, and
    /// so none of its brokers is of an earlier one. `None` elsewhere, and where it is not known.
    fn first(&self) -> Option<Stamp> {
        None
    }

    /// Changes whenever something was committed in a partition that [`Event::is_awaited`], and whenever the registry was written:
    /// a reason to look, and never more. The first change comes as soon as it is watched: who looks then, and after each one that
    /// follows, misses nothing; but what other processes write may be told late, or not at all.
    ///
    /// [`Event::is_awaited`]: crate::domain::event::Event::is_awaited
    fn changes(&self, of: Changed) -> watch::Receiver<u64>;
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Changed {
    /// Something in a partition that somebody waits for.
    Partition(Partition),
    /// The registry of brokers.
    Registry,
}

/// A part of a partition's events.
#[derive(Clone, Debug)]
pub struct Page {
    /// How the partition stood at that instant.
    pub meta: Meta,
    /// The events asked for.
    pub events: Continuity,
    /// Whether there are more of them; so it is said where the reader must load the set, too.
    pub more: bool,
    /// The newest event of the partition; `None`: there is none.
    pub head: Option<ReadPosition>,
}

/// Whether the events go on from where the reader stands.
#[derive(Clone, Debug)]
pub enum Continuity {
    /// Those after its position, oldest first.
    Continued(Vec<Recorded>),
    /// The event at its position is gone, has another tag, or the reader stands nowhere: it must load the whole set, after the head and
    /// before the events that follow it.
    Broken,
}

/// The events after a position, and whether there are more of them, from at most `limit + 2` events that begin where it was.
// INVARIANT (log matching): events count only behind the reader's own one, which is known by its stamp, incarnation and tag.
pub(in crate::store) fn split(
    events: Vec<Recorded>,
    after: Option<ReadPosition>,
    limit: usize,
) -> (Continuity, bool) {
    let mut events = events.into_iter();
    if after.is_none() || events.next().as_ref().map(position) != after {
        return (Continuity::Broken, true);
    }
    let more = events.len() > limit;
    (Continuity::Continued(events.take(limit).collect()), more)
}

/// Where a reader stands that has read this event.
pub fn position(event: &Recorded) -> ReadPosition {
    let at = Origin { incarnation: event.incarnation, stamp: event.stamp };
    ReadPosition { at, tag: event.event.tag }
}
