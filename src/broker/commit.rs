//! The loop around every commit: decide on what is known, commit, and decide again where that was behind.

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::access::Caller;
use crate::broker::error::BrokerError;
use crate::broker::request::{Idempotency, hash};
use crate::domain::clamp::too_short;
use crate::domain::decide::{Advance, Change, Command, Decision, decide};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{Partition, TaskId};
use crate::domain::line::Line;
use crate::domain::path::Origin;
use crate::domain::refusal::Refusal;
use crate::domain::scope::{Reach, Scope};
use crate::domain::task::Task;
use crate::domain::time::{Span, Stamp};
use crate::store::{
    Answer, AnswerKey, Commit, Denial, Entries, Guard, Lane, Outcome, Query, Receipt, Record,
    RecordKey, Replay, Subject, Write, Written, codec,
};
use crate::telemetry::metrics;

/// How often a decision is made anew before the caller is told to try again.
const ATTEMPTS: usize = 16;
/// How long answers are kept that no task keeps (FORMATS.md).
const ANSWERS_KEPT: Span = Span::from_seconds(24 * 3_600);

/// What became of a commit that was not refused.
pub(super) enum Committed {
    /// It is written.
    Done(Receipt),
    /// It was answered before.
    Replayed(Box<Answer>),
}

/// A task as a command left it.
pub(super) struct Commanded {
    /// The task.
    pub(super) task: Task,
    /// What it was decided with.
    pub(super) line: Line,
    /// Where the change lies, in the incarnation in which it was seen to be there.
    pub(super) at: Origin,
}

/// What an attempt asks for next.
pub(super) enum Attempt {
    /// Done, one way or the other.
    Settled(Committed),
    /// What was known was behind: read again and decide again.
    Again,
    /// A task of the line was due.
    Overdue,
}

impl Broker {
    /// Where the answer to a caller's request lies.
    pub(super) fn answer_key(&self, caller: &Caller, id: &Idempotency) -> AnswerKey {
        let principal = caller.identity().principal().as_str();
        hash(&[principal.as_bytes(), id.request_id().as_bytes()])
    }

    /// How a request of a caller is kept from acting twice.
    pub(super) fn replay(
        &self,
        caller: &Caller,
        id: &Idempotency,
        subject: Subject<Written>,
    ) -> Replay {
        Replay {
            key: self.answer_key(caller, id),
            request_hash: id.request_hash(),
            subject,
            keep_until: Some(self.store_now().plus(ANSWERS_KEPT)),
            checked: false,
        }
    }

    /// The answer that a request got before, and the incarnation that it is there in.
    ///
    /// # Errors
    /// [`Refusal::RequestIdReused`] if the id came with another request.
    pub(super) async fn answered(
        &self,
        (partition, lane): (Partition, Lane),
        caller: &Caller,
        id: &Idempotency,
    ) -> Result<Option<(Answer, Stamp)>, BrokerError> {
        let key = RecordKey::Answer(self.answer_key(caller, id));
        let query = Query::new(partition, vec![key], Entries::None).on(lane);
        let snapshot = self.read(query).await?;
        let found = snapshot.records.into_iter().flatten().next();
        let Some(Record::Answer(answer)) = found else { return Ok(None) };
        if answer.request_hash != id.request_hash() {
            return Err(Refusal::RequestIdReused.into());
        }
        Ok(Some((*answer, snapshot.meta.incarnation)))
    }

    /// The answer to a request that was told to be a replay, and where its commit stands in what lives of the partition.
    pub(super) async fn answered_before(
        &self,
        at: (Partition, Lane),
        (caller, id): (&Caller, &Idempotency),
    ) -> Result<(Answer, Origin), BrokerError> {
        let answered = self.answered(at, caller, id).await?;
        let (answer, incarnation) = answered.ok_or(BrokerError::NotDurable)?;
        let at = Origin { incarnation, stamp: answer.origin.stamp };
        Ok((answer, at))
    }

    /// Draws random bytes.
    pub(super) fn random<const N: usize>(&self) -> Result<[u8; N], BrokerError> {
        let mut bytes = [0; N];
        self.parts.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// An event of the caller's, or of the broker's own.
    pub(super) fn event(
        &self,
        kind: EventKind,
        by: Option<(&Caller, &Idempotency)>,
        cause: &str,
    ) -> Result<Event, BrokerError> {
        let event = Event::of_broker(u64::from_be_bytes(self.random()?), kind, cause);
        Ok(match by {
            None => event,
            Some((caller, id)) => Event {
                operation: Some(hash(&[id.request_id().as_bytes()])),
                actor: caller.identity().principal().to_string(),
                ..event
            },
        })
    }

    /// Sends a commit, keeps the cache current, and turns denials into refusals.
    pub(super) async fn attempt(&self, commit: Commit) -> Result<Attempt, BrokerError> {
        let guards = commit.guards.clone();
        let tasks = |write: &&Write| matches!(write, Write::Task { .. } | Write::DropTask { .. });
        let written: Vec<Write> = commit.writes.iter().filter(tasks).cloned().collect();
        let (partition, entries) = (commit.partition, commit.entries().to_vec());
        let minimum = commit.times.as_ref().map_or(0, |times| times.limits.minimum_seconds);
        let lane = match commit.lane {
            Lane::Ordinary => "commit",
            Lane::Ending => "ending",
        };
        let began = self.parts.clock.elapsed();
        let outcome = self.parts.store.commit(commit).await;
        let took = self.parts.clock.elapsed().micros().saturating_sub(began.micros());
        let took = Span::from_micros(took).to_std();
        metrics::commit_answered(lane, outcome.as_ref().map_or("error", Outcome::name), took);
        match outcome? {
            Outcome::Done(receipt) => {
                self.now.hear(&*self.parts.clock, receipt.origin.stamp);
                self.merge(partition, receipt.origin, &entries);
                for write in written {
                    self.remember(write, receipt.origin.stamp);
                }
                Ok(Attempt::Settled(Committed::Done(receipt)))
            }
            Outcome::Replayed(answer) => Ok(Attempt::Settled(Committed::Replayed(answer))),
            Outcome::Stale(records) => {
                let moved = |((_, record), guard): (&(_, Option<Record>), &Guard)| {
                    record.as_ref().map(Record::version) != guard.version
                };
                if !records.iter().zip(&guards).any(moved) {
                    // It is the floor that moved; it is read again with the line.
                    self.tasks.forget_floor(partition);
                }
                for (key, record) in records {
                    match (key, record) {
                        (_, Some(Record::Task(task))) => self.tasks.put(*task),
                        (RecordKey::Task(task), None) => self.tasks.forget(task),
                        _ => {}
                    }
                }
                Ok(Attempt::Again)
            }
            Outcome::Denied(denial) => match denial {
                Denial::Overdue => Ok(Attempt::Overdue),
                Denial::RequestIdReused => Err(Refusal::RequestIdReused.into()),
                Denial::Quarantined => Err(Refusal::Quarantined.into()),
                Denial::LeaseOver => Err(Refusal::LeaseRevoked.into()),
                Denial::KeyClaimed => Err(Refusal::ProofInvalid(
                    "the key was used for another task of this tree; make a key for each task"
                        .into(),
                )
                .into()),
                Denial::ProofShown => Err(Refusal::ProofReplayed.into()),
                Denial::TooShort { clamp, seconds } => {
                    Err(too_short(clamp, seconds, minimum).into())
                }
            },
        }
    }

    fn remember(&self, write: Write, stamp: Stamp) {
        match write {
            Write::Task { task, .. } => {
                if task.state.is_ended() {
                    metrics::task_ended(task.state.name());
                }
                self.tasks.put(codec::stamped(*task, stamp));
            }
            Write::DropTask { task, .. } => self.tasks.forget(task),
            Write::Lease(_)
            | Write::Certificate(_)
            | Write::Keyring(_)
            | Write::RevocationList(_)
            | Write::ProvedKey { .. }
            | Write::ShownProof { .. } => {}
        }
    }

    /// Decides a command on a task for a caller, commits it, and answers the task as it then is. The same request again
    /// gets the first answer.
    pub(super) async fn command(
        &self,
        by: (&Caller, &Idempotency),
        line: Line,
        command: Command,
    ) -> Result<Commanded, BrokerError> {
        let (task, lane) = (line.own().id, lane(&command));
        let mut line = line;
        for _ in 0..ATTEMPTS {
            let times = (self.floor(task.partition()), self.store_now());
            let decided = decide(&line, command.clone(), times.0, times.1);
            let change = match decided {
                Ok(Decision::Change(change)) => Some(*change),
                // That it is so already is an answer too, and kept like any other.
                Ok(Decision::Already) => None,
                Err(refusal) => {
                    if let Some((answer, incarnation)) =
                        self.answered((task.partition(), lane), by.0, by.1).await?
                        && let Subject::Task(task) = answer.subject
                    {
                        let at = Origin { incarnation, stamp: answer.origin.stamp };
                        return Ok(Commanded { task: *task, line, at });
                    }
                    let fresh = self.settle(task, lane).await?;
                    if fresh == line {
                        return Err(refusal.into());
                    }
                    line = fresh;
                    continue;
                }
            };
            let rests_on = (&line, times.0, lane);
            let mut commit = self.command_commit(by, rests_on, change.as_ref())?;
            commit.unblocked = standing_in(by.0, line.own(), &command);
            match self.attempt(commit).await? {
                Attempt::Settled(Committed::Done(receipt)) => {
                    let changed = change.map(|c| codec::stamped(c.task, receipt.origin.stamp));
                    let task = changed.unwrap_or_else(|| line.own().clone());
                    let at = Origin { stamp: task.version, ..receipt.origin };
                    return Ok(Commanded { task, line, at });
                }
                Attempt::Settled(Committed::Replayed(_)) => {
                    let (answer, at) = self.answered_before((task.partition(), lane), by).await?;
                    let Subject::Task(task) = answer.subject else {
                        return Err(Refusal::RequestIdReused.into());
                    };
                    return Ok(Commanded { task: *task, line, at });
                }
                Attempt::Again => line = self.fresh_line(task, lane).await?,
                Attempt::Overdue => line = self.settle(task, lane).await?,
            }
        }
        Err(BrokerError::Contended)
    }

    fn command_commit(
        &self,
        by: (&Caller, &Idempotency),
        (line, floor, lane): (&Line, Stamp, Lane),
        change: Option<&Change>,
    ) -> Result<Commit, BrokerError> {
        let mut commit = match change {
            Some(change) => self.change_commit((line, floor), change, Some(by))?,
            None => commit_resting_on(line, floor, lane),
        };
        let task = change.map_or(line.own(), |change| &change.task);
        // An ending is never too late: the sweeper would only end the task in another way.
        commit.before = if task.state.is_ended() { None } else { line.due_at() };
        commit.replay = Some(self.replay(by.0, by.1, Subject::Task(Box::new(task.clone()))));
        Ok(commit)
    }

    /// The commit of a change, with what it was decided on.
    pub(super) fn change_commit(
        &self,
        (line, floor): (&Line, Stamp),
        change: &Change,
        by: Option<(&Caller, &Idempotency)>,
    ) -> Result<Commit, BrokerError> {
        let lane = if change.entries.is_empty() { Lane::Ordinary } else { Lane::Ending };
        let mut commit = commit_resting_on(line, floor, lane);
        commit.writes.push(self.write(change.task.clone()));
        commit.writes.extend(change.parent.clone().map(|parent| self.write(parent)));
        if let Some(kind) = change.kind {
            let event = self.event(kind, by, &change.task.reason)?;
            commit.event = Some(Event {
                entries: change.entries.clone(),
                task: Some(change.task.id),
                state: Some(change.task.state),
                ..event
            });
        }
        Ok(commit)
    }

    /// A task's write, due when the sweeper must look at it or, once ended, when it may be dropped.
    pub(super) fn write(&self, task: Task) -> Write {
        let dropped = || self.store_now().plus(self.settings.limits.ended_task_retention);
        let due = task.due_at().unwrap_or_else(dropped);
        Write::Task { task: Box::new(task), due }
    }

    /// Does for a line what the sweeper would do now, and reads it again.
    pub(super) async fn settle(&self, task: TaskId, lane: Lane) -> Result<Line, BrokerError> {
        let line = self.fresh_line(task, lane).await?;
        let now = self.tasks.present(task.partition());
        if let Some(overdue) = line.overdue(now).map(|task| task.id) {
            self.sweep_task(overdue, now, lane).await?;
            return self.fresh_line(task, lane).await;
        }
        Ok(line)
    }

    /// Runs `build` and its commit on a line, which may be out of date, until it is settled.
    pub(super) async fn commit_on<T, F>(
        &self,
        mut line: Line,
        mut build: impl FnMut(Arc<Line>) -> F,
    ) -> Result<(Committed, T), BrokerError>
    where
        F: Future<Output = Result<(Commit, T), BrokerError>>,
    {
        let task = line.own().id;
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            let (commit, product) = match build(Arc::new(line)).await {
                Ok(built) => built,
                // A refusal on what was cached may be out of date; on what was just read it stands.
                Err(error) if fresh => return Err(error),
                Err(_) => {
                    line = self.settle(task, Lane::Ordinary).await?;
                    fresh = true;
                    continue;
                }
            };
            match self.attempt(commit).await? {
                Attempt::Settled(committed) => return Ok((committed, product)),
                Attempt::Again => line = self.line(task).await?,
                Attempt::Overdue => line = self.settle(task, Lane::Ordinary).await?,
            }
            fresh = true;
        }
        Err(BrokerError::Contended)
    }
}

/// A commit that is refused once a task of the line has moved on from what was decided on, or the floor has.
// INVARIANT (one floor): it is the one that the decision was made under. Read again here, it could have risen meanwhile, and
// what rests on lost writes would pass.
fn commit_resting_on(line: &Line, floor: Stamp, lane: Lane) -> Commit {
    let guards = line.tasks().map(guard).collect();
    Commit { guards, floor: Some(floor), ..Commit::new(line.own().id.partition(), lane) }
}

/// On which lane a command is carried out. One that turns out to have nothing left to do stays on it.
fn lane(command: &Command) -> Lane {
    match command {
        Command::Advance(_) | Command::Suspend { .. } | Command::End { .. } | Command::Sweep => {
            Lane::Ending
        }
        Command::Resume { .. } | Command::Heartbeat => Lane::Ordinary,
    }
}

/// Scopes none of which may be quarantined: of whoever drives the task on, and of the agent that takes it over. What only
/// ends or suspends is never refused for that, since it can do nothing but kill.
fn standing_in(caller: &Caller, task: &Task, command: &Command) -> Vec<Reach> {
    let driver = || caller.scopes_as_driver(&task.orchestrator);
    let scopes = match command {
        Command::Advance(Advance { agent: Some((agent, class)), .. }) => {
            let class = std::iter::once(Scope::Class(class.clone()));
            driver().into_iter().chain(agent.scopes()).chain(class).collect()
        }
        Command::Advance(_) | Command::Resume { .. } | Command::Heartbeat => driver(),
        Command::End { .. } | Command::Suspend { .. } | Command::Sweep => Vec::new(),
    };
    scopes.iter().map(Scope::reach).collect()
}

/// That a task still stands in the version it was decided on.
pub(super) fn guard(task: &Task) -> Guard {
    Guard { key: RecordKey::Task(task.id), version: Some(task.version) }
}
