//! A store that fails on purpose: before a commit is written, or after it was, when only the answer is lost; or that is closed.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::domain::feed::{BrokerRecord, InstanceId, ReadPosition, StoreId};
use crate::domain::id::Partition;
use crate::domain::time::Stamp;
use crate::store::{
    Changed, Commit, Feed, Listing, Outcome, Page, Query, Snapshot, Store, StoreError,
};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It is not written.
    Before,
    /// It is written, and the answer is lost.
    After,
}

/// A store whose next commits and beats fail as planned, and whose reads may fail too.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    feed: Arc<dyn Feed>,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    /// For the commits to come, the next one last.
    commits: Vec<Fault>,
    /// The same for beats.
    beats: Vec<Fault>,
    reads_fail: bool,
    is_closed: bool,
}

impl FaultyStore {
    /// A store that does not fail yet.
    pub fn over(inner: Arc<dyn Store>, feed: Arc<dyn Feed>) -> Arc<Self> {
        Arc::new(Self { inner, feed, plan: Mutex::default() })
    }

    /// The next commits go like this; those after them are well.
    pub fn plan(&self, commits: &[Fault]) {
        self.plan.lock().commits = commits.iter().rev().copied().collect();
    }

    /// The next beats go like this; those after them are well.
    pub fn plan_beats(&self, beats: &[Fault]) {
        self.plan.lock().beats = beats.iter().rev().copied().collect();
    }

    /// Whether reads fail from now on.
    pub fn fail_reads(&self, fail: bool) {
        self.plan.lock().reads_fail = fail;
    }

    /// Whether every partition is closed from now on, as after a change of servers: it is read all the same.
    pub fn close(&self, closed: bool) {
        self.plan.lock().is_closed = closed;
    }

    fn must_be_open(&self, partition: Partition) -> Result<(), StoreError> {
        if self.plan.lock().is_closed { Err(StoreError::Closed(partition)) } else { Ok(()) }
    }

    fn must_read(&self) -> Result<(), StoreError> {
        if self.plan.lock().reads_fail { Err(planned()) } else { Ok(()) }
    }
}

fn planned() -> StoreError {
    StoreError::Unavailable("as the test planned".to_owned())
}

#[async_trait]
impl Store for FaultyStore {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.must_be_open(commit.partition)?;
        let fault = self.plan.lock().commits.pop().unwrap_or_default();
        match fault {
            Fault::None => self.inner.commit(commit).await,
            Fault::Before => Err(planned()),
            Fault::After => {
                self.inner.commit(commit).await?;
                Err(planned())
            }
        }
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        self.must_read()?;
        let mut snapshot = self.inner.read(query).await?;
        snapshot.meta.open &= !self.plan.lock().is_closed;
        Ok(snapshot)
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.must_read()?;
        self.inner.list(listing).await
    }
}

#[async_trait]
impl Feed for FaultyStore {
    async fn page(
        &self,
        partition: Partition,
        after: Option<ReadPosition>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.must_read()?;
        let mut page = self.feed.page(partition, after, limit).await?;
        page.meta.open &= !self.plan.lock().is_closed;
        Ok(page)
    }

    async fn beat(&self, record: &BrokerRecord) -> Result<Stamp, StoreError> {
        self.must_be_open(Partition::ZERO)?;
        let fault = self.plan.lock().beats.pop().unwrap_or_default();
        match fault {
            Fault::None => self.feed.beat(record).await,
            Fault::Before => Err(planned()),
            Fault::After => {
                self.feed.beat(record).await?;
                Err(planned())
            }
        }
    }

    async fn brokers(&self) -> Result<(Stamp, Vec<BrokerRecord>), StoreError> {
        self.must_read()?;
        self.must_be_open(Partition::ZERO)?;
        self.feed.brokers().await
    }

    async fn forget(&self, broker: InstanceId, beat: u64) -> Result<bool, StoreError> {
        self.must_be_open(Partition::ZERO)?;
        self.feed.forget(broker, beat).await
    }

    fn identity(&self) -> Option<StoreId> {
        self.feed.identity()
    }

    fn first(&self) -> Option<Stamp> {
        self.feed.first()
    }

    fn changes(&self, of: Changed) -> watch::Receiver<u64> {
        self.feed.changes(of)
    }
}
