//! Tasks: what an orchestrator began for an agent, and in which state it stands (DESIGN.md section 2).

use std::collections::BTreeMap;
use std::fmt;

use crate::domain::grant::Grant;
use crate::domain::id::TaskId;
use crate::domain::path::{Counter, Hop, Path};
use crate::domain::principal::{Name, Principal, SpiffePattern};
use crate::domain::scope::{Scope, scopes_of};
use crate::domain::time::{Span, Stamp};

/// Where a task stands. Ended states are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Credentials may be issued.
    Active,
    /// Nothing is issued and nothing verifies, here and below.
    Suspended,
    /// Ended by complete.
    Completed,
    /// Ended by fail, or by silence where the tier says so.
    Failed,
    /// Ended by cancel, or because an ancestor ended.
    Cancelled,
    /// Ended by its deadline.
    Expired,
    /// Ended by an operator.
    Revoked,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Active,
        Self::Suspended,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Revoked,
    ];

    /// Whether the task is over.
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Active | Self::Suspended)
    }

    /// Its number in records and in the contract, from 1.
    pub fn number(self) -> u32 {
        match self {
            Self::Active => 1,
            Self::Suspended => 2,
            Self::Completed => 3,
            Self::Failed => 4,
            Self::Cancelled => 5,
            Self::Expired => 6,
            Self::Revoked => 7,
        }
    }

    /// The state of that number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }
}

impl State {
    /// The state in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What three missed heartbeats do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSilence {
    /// The work survives a network loss.
    Suspend,
    /// The task ends as failed.
    Fail,
}

/// Which agent a task is for, within one agent class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// This principal.
    One(Principal),
    /// Any of the class that the pattern covers.
    Pattern(SpiffePattern),
    /// Any of the class: `class:<name>`.
    Class(Name),
}

impl Agent {
    /// Reads a canonical principal, a SPIFFE pattern, or `class:<name>`; `None` if it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(class) = text.strip_prefix("class:") {
            return Name::parse(class).ok().map(Self::Class);
        }
        if text.ends_with('*') {
            return SpiffePattern::parse(text).ok().map(Self::Pattern);
        }
        Principal::parse(text).ok().map(Self::One)
    }

    /// The scopes that reach it before anybody holds a credential: itself and its trust domain or issuer, as far as it says.
    pub fn scopes(&self) -> Vec<Scope> {
        match self {
            Self::One(principal) => scopes_of(principal),
            Self::Pattern(pattern) => vec![Scope::TrustDomain(pattern.trust_domain().to_owned())],
            Self::Class(class) => vec![Scope::Class(class.clone())],
        }
    }

    /// Whether the task is for this principal, if it is of the task's class.
    pub fn covers(&self, principal: &Principal, class: &Name) -> bool {
        match self {
            Self::One(one) => one == principal,
            Self::Pattern(pattern) => pattern.matches(principal),
            Self::Class(own) => own == class,
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(principal) => principal.fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
            Self::Class(name) => write!(f, "class:{name}"),
        }
    }
}

/// An instance that holds a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Who it is.
    pub principal: Principal,
    /// Which running copy.
    pub instance: String,
}

/// A task as its record has it. Changed only by [`crate::domain::decide`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// Stamp of the commit that wrote this record; zero before the first.
    pub version: Stamp,
    /// Ancestors from the root, with the branch of each at which this line was delegated.
    pub lineage: Vec<Hop>,
    /// The role entry of the orchestrator that began the tree.
    pub orchestrator: Name,
    /// Who is to do it.
    pub agent: Agent,
    /// The agent class.
    pub class: Name,
    /// Why it is done; at most 1,024 bytes.
    pub purpose: String,
    /// Who answers for it.
    pub owner: String,
    /// At most 16 labels.
    pub labels: BTreeMap<String, String>,
    /// What its credentials may at most allow.
    pub grant: Grant,
    /// The tier.
    pub tier: Name,
    /// Δ: how old a verifier's view may be for the task's credentials; fixed at begin.
    pub freshness: Span,
    /// Where in the task the agent is; at most 63 bytes.
    pub step: String,
    /// Opaque, given to the agent; at most 4,096 bytes.
    pub checkpoint: Vec<u8>,
    /// When the task ends by itself.
    pub deadline: Stamp,
    /// How often the orchestrator says that it is there.
    pub heartbeat: Option<Span>,
    /// When silence acts: three intervals after the last sign of life.
    pub silence_at: Option<Stamp>,
    /// What silence does.
    pub on_silence: OnSilence,
    /// How many instances may hold credentials.
    pub instances: u32,
    /// The instances that do.
    pub pins: Vec<Pin>,
    /// Its own state; the effective one is [`crate::domain::line::Line::standing`].
    pub state: State,
    /// Raised by every change.
    pub epoch: Counter,
    /// What descendants' credentials hang on.
    pub branch: Counter,
    /// Children that were delegated at a lower branch have ended.
    pub branch_floor: Counter,
    /// Children that were delegated at this floor or above and have not ended by themselves.
    pub live_children: u32,
    /// Why it ended or was suspended.
    pub reason: String,
    /// Only an operator resumes it.
    pub suspended_by_operator: bool,
    /// Stamp of the first commit; `None` in a record that is yet to be committed for the first time.
    pub begun: Option<Stamp>,
    /// Stamp of the orchestrator's last command; `None` in a record whose commit is that command.
    pub commanded: Option<Stamp>,
    /// The agent that delegated it, if one did.
    pub delegated_by: Option<Principal>,
    /// Under which key the answer to its begin is stored: it lives as long as this record.
    pub answer_key: [u8; 32],
}

impl Task {
    /// The parent, with the branch at which this task was delegated.
    pub fn parent(&self) -> Option<Hop> {
        self.lineage.last().copied()
    }

    /// The root of its tree.
    pub fn root(&self) -> TaskId {
        self.lineage.first().map_or(self.id, |hop| hop.task)
    }

    /// Depth in the tree; a root has 0.
    pub fn depth(&self) -> usize {
        self.lineage.len()
    }

    /// When the sweeper must look at it: the deadline or silence, whichever is first; `None` once ended.
    pub fn due_at(&self) -> Option<Stamp> {
        match self.state {
            State::Active => {
                Some(self.silence_at.map_or(self.deadline, |silence| silence.min(self.deadline)))
            }
            State::Suspended => Some(self.deadline),
            State::Completed
            | State::Failed
            | State::Cancelled
            | State::Expired
            | State::Revoked => None,
        }
    }

    /// Its own state at `now`, as if the sweeper had just been there.
    pub fn state_at(&self, now: Stamp) -> State {
        if self.state.is_ended() {
            return self.state;
        }
        if self.deadline <= now {
            return State::Expired;
        }
        let silent = self.silence_at.is_some_and(|silence| silence <= now);
        match (self.state, self.on_silence) {
            (State::Active, OnSilence::Suspend) if silent => State::Suspended,
            (State::Active, OnSilence::Fail) if silent => State::Failed,
            (state, _) => state,
        }
    }

    /// Whether the task itself is Suspended at `now`, whatever stands above it: it was, it fell silent, or its last command
    /// lies before `floor`.
    pub fn is_suspended(&self, floor: Stamp, now: Stamp) -> bool {
        self.state_at(now) == State::Suspended
            || self.commanded.is_some_and(|commanded| commanded < floor)
    }

    /// When it ended: an ended task is not written again.
    pub fn ended_at(&self) -> Option<Stamp> {
        self.state.is_ended().then_some(self.version)
    }

    /// The path of a credential that is committed now, below these ancestors, root first.
    pub fn path<'a>(&self, ancestors: impl Iterator<Item = &'a Self>) -> Path {
        let ancestors = ancestors.map(|task| Hop { task: task.id, counter: task.branch });
        Path::new(ancestors.collect(), Hop { task: self.id, counter: self.epoch })
    }
}
