//! A task below its ancestors: the effective state, and who acts for whom.

use std::sync::Arc;

use crate::domain::id::TaskId;
use crate::domain::path::Path;
use crate::domain::principal::Principal;
use crate::domain::refusal::Refusal;
use crate::domain::scope::{Reach, Scope, scopes_of};
use crate::domain::task::{Agent, State, Task};
use crate::domain::time::Stamp;

/// A task and all its ancestors, as they were read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    ancestors: Vec<Arc<Task>>,
    own: Arc<Task>,
}

/// The effective state of a task, and what made it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The state that counts.
    pub state: State,
    /// The ancestor that made it so; `None` if the task itself did.
    pub cause: Option<TaskId>,
}

impl Line {
    /// Puts a task below its ancestors, root first; `None` unless these are exactly the ones that its record names.
    pub fn new(ancestors: Vec<Task>, own: Task) -> Option<Self> {
        Self::shared(ancestors.into_iter().map(Arc::new).collect(), Arc::new(own))
    }

    /// The same of tasks that others hold too.
    pub fn shared(ancestors: Vec<Arc<Task>>, own: Arc<Task>) -> Option<Self> {
        let same = ancestors.len() == own.lineage.len()
            && ancestors.iter().zip(&own.lineage).all(|(task, hop)| task.id == hop.task);
        same.then_some(Self { ancestors, own })
    }

    /// The task itself.
    pub fn own(&self) -> &Task {
        &self.own
    }

    /// Its ancestors, root first.
    pub fn ancestors(&self) -> &[Arc<Task>] {
        &self.ancestors
    }

    /// Its parent.
    pub fn parent(&self) -> Option<&Task> {
        self.ancestors.last().map(AsRef::as_ref)
    }

    /// Every task of the line, root first.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.ancestors.iter().chain(std::iter::once(&self.own)).map(AsRef::as_ref)
    }

    /// The effective state at `now`: its own if ended; else Cancelled if an ancestor ended or dropped this line; else
    /// Suspended if an ancestor is; else its own. A task whose last command lies before `floor` is Suspended. What is
    /// recorded counts before what the sweeper will find.
    pub fn standing(&self, floor: Stamp, now: Stamp) -> Standing {
        if self.own.state.is_ended() {
            return Standing { state: self.own.state, cause: None };
        }
        let cancelled = |task: &Task| Standing { state: State::Cancelled, cause: Some(task.id) };
        if let Some(task) = self.dropped_by() {
            return cancelled(task);
        }
        let own = self.own.state_at(now);
        if own.is_ended() {
            return Standing { state: own, cause: None };
        }
        if let Some(task) = self.ancestors.iter().find(|task| task.state_at(now).is_ended()) {
            return cancelled(task);
        }
        if let Some(task) = self.ancestors.iter().find(|task| task.is_suspended(floor, now)) {
            return Standing { state: State::Suspended, cause: Some(task.id) };
        }
        let state = if self.own.is_suspended(floor, now) { State::Suspended } else { own };
        Standing { state, cause: None }
    }

    /// The ancestor, nearest to the root, that is recorded to have ended, or to have dropped this line by an advance.
    pub fn dropped_by(&self) -> Option<&Task> {
        let mut above = self.ancestors.iter().zip(&self.own.lineage);
        above
            .find(|(task, hop)| task.state.is_ended() || task.branch_floor > hop.counter)
            .map(|(task, _)| task.as_ref())
    }

    /// That credentials may be issued, or children delegated.
    ///
    /// # Errors
    /// [`Refusal::TaskEnded`] or [`Refusal::TaskSuspended`].
    pub fn must_be_active(&self, floor: Stamp, now: Stamp) -> Result<(), Refusal> {
        let standing = self.must_live(floor, now)?;
        if standing.state == State::Suspended {
            return Err(self.suspended(standing.cause));
        }
        Ok(())
    }

    /// That the task has not ended; its standing.
    ///
    /// # Errors
    /// [`Refusal::TaskEnded`]
    pub fn must_live(&self, floor: Stamp, now: Stamp) -> Result<Standing, Refusal> {
        let standing = self.standing(floor, now);
        if standing.state.is_ended() {
            return Err(Refusal::TaskEnded(standing.state));
        }
        Ok(standing)
    }

    fn suspended(&self, cause: Option<TaskId>) -> Refusal {
        Refusal::TaskSuspended(match cause {
            Some(_) => "an ancestor is; it must be resumed first",
            None if self.own.suspended_by_operator => {
                "an operator did it, and an operator resumes it"
            }
            None => "its orchestrator resumes it with ResumeTask",
        })
    }

    /// The first instant at which a task of the line is due: the commit refuses from then on.
    pub fn due_at(&self) -> Option<Stamp> {
        self.tasks().filter_map(Task::due_at).min()
    }

    /// The task of the line that is due at `now`, nearest to the root.
    pub fn overdue(&self, now: Stamp) -> Option<&Task> {
        self.tasks().find(|task| task.due_at().is_some_and(|due| due <= now))
    }

    /// The earliest deadline of the line.
    pub fn deadline(&self) -> Stamp {
        self.tasks().map(|task| task.deadline).min().unwrap_or_default()
    }

    /// The path of a credential that is committed now.
    pub fn path(&self) -> Path {
        self.own.path(self.ancestors.iter().map(AsRef::as_ref))
    }

    /// Who acts, from the root's agent to `caller`, where there is one: equal neighbours once. An ancestor's actor is who
    /// delegated the next task of the line. Where that was its orchestrator, it is the ancestor's agent; of a pattern the
    /// instance that was first pinned, and nobody before that.
    pub fn actors(&self, caller: Option<&Principal>) -> Vec<Principal> {
        let mut actors: Vec<Principal> =
            self.above().filter_map(|agents| agents.first().copied().cloned()).collect();
        actors.extend(caller.cloned());
        actors.dedup();
        actors
    }

    /// The scopes that reach a credential of `caller` for this task, or reach the task itself: agents, classes, issuers, trust domains, the
    /// orchestrator entry. Tier, key and `all` follow from the credential itself.
    // INVARIANT (reach of the line): whoever the authority of this task came through is in its reach.
    pub fn reach(&self, caller: Option<&Principal>) -> Vec<Reach> {
        let mut scopes: Vec<Scope> = vec![Scope::Orchestrator(self.own.orchestrator.clone())];
        scopes.extend(self.tasks().map(|task| Scope::Class(task.class.clone())));
        let agents = self.above().flatten();
        scopes.extend(agents.chain(caller).flat_map(scopes_of));
        scopes.extend(self.tasks().flat_map(|task| task.agent.scopes()));
        let mut reach: Vec<Reach> = scopes.iter().map(Scope::reach).collect();
        reach.sort_unstable();
        reach.dedup();
        reach
    }

    /// For each ancestor, root first, the agents through whom this line hangs on it: the one that delegated, else all that
    /// hold it by now.
    fn above(&self) -> impl Iterator<Item = Vec<&Principal>> {
        let below = self.ancestors.iter().skip(1).chain(std::iter::once(&self.own));
        self.ancestors.iter().zip(below).map(|(task, below)| {
            match (&below.delegated_by, &task.agent) {
                (Some(delegator), _) => vec![delegator],
                (None, Agent::One(principal)) => vec![principal],
                (None, Agent::Pattern(_) | Agent::Class(_)) => {
                    task.pins.iter().map(|pin| &pin.principal).collect()
                }
            }
        })
    }
}
