//! The one thread that writes. It takes what waits as a group, applies each commit over the ones before it, writes all in
//! one atomic batch, syncs once, and only then answers.

use std::sync::Arc;

use fjall::Keyspace;

use crate::broker::seams::Clock;
use crate::domain::time::Span;
use crate::store::embedded::prune::prune;
use crate::store::embedded::queue::{Job, Queue, Reply};
use crate::store::embedded::rows::{Rows, Transaction};
use crate::store::embedded::writes::apply;
use crate::store::{Outcome, StoreError};

const FAILED: &str = "a write to the disk failed; look at the disk, then restart the broker";

/// Writes rows atomically and returns once they are durable.
pub(super) type Sync = Box<dyn FnMut(Rows) -> Result<(), StoreError> + Send>;

/// The writing end of the store.
pub(super) struct Committer {
    pub(super) queue: Arc<Queue>,
    pub(super) tree: Keyspace,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) delta_max: Span,
    pub(super) sync: Sync,
}

/// An answer that waits until what it rests on is durable.
enum Answer {
    Commit(Reply<Outcome>, Result<Outcome, StoreError>),
    Prune(Reply<()>, Result<(), StoreError>),
}

impl Committer {
    /// Works until the queue is closed, or until a write fails.
    pub(super) fn run(mut self) {
        let _fails_closed = FailsClosed(Arc::clone(&self.queue));
        while let Some(group) = self.queue.next_group() {
            let (rows, answers) = self.apply(group);
            // INVARIANT (answered is durable): nobody hears of a commit, nor of a refusal that rests on one, before the sync.
            let synced = if rows.is_empty() { Ok(()) } else { (self.sync)(rows) };
            if let Err(error) = synced {
                tracing::error!(%error, "the embedded store stops: {FAILED}");
                self.queue.fail(FAILED);
                answers.into_iter().for_each(Answer::refuse);
                return;
            }
            answers.into_iter().for_each(Answer::send);
        }
    }

    fn apply(&self, group: Vec<Job>) -> (Rows, Vec<Answer>) {
        let mut rows = Rows::default();
        let mut answers = Vec::with_capacity(group.len());
        for job in group {
            let mut transaction = Transaction::new(&self.tree, &rows);
            let (answer, own) = match job {
                Job::Commit(commit, reply) => {
                    let outcome = apply(&mut transaction, &commit, self.clock.now());
                    let done = matches!(outcome, Ok(Outcome::Done(_)));
                    (Answer::Commit(reply, outcome), done.then_some(transaction.own))
                }
                Job::Prune(partition, now, reply) => {
                    let pruned = prune(&mut transaction, partition, now, self.delta_max);
                    let done = pruned.is_ok();
                    (Answer::Prune(reply, pruned), done.then_some(transaction.own))
                }
            };
            answers.push(answer);
            if let Some(own) = own {
                rows.append(own);
            }
        }
        (rows, answers)
    }
}

impl Answer {
    fn send(self) {
        // Whoever asked may have given up; what is durable stays.
        match self {
            Self::Commit(reply, outcome) => drop(reply.send(outcome)),
            Self::Prune(reply, pruned) => drop(reply.send(pruned)),
        }
    }

    fn refuse(self) {
        let error = || StoreError::Unavailable(FAILED.to_owned());
        match self {
            Self::Commit(reply, _) => drop(reply.send(Err(error()))),
            Self::Prune(reply, _) => drop(reply.send(Err(error()))),
        }
    }
}

/// Without the thread nobody may wait for it, however it ended.
struct FailsClosed(Arc<Queue>);

impl Drop for FailsClosed {
    fn drop(&mut self) {
        self.0.fail("the embedded store has stopped; restart the broker");
    }
}

#[cfg(test)]
mod tests;
