//! What a verb that takes something away has written, and how far it is from there: RECORDED, FENCED, DRAINED (DESIGN.md
//! section 5, Ending).
//!
//! ```text
//!  commit ─▶ merge (own memory, own verifiers) ─▶ recorded (still there?) ─▶ the verb answers ─▶ enforced (the caller waits)
//! ```

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::broker::commit::Commanded;
use crate::broker::error::BrokerError;
use crate::broker::tasks::TaskView;
use crate::domain::id::Partition;
use crate::domain::lattice::{Entry, Fence};
use crate::domain::path::Origin;
use crate::domain::task::Task;
use crate::domain::time::{Span, Stamp};
use crate::feed::{Confirmed, Outcome, WaitFor};

/// A revocation that is RECORDED. The verb that made it answers with it; whoever called decides how long to wait for more.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// When it was known to be RECORDED, and not only committed: what reads the store has seen it since.
    pub recorded_at: Stamp,
    confirmed: Confirmed,
}

impl Broker {
    /// Waits until a revocation is as far as `wait_for`: `wait` at most if that is said, and `at_most` in any case. What is not
    /// reached by then is no error.
    pub async fn enforced(
        &self,
        revoked: &Revoked,
        wait_for: WaitFor,
        wait: Option<Span>,
        at_most: Span,
    ) -> Outcome {
        let feed = &self.parts.feed;
        let outcome = feed.enforced(&revoked.confirmed, wait_for, wait, at_most).await;
        let no_earlier = |at: Stamp| at.max(revoked.recorded_at);
        Outcome {
            recorded_at: revoked.recorded_at,
            fenced_at: outcome.fenced_at.map(no_earlier),
            drained_at: outcome.drained_at.map(no_earlier),
            ..outcome
        }
    }

    /// Takes over what was committed at `at` into this broker's own memory.
    pub(super) fn merge(&self, partition: Partition, at: Origin, entries: &[Entry]) {
        self.parts.feed.merge(partition, at, entries);
    }

    /// The answer of a verb that raised the fence of a task.
    pub(super) async fn task_revoked(
        &self,
        done: Commanded,
    ) -> Result<(TaskView, Revoked), BrokerError> {
        let Commanded { task, line, at } = done;
        let partition = task.id.partition();
        // A replay may have reached another broker than the commit did.
        self.merge(partition, at, &[Entry::Fence(task.id, fence_of(&task))]);
        let revoked = self.revoked([(partition, at)].into(), task.freshness).await?;
        Ok((self.view_of(task, &line), revoked))
    }

    /// What was written is RECORDED, after it was merged. `delta`: the largest Δ of what it kills.
    ///
    /// # Errors
    /// [`BrokerError::NotDurable`]: the store is not any more what it was written to.
    pub(super) async fn revoked(
        &self,
        written: BTreeMap<Partition, Origin>,
        delta: Span,
    ) -> Result<Revoked, BrokerError> {
        let committed_at = written.values().map(|at| at.stamp).max().unwrap_or_default();
        let confirmed = self.parts.feed.recorded(written, delta).await?;
        // The store's clock made the one, this machine's the other.
        Ok(Revoked { recorded_at: confirmed.at.max(committed_at), confirmed })
    }
}

/// The fence that a task's record stands for.
fn fence_of(task: &Task) -> Fence {
    if task.state.is_ended() {
        return Fence::ended();
    }
    Fence { epoch: task.epoch, branch: task.branch }
}
