//! The sweeper: deadlines, silence, records whose time is over, and switches that nobody finished. Any broker does it; doing it
//! twice changes nothing.
//!
//! What it does is for good, so it goes by what each partition says that its present is, and never by this machine's clock:
//! a broker that is days ahead ends nothing, and drags no partition's stamps along.

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::broker::commit::{Attempt, guard};
use crate::broker::error::BrokerError;
use crate::domain::decide::{Command, Decision, decide};
use crate::domain::id::{Partition, TaskId};
use crate::domain::refusal::Refusal;
use crate::domain::scope::Scope;
use crate::domain::task::Task;
use crate::domain::time::Stamp;
use crate::store::{Commit, Entries, Index, Lane, Listing, Query, Write};

/// How many due tasks of a partition one pass looks at.
const BATCH: usize = 256;

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Tasks that a deadline or silence acted on.
    pub acted: usize,
    /// Records of ended tasks that were dropped.
    pub dropped: usize,
}

impl Broker {
    /// One pass over every partition.
    ///
    /// # Errors
    /// The store's, after every partition was tried.
    pub async fn sweep(&self) -> Result<Swept, BrokerError> {
        let mut swept = Swept::default();
        let (mut failed, mut blocks) = (None, Vec::new());
        for partition in self.parts.upkeep.constants().partitions.all() {
            match self.sweep_partition(partition).await {
                Ok((part, blocked)) => {
                    swept.acted = swept.acted.saturating_add(part.acted);
                    swept.dropped = swept.dropped.saturating_add(part.dropped);
                    blocks.push((partition, blocked));
                }
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_none() {
            failed = self.even_out(&blocks).await.err();
        }
        self.rates.prune();
        self.strangers.prune();
        failed.map_or(Ok(swept), Err)
    }

    /// What was done, and which scopes are blocked or were.
    async fn sweep_partition(
        &self,
        partition: Partition,
    ) -> Result<(Swept, BTreeMap<Scope, u64>), BrokerError> {
        // A task that is overdue ends, however much is issued meanwhile.
        let query = Query::new(partition, vec![], Entries::Blocks).on(Lane::Ending);
        let snapshot = self.read(query).await?;
        let now = snapshot.meta.now;
        let listing =
            Listing { partition, index: Index::Due(now), after: String::new(), limit: BATCH };
        let mut swept = Swept::default();
        for name in self.parts.store.list(listing).await? {
            let Ok(task) = TaskId::parse(&name) else { continue };
            match self.sweep_task(task, now, Lane::Ending).await? {
                Some(Did::Acted) => swept.acted = swept.acted.saturating_add(1),
                Some(Did::Dropped) => swept.dropped = swept.dropped.saturating_add(1),
                None => {}
            }
        }
        self.parts.upkeep.prune(partition, now).await?;
        Ok((swept, snapshot.blocks.into_iter().collect()))
    }

    /// Does for one task what is due at `now`, which is its partition's present; `lane` is that of whoever needs it done.
    pub(super) async fn sweep_task(
        &self,
        task: TaskId,
        now: Stamp,
        lane: Lane,
    ) -> Result<Option<Did>, BrokerError> {
        let line = match self.fresh_line(task, lane).await {
            Ok(line) => line,
            // Its ancestors' records are gone, so it ended long ago.
            Err(BrokerError::Refused(Refusal::NotFound(_))) => {
                let orphan = self.find_tasks((task.partition(), lane), vec![task]).await?.pop();
                return match orphan {
                    Some(orphan) => self.drop_task(&orphan, now).await,
                    None => Ok(None),
                };
            }
            Err(error) => return Err(error),
        };
        if line.own().state.is_ended() {
            // What ended since it was found to be due is not over for long.
            let is_over = line.own().version < now;
            return if is_over { self.drop_task(line.own(), now).await } else { Ok(None) };
        }
        let floor = self.floor(task.partition());
        let Decision::Change(change) = decide(&line, Command::Sweep, floor, now)? else {
            return Ok(None);
        };
        let mut commit = self.change_commit((&line, floor), &change, None)?;
        commit.at_least = now;
        match self.attempt(commit).await? {
            Attempt::Settled(_) => Ok(Some(Did::Acted)),
            // Somebody else was there; the next pass looks again.
            Attempt::Again | Attempt::Overdue => Ok(None),
        }
    }

    async fn drop_task(&self, task: &Task, now: Stamp) -> Result<Option<Did>, BrokerError> {
        let mut commit = Commit::new(task.id.partition(), Lane::Ordinary);
        commit.guards = vec![guard(task)];
        commit.at_least = now;
        commit.writes = vec![Write::DropTask { task: task.id, answer_key: task.answer_key }];
        match self.attempt(commit).await? {
            Attempt::Settled(_) => Ok(Some(Did::Dropped)),
            Attempt::Again | Attempt::Overdue => Ok(None),
        }
    }
}

/// What a task's turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// A deadline or silence acted.
    Acted,
    /// Its record is gone.
    Dropped,
}
