//! Decisions: a task below its ancestors, a command, a time; out comes the change, or why not.

use crate::domain::event::EventKind;
use crate::domain::grant::Grant;
use crate::domain::lattice::{Entry, Fence};
use crate::domain::line::Line;
use crate::domain::path::{Counter, Hop};
use crate::domain::principal::Name;
use crate::domain::refusal::Refusal;
use crate::domain::task::{Agent, Pin, State, Task};
use crate::domain::time::Stamp;

/// Why a task is recorded as Cancelled that nobody cancelled.
const ANCESTOR_ENDED: &str = "an ancestor ended";
/// How many missed heartbeat intervals are silence.
pub const SILENT_INTERVALS: u64 = 3;

/// What is asked of a task.
#[derive(Clone, Debug)]
pub enum Command {
    /// The task changed.
    Advance(Advance),
    /// Wait.
    Suspend {
        /// Why.
        reason: String,
        /// Whether an operator says it.
        by_operator: bool,
    },
    /// Go on.
    Resume {
        /// The epoch that the caller means.
        expected_epoch: u64,
        /// Whether an operator says it.
        by_operator: bool,
    },
    /// The work is over, in one of the states that a caller can end it in.
    End {
        /// Completed, Failed, Cancelled or Revoked.
        state: State,
        /// Why.
        reason: String,
    },
    /// The orchestrator is still there.
    Heartbeat,
    /// A deadline or silence may have passed.
    Sweep,
}

/// What changes when a task advances; `None` is as before.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The epoch that the caller means.
    pub expected_epoch: u64,
    /// The new grant.
    pub grant: Option<Grant>,
    /// The new step.
    pub step: Option<String>,
    /// The new checkpoint.
    pub checkpoint: Option<Vec<u8>>,
    /// The agent that takes over, and its class.
    pub agent: Option<(Agent, Name)>,
    /// Children live on.
    pub keep_children: bool,
}

/// What a decision writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The task after it.
    pub task: Task,
    /// The parent after it, where that changes too.
    pub parent: Option<Task>,
    /// What it kills.
    pub entries: Vec<Entry>,
    /// What to announce; `None` where nobody needs to know.
    pub kind: Option<EventKind>,
}

/// What comes of a command that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write this.
    Change(Box<Change>),
    /// It is so already: the answer is the first result.
    Already,
}

/// Decides a command on a task.
///
/// # Errors
/// A [`Refusal`]: ended, suspended, another epoch, a wider grant, an operator's suspension.
pub fn decide(
    line: &Line,
    command: Command,
    floor: Stamp,
    now: Stamp,
) -> Result<Decision, Refusal> {
    match command {
        Command::Advance(advance) => self::advance(line, advance, floor, now),
        Command::Suspend { reason, by_operator } => suspend(line, reason, by_operator, floor, now),
        Command::Resume { expected_epoch, by_operator } => {
            resume(line, expected_epoch, by_operator, floor, now)
        }
        Command::End { state, reason } => end(line, state, reason, floor, now),
        Command::Heartbeat => heartbeat(line, floor, now),
        Command::Sweep => sweep(line, floor, now),
    }
}

/// Begins a child under a task's living branch: the parent gains a child.
///
/// # Errors
/// The parent is not active or in another epoch, the grant is wider, or the tree would grow past `max_depth` levels
/// below its root or `max_fan_out` living children.
pub fn delegate(
    line: &Line,
    mut child: Task,
    expected_epoch: u64,
    limits: (usize, u32),
    (floor, now): (Stamp, Stamp),
) -> Result<Change, Refusal> {
    let (max_depth, max_fan_out) = limits;
    line.must_be_active(floor, now)?;
    must_be_epoch(line.own(), expected_epoch)?;
    must_fit(&child.grant, line.own())?;
    let mut parent = line.own().clone();
    if parent.depth() >= max_depth {
        return Err(Refusal::invalid(
            "parent_task_id",
            format!(
                "lies {max_depth} levels below its root already; do the work in the parent task"
            ),
        ));
    }
    if parent.live_children >= max_fan_out {
        return Err(Refusal::invalid(
            "parent_task_id",
            format!("the task has {max_fan_out} living children already; end one first"),
        ));
    }
    parent.live_children = parent.live_children.saturating_add(1);
    child.lineage = parent.lineage.clone();
    child.lineage.push(Hop { task: parent.id, counter: parent.branch });
    child.orchestrator = parent.orchestrator.clone();
    // INVARIANT (child within parent): deadline, Δ and grant of a child never exceed its parent's.
    child.deadline = child.deadline.min(line.deadline());
    child.freshness = child.freshness.min(parent.freshness);
    Ok(Change {
        task: child,
        parent: Some(parent),
        entries: vec![],
        kind: Some(EventKind::TaskDelegated),
    })
}

/// Pins an instance to its task; `None` if it is pinned already.
///
/// # Errors
/// [`Refusal::InstanceMismatch`] if the task has as many instances as it may.
pub fn pin(task: &Task, pin: Pin) -> Result<Option<Task>, Refusal> {
    if task.pins.contains(&pin) {
        return Ok(None);
    }
    if task.pins.len() >= usize::try_from(task.instances).unwrap_or(usize::MAX) {
        return Err(Refusal::InstanceMismatch);
    }
    let mut pinned = task.clone();
    pinned.pins.push(pin);
    Ok(Some(pinned))
}

fn advance(line: &Line, advance: Advance, floor: Stamp, now: Stamp) -> Result<Decision, Refusal> {
    line.must_be_active(floor, now)?;
    must_be_epoch(line.own(), advance.expected_epoch)?;
    if advance.keep_children && (advance.grant.is_some() || advance.agent.is_some()) {
        return Err(Refusal::invalid(
            "keep_children",
            "children cannot outlive a change of grant or agent; leave `keep_children` out",
        ));
    }
    let mut task = line.own().clone();
    if let Some(grant) = advance.grant {
        if let Some(parent) = line.parent() {
            must_fit(&grant, parent)?;
        }
        task.grant = grant;
    }
    if let Some((agent, class)) = advance.agent {
        task.agent = agent;
        task.class = class;
        task.pins.clear();
    }
    task.step = advance.step.unwrap_or(task.step);
    task.checkpoint = advance.checkpoint.unwrap_or(task.checkpoint);
    // INVARIANT (epoch monotonic): every change raises the epoch by one.
    task.epoch = task.epoch.raised();
    if !advance.keep_children {
        task.branch = task.branch.raised();
        task.branch_floor = task.branch;
        task.live_children = 0;
    }
    commanded(&mut task, now);
    let fence = Fence { epoch: task.epoch, branch: task.branch };
    let entries = vec![Entry::Fence(task.id, fence)];
    Ok(change(task, None, entries, Some(EventKind::TaskAdvanced)))
}

fn suspend(
    line: &Line,
    reason: String,
    by_operator: bool,
    floor: Stamp,
    now: Stamp,
) -> Result<Decision, Refusal> {
    line.must_live(floor, now)?;
    let own = line.own();
    if own.state == State::Suspended {
        if own.suspended_by_operator || !by_operator {
            return Ok(Decision::Already);
        }
        let task = Task { suspended_by_operator: true, reason, ..own.clone() };
        return Ok(change(task, None, vec![], Some(EventKind::TaskSuspended)));
    }
    let mut task = suspended(own.clone(), reason, by_operator);
    commanded(&mut task, now);
    let entries = vec![fence_of(&task)];
    Ok(change(task, None, entries, Some(EventKind::TaskSuspended)))
}

/// Raises epoch and branch by one and leaves the floor: credentials below are dead for good, the tasks live on.
fn suspended(mut task: Task, reason: String, by_operator: bool) -> Task {
    task.state = State::Suspended;
    task.epoch = task.epoch.raised();
    task.branch = task.branch.raised();
    task.silence_at = None;
    task.reason = reason;
    task.suspended_by_operator = by_operator;
    task
}

fn resume(
    line: &Line,
    expected_epoch: u64,
    by_operator: bool,
    floor: Stamp,
    now: Stamp,
) -> Result<Decision, Refusal> {
    let standing = line.must_live(floor, now)?;
    let own = line.own();
    must_be_epoch(own, expected_epoch)?;
    if !own.is_suspended(floor, now) {
        return match standing.cause {
            Some(_) => Err(Refusal::TaskSuspended("an ancestor is; it must be resumed first")),
            None => Ok(Decision::Already),
        };
    }
    if own.suspended_by_operator && !by_operator {
        return Err(Refusal::TaskSuspended("an operator did it, and an operator resumes it"));
    }
    let mut task = own.clone();
    task.state = State::Active;
    task.suspended_by_operator = false;
    task.reason = String::new();
    commanded(&mut task, now);
    Ok(change(task, None, vec![], Some(EventKind::TaskResumed)))
}

fn end(
    line: &Line,
    state: State,
    reason: String,
    floor: Stamp,
    now: Stamp,
) -> Result<Decision, Refusal> {
    let own = line.own();
    if own.state == state {
        return Ok(Decision::Already);
    }
    if state == State::Cancelled && !own.state.is_ended() && line.dropped_by().is_some() {
        // It has ended in just this way; the sweeper had not written it down yet.
        return Ok(ended(line, State::Cancelled, ANCESTOR_ENDED.to_owned()));
    }
    line.must_live(floor, now)?;
    Ok(ended(line, state, reason))
}

fn ended(line: &Line, state: State, reason: String) -> Decision {
    let mut task = line.own().clone();
    task.state = state;
    task.reason = reason;
    task.silence_at = None;
    task.live_children = 0;
    task.commanded = None;
    let parent = line.parent().zip(task.parent()).and_then(|(parent, hop)| {
        let counted = !parent.state.is_ended() && hop.counter >= parent.branch_floor;
        let live_children = parent.live_children.checked_sub(1).filter(|_| counted)?;
        Some(Task { live_children, ..parent.clone() })
    });
    let entries = vec![Entry::Fence(task.id, Fence::ended())];
    change(task, parent, entries, Some(EventKind::TaskEnded))
}

/// Below a suspended task heartbeats go on: what was suspended is the work, and silence is about who drives it.
fn heartbeat(line: &Line, floor: Stamp, now: Stamp) -> Result<Decision, Refusal> {
    let mut task = line.own().clone();
    let standing = line.standing(floor, now).state;
    if standing != State::Suspended || task.is_suspended(floor, now) {
        line.must_be_active(floor, now)?;
    }
    if task.heartbeat.is_none() {
        return Err(Refusal::invalid(
            "task_id",
            "the task was begun without `heartbeat_interval`; nobody waits for a heartbeat",
        ));
    }
    commanded(&mut task, now);
    Ok(change(task, None, vec![], None))
}

fn sweep(line: &Line, floor: Stamp, now: Stamp) -> Result<Decision, Refusal> {
    let own = line.own();
    let standing = line.standing(floor, now);
    if own.state.is_ended() || own.due_at().is_none_or(|due| now < due) {
        return Ok(Decision::Already);
    }
    let silence = format!("{SILENT_INTERVALS} heartbeats were missed");
    match standing.state {
        State::Active | State::Suspended => {
            let task = suspended(own.clone(), silence, false);
            let entries = vec![fence_of(&task)];
            Ok(change(task, None, entries, Some(EventKind::TaskSuspended)))
        }
        State::Cancelled => Ok(ended(line, State::Cancelled, ANCESTOR_ENDED.to_owned())),
        State::Failed => Ok(ended(line, State::Failed, silence)),
        state => Ok(ended(line, state, "the deadline passed".to_owned())),
    }
}

/// A command came: it is the orchestrator's last one, and a sign of life.
fn commanded(task: &mut Task, now: Stamp) {
    task.commanded = None;
    if task.state == State::Active {
        task.silence_at = task.heartbeat.map(|interval| now.plus(interval.times(SILENT_INTERVALS)));
    }
}

fn fence_of(task: &Task) -> Entry {
    Entry::Fence(task.id, Fence { epoch: task.epoch, branch: task.branch })
}

fn must_be_epoch(task: &Task, expected: u64) -> Result<(), Refusal> {
    if task.epoch == Counter::new(expected) {
        return Ok(());
    }
    Err(Refusal::EpochStale { expected, current: task.epoch.get() })
}

fn must_fit(grant: &Grant, parent: &Task) -> Result<(), Refusal> {
    match grant.first_wider(&parent.grant) {
        None => Ok(()),
        Some(entry) => Err(Refusal::GrantWidens(format!(
            "the entry for `{}` fits into no entry of task {}",
            entry.audience(),
            parent.id
        ))),
    }
}

fn change(
    task: Task,
    parent: Option<Task>,
    entries: Vec<Entry>,
    kind: Option<EventKind>,
) -> Decision {
    Decision::Change(Box::new(Change { task, parent, entries, kind }))
}

#[cfg(test)]
mod tests;
