//! Events: what a commit says that it did. Feed and audit of state changes are read from these.

use crate::domain::id::{LeaseId, TaskId};
use crate::domain::lattice::Entry;
use crate::domain::task::State;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A root task began.
    TaskBegun,
    /// A child was delegated.
    TaskDelegated,
    /// A task went into a new epoch.
    TaskAdvanced,
    /// A task was suspended.
    TaskSuspended,
    /// A task was resumed.
    TaskResumed,
    /// A task ended.
    TaskEnded,
    /// A credential was issued under a new lease.
    CredentialIssued,
    /// A credential was issued under a living lease.
    CredentialRenewed,
    /// A lease was given back.
    LeaseReleased,
    /// A lease was revoked.
    LeaseRevoked,
    /// A scope was quarantined.
    Quarantined,
    /// A quarantine was lifted.
    QuarantineLifted,
    /// The partition opened in a new incarnation.
    IncarnationBegun,
}

/// An event before its commit, which adds stamp, incarnation and the rest of FORMATS.md's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// 64 random bits.
    pub tag: u64,
    /// SHA-256 of the request id; `None` for what the broker did by itself.
    pub operation: Option<[u8; 32]>,
    /// What happened.
    pub kind: EventKind,
    /// The lattice entries that the commit writes.
    pub entries: Vec<Entry>,
    /// Canonical principal, or `broker`.
    pub actor: String,
    /// Why, as whoever did it said.
    pub cause: String,
    /// The task concerned.
    pub task: Option<TaskId>,
    /// Its state after the commit.
    pub state: Option<State>,
    /// The lease concerned.
    pub lease: Option<LeaseId>,
    /// Id of the issued credential.
    pub jti: Option<[u8; 16]>,
    /// Certificate that a renewed credential is bound to, where it changed.
    pub key_thumbprint: Option<[u8; 32]>,
}

impl Event {
    /// Whether somebody waits to hear of it: it kills something, or a task is in another state. An issued credential interests
    /// nobody at once.
    pub fn is_awaited(&self) -> bool {
        !self.entries.is_empty() || self.state.is_some()
    }

    /// What the broker did by itself, to nothing in particular.
    pub fn of_broker(tag: u64, kind: EventKind, cause: &str) -> Self {
        Self {
            tag,
            operation: None,
            kind,
            entries: Vec::new(),
            actor: "broker".to_owned(),
            cause: cause.to_owned(),
            task: None,
            state: None,
            lease: None,
            jti: None,
            key_thumbprint: None,
        }
    }
}
