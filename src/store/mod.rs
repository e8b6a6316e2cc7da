//! What the broker asks of a store, and nothing of how it is done.
//!
//! The domain decides; [`Store::commit`] writes the decision in one atomic compare-and-append, if everything that it rests on
//! is still so. A commit names the versions of the records it was decided on; if one has moved on, nothing is written and the
//! fresh records come back. All times of a credential, and the version of every record written, come from the commit's stamp.
//!
//! ```text
//!  open? → replay? → versions → due? → blocks → watermarks → lease → claims → expiry → write, index, entry, event, answer
//! ```
//!
//! The answer to an earlier request is given at `replay?`; where it is `checked`, after the claims of keys and proofs: its times stand.

pub(crate) mod changes;
pub mod codec;
pub mod codec_broker;
pub mod codec_certificate;
pub mod codec_event;
pub mod codec_lease;
pub mod embedded;
pub mod feed;
mod incarnation;
pub mod records;
pub mod redis;

use async_trait::async_trait;

use crate::domain::certificate::IssuedCertificate;
use crate::domain::event::Event;
use crate::domain::id::{LeaseId, Partition, PartitionCount, TaskId};
use crate::domain::lattice::{Entry, Lattice};
use crate::domain::scope::{Reach, Scope};
use crate::domain::time::{Span, Stamp};

pub use feed::{Changed, Continuity, Feed, Page};
pub use records::{
    Answer, AnswerKey, Commit, CredentialTimes, Denial, Guard, IssueTimes, Lane, Outcome, Receipt,
    Record, RecordKey, Replay, Subject, Write, Written,
};

/// Leases, tasks and revocations, durably, in partitions.
#[async_trait]
pub trait Store: Send + Sync {
    /// Writes a decision if all that it rests on still holds.
    ///
    /// # Errors
    /// [`StoreError`]; whether the commit happened is then unknown, and the same request id may be tried again.
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError>;

    /// Reads records and revocations of one partition at one instant; from a closed partition too.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn read(&self, query: Query) -> Result<Snapshot, StoreError>;

    /// Names in an index, in its order.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError>;
}

/// What brokers do for the store, rather than the store for brokers.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Opens every partition that is closed because its server changed: a new incarnation, `end[old]`, and the floor where
    /// loss is possible. Idempotent; any broker may do it.
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`] if a partition has no meta record: it is lost, not empty.
    async fn recover(&self) -> Result<Vec<Recovered>, StoreError>;

    /// Drops entries that can hit nothing any more and records whose time is over, and trims the events. The partition's
    /// stamp is raised to `now` first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn prune(&self, partition: Partition, now: Stamp) -> Result<(), StoreError>;

    /// Events after a stamp, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn events(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError>;

    /// Certificates that were written after a stamp, in the order of their commits, at most `limit`; expired ones may be missing.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn certificates(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<IssuedCertificate>, StoreError>;

    /// What was fixed when the store was made.
    fn constants(&self) -> Constants;
}

/// So many of the newest events of a partition are never trimmed; older ones are once they are older than twice `delta_max`.
pub const EVENTS_KEPT: u64 = 10_000;

/// How long a lease's record is kept past its expiry.
pub const LEASE_KEPT: Span = Span::from_seconds(3_600);

/// What is fixed at store init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constants {
    /// N.
    pub partitions: PartitionCount,
    /// No tier's freshness may exceed it; 1 to 300 s.
    pub delta_max: Span,
}

impl Constants {
    /// What `leasehold store init` takes if told nothing (FORMATS.md, Numbers).
    pub const DEFAULT: Self =
        Self { partitions: PartitionCount::DEFAULT, delta_max: Span::from_seconds(30) };

    /// That a store which is there is the one that was to be made.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if it was made with other constants.
    pub fn must_be(self, wanted: Self) -> Result<(), StoreError> {
        if self == wanted {
            return Ok(());
        }
        Err(StoreError::Misconfigured(format!(
            "it was made with {} partitions and a `delta_max` of {} ms, which cannot change",
            self.partitions.get(),
            self.delta_max.millis(),
        )))
    }
}

/// A partition that was recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Which.
    pub partition: Partition,
    /// The incarnation that ended; zero if there was none.
    pub old: Stamp,
    /// The one that lives.
    pub new: Stamp,
    /// Loss was possible, so everything from before is fenced.
    pub fenced: bool,
}

/// An event as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Stamp of its commit.
    pub stamp: Stamp,
    /// Incarnation of its commit.
    pub incarnation: Stamp,
    /// Until when its entries matter.
    pub keep_until: Stamp,
    /// The rest; watermarks hold the commit's origin.
    pub event: Event,
}

/// What to read of one partition, together.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which partition.
    pub partition: Partition,
    /// Records, answered in this order.
    pub records: Vec<RecordKey>,
    /// Revocation entries.
    pub entries: Entries,
    /// Behind whom it may have to wait. [`Entries::All`] is read by those on the feed, and waits for neither.
    pub lane: Lane,
}

impl Query {
    /// A query on the ordinary lane.
    pub fn new(partition: Partition, records: Vec<RecordKey>, entries: Entries) -> Self {
        Self { partition, records, entries, lane: Lane::Ordinary }
    }

    /// The same on a lane: what an ending rests on is read on its own.
    #[must_use]
    pub fn on(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }
}

/// Which entries of the lattice to read; ends and floor always come along.
#[derive(Clone, Debug, Default)]
pub enum Entries {
    /// None.
    #[default]
    None,
    /// Those that can hit one credential.
    Hitting {
        /// Tasks whose fences matter.
        tasks: Vec<TaskId>,
        /// Scopes whose watermarks and blocks matter.
        reach: Vec<Reach>,
        /// The lease.
        lease: Option<LeaseId>,
    },
    /// Those that can hit any of several credentials; [`Snapshot::raised`] says when they were made.
    Raised {
        /// Tasks whose fences matter.
        tasks: Vec<TaskId>,
        /// Scopes whose watermarks matter.
        reach: Vec<Reach>,
        /// The leases.
        leases: Vec<LeaseId>,
    },
    /// Every block.
    Blocks,
    /// The whole set.
    All,
}

/// One partition at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The partition itself.
    pub meta: Meta,
    /// The records asked for, in order; `None` where there is none.
    pub records: Vec<Option<Record>>,
    /// The entries asked for, every end, and the floor.
    pub lattice: Lattice,
    /// Every scope that was ever blocked, with its count, in order; only if the blocks or the whole set were asked for.
    pub blocks: Vec<(Scope, u64)>,
    /// The entries asked for by [`Entries::Raised`], each with the stamp of the commit that made or last raised it.
    pub raised: Vec<(Entry, Stamp)>,
}

/// The record of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Stamp of the first commit of the incarnation that lives.
    pub incarnation: Stamp,
    /// Whether it runs on the server that it belongs to.
    pub open: bool,
    /// Stamp of the last commit.
    pub stamp: Stamp,
    /// The store's clock.
    pub now: Stamp,
    /// Largest expiry ever committed.
    pub max_expiry: Stamp,
    /// Credentials of earlier incarnations are dead, and tasks last commanded before it are suspended.
    pub floor: Stamp,
}

/// A part of an index.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Which partition.
    pub partition: Partition,
    /// Which index.
    pub index: Index,
    /// Only names after this one; empty: from the start.
    pub after: String,
    /// At most so many.
    pub limit: usize,
}

/// The indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Ids of all tasks, in the order of their texts.
    Tasks,
    /// Ids of the leases of a task, in the order of their texts; expired ones may be missing.
    Leases(TaskId),
    /// Ids of tasks that are due at this time or before, earliest first; `after` is ignored.
    Due(Stamp),
}

/// Why a store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is away, slow or full; try again.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The partition's server changed and nobody has recovered it yet; try again.
    #[error("partition {0} of the store is closed until it is recovered")]
    Closed(Partition),
    /// There is no such store.
    #[error(
        "the store was never made, or a partition of it is lost: run `leasehold store init` for a new store; a store put back from a backup needs `leasehold store restored`"
    )]
    NotInitialised,
    /// It is not the one that was opened any more: that was emptied and made anew, or its address leads to another.
    #[error(
        "this is another store than the one that the broker was started over: restart the broker, or, if it is not the one that is \
         meant, correct where its address leads"
    )]
    OtherStore,
    /// A record cannot be read.
    #[error("a record of the store cannot be read: {0}")]
    Corrupt(String),
    /// The store is set up in a way that Leasehold cannot work with.
    #[error("the store is not set up as it must be: {0}")]
    Misconfigured(String),
}
