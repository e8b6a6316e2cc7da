//! A store that fails on purpose: before a commit is written, or after it was, when only the answer is lost; or that is closed.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::store::{Commit, Listing, Outcome, Query, Snapshot, Store, StoreError};

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

/// A store whose next commits fail as planned, and whose reads may fail too.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    /// For the commits to come, the next one last.
    commits: Vec<Fault>,
    reads_fail: bool,
    is_closed: bool,
}

impl FaultyStore {
    /// A store that does not fail yet.
    pub fn over(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, plan: Mutex::default() })
    }

    /// The next commits go like this; those after them are well.
    pub fn plan(&self, commits: &[Fault]) {
        self.plan.lock().commits = commits.iter().rev().copied().collect();
    }

    /// Whether reads fail from now on.
    pub fn fail_reads(&self, fail: bool) {
        self.plan.lock().reads_fail = fail;
    }

    /// Whether every partition is closed from now on, as after a change of servers: it is read all the same.
    pub fn close(&self, closed: bool) {
        self.plan.lock().is_closed = closed;
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
        if self.plan.lock().is_closed {
            return Err(StoreError::Closed(commit.partition));
        }
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
