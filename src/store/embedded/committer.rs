//! The one thread that writes. It takes what waits as a group, applies each commit over the ones before it, writes all in
//! one atomic batch, syncs once, and only then answers. A group ends early when an ending comes, which is of the next one.

use std::collections::BTreeSet;
use std::sync::Arc;

use fjall::Keyspace;

use crate::broker::seams::Clock;
use crate::domain::event::Event;
use crate::domain::time::{Span, Stamp};
use crate::store::changes::Changes;
use crate::store::embedded::compaction::Compaction;
use crate::store::embedded::feed::{Durable, beat, forget};
use crate::store::embedded::prune::prune;
use crate::store::embedded::queue::{Job, Jobs, Queue, Reply};
use crate::store::embedded::rows::{Rows, Transaction};
use crate::store::embedded::writes::apply;
use crate::store::{Changed, Outcome, StoreError};

const FAILED: &str = "a write to the disk failed; look at the disk, then restart the broker";

/// Writes rows atomically and returns once they are as durable as they must be.
pub(super) type Sync = Box<dyn FnMut(Rows, Durable) -> Result<(), StoreError> + Send>;

/// The writing end of the store.
pub(super) struct Committer {
    pub(super) queue: Arc<Queue>,
    pub(super) changes: Arc<Changes>,
    pub(super) tree: Keyspace,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) delta_max: Span,
    pub(super) compaction: Arc<Compaction>,
    pub(super) sync: Sync,
}

/// An answer that waits until what it rests on is durable.
enum Answer {
    Commit(Reply<Outcome>, Result<Outcome, StoreError>),
    Prune(Reply<()>, Result<(), StoreError>),
    Beat(Reply<Stamp>, Result<Stamp, StoreError>),
    Forget(Reply<bool>, Result<bool, StoreError>),
}

/// What a group writes, and what follows from it.
#[derive(Default)]
struct Group {
    rows: Rows,
    /// Some of the rows must be on the disk.
    is_durable: bool,
    changed: BTreeSet<Changed>,
    answers: Vec<Answer>,
}

impl Committer {
    /// Works until the queue is closed, or until a write fails.
    pub(super) fn run(mut self) {
        let _fails_closed = FailsClosed(Arc::clone(&self.queue));
        while let Some(group) = self.queue.next_group() {
            let Group { rows, is_durable, changed, answers } = self.apply(group);
            let durable = if is_durable { Durable::Yes } else { Durable::Process };
            // INVARIANT (answered is durable): nobody hears of a commit, nor of a refusal that rests on one, before the sync.
            let synced = if rows.is_empty() { Ok(()) } else { (self.sync)(rows, durable) };
            if let Err(error) = synced {
                tracing::error!(%error, "the embedded store stops: {FAILED}");
                self.queue.fail(FAILED);
                answers.into_iter().for_each(Answer::refuse);
                return;
            }
            changed.into_iter().for_each(|changed| self.changes.tell(changed));
            answers.into_iter().for_each(Answer::send);
        }
    }

    /// Does the endings, and then what is ordinary for as long as no other ending comes.
    fn apply(&self, Jobs { ending, mut ordinary }: Jobs) -> Group {
        let mut group = Group::default();
        self.apply_to(&mut group, ending);
        while let Some(job) = ordinary.pop_front() {
            self.apply_to(&mut group, [job]);
            self.queue.take_back(&mut ordinary);
        }
        group
    }

    fn apply_to(&self, group: &mut Group, jobs: impl IntoIterator<Item = Job>) {
        for job in jobs {
            let mut transaction = Transaction::new(&self.tree, &group.rows);
            let own = match job {
                Job::Commit(commit, reply) => {
                    let outcome = apply(&mut transaction, &commit, self.clock.now());
                    let done = matches!(outcome, Ok(Outcome::Done(_)));
                    let own = done.then_some((transaction.own, Durable::Yes));
                    if done && commit.event.as_ref().is_some_and(Event::is_awaited) {
                        group.changed.insert(Changed::Partition(commit.partition));
                    }
                    group.answers.push(Answer::Commit(reply, outcome));
                    own
                }
                Job::Prune(partition, now, reply) => {
                    let pruned = prune(&mut transaction, partition, now, self.delta_max);
                    self.compaction.count(transaction.own.removed());
                    let own = pruned.is_ok().then_some((transaction.own, Durable::Yes));
                    group.answers.push(Answer::Prune(reply, pruned));
                    own
                }
                Job::Beat(record, reply) => {
                    let beat = beat(&mut transaction, &record);
                    let own = beat.as_ref().ok().map(|(_, durable)| (transaction.own, *durable));
                    group.changed.insert(Changed::Registry);
                    group
                        .answers
                        .push(Answer::Beat(reply, beat.map(|(incarnation, _)| incarnation)));
                    own
                }
                Job::Forget(broker, beat, reply) => {
                    let forgot = forget(&mut transaction, broker, beat);
                    let own = forgot.is_ok().then_some((transaction.own, Durable::Process));
                    group.changed.insert(Changed::Registry);
                    group.answers.push(Answer::Forget(reply, forgot));
                    own
                }
            };
            if let Some((own, durable)) = own {
                group.is_durable |= durable == Durable::Yes;
                group.rows.extend(own);
            }
        }
    }
}

impl Answer {
    fn send(self) {
        // Whoever asked may have given up; what is durable stays.
        match self {
            Self::Commit(reply, outcome) => drop(reply.send(outcome)),
            Self::Prune(reply, pruned) => drop(reply.send(pruned)),
            Self::Beat(reply, beat) => drop(reply.send(beat)),
            Self::Forget(reply, forgot) => drop(reply.send(forgot)),
        }
    }

    fn refuse(self) {
        let error = || StoreError::Unavailable(FAILED.to_owned());
        match self {
            Self::Commit(reply, _) => drop(reply.send(Err(error()))),
            Self::Prune(reply, _) => drop(reply.send(Err(error()))),
            Self::Beat(reply, _) => drop(reply.send(Err(error()))),
            Self::Forget(reply, _) => drop(reply.send(Err(error()))),
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
