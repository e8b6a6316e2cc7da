//! The parts of a commit: what it rests on, what it writes, and what comes back.

use std::sync::Arc;

use crate::domain::certificate::CertificateDraft;
use crate::domain::clamp::{Clamp, Expiry, Limits, clamp};
use crate::domain::event::Event;
use crate::domain::id::{LeaseId, Partition, TaskId};
use crate::domain::lattice::Entry;
use crate::domain::lease::{Draft, Lease};
use crate::domain::path::Origin;
use crate::domain::refusal::Refusal;
use crate::domain::scope::Reach;
use crate::domain::task::Task;
use crate::domain::time::Stamp;
use crate::store::StoreError;

/// Where the answer to a request lies: SHA-256 of caller and request id, each behind its length.
pub type AnswerKey = [u8; 32];

/// The name of a record in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKey {
    /// A task.
    Task(TaskId),
    /// A lease.
    Lease(LeaseId),
    /// The sealed keyring; in partition 0.
    Keyring,
    /// The newest revocation list; in partition 0.
    RevocationList,
    /// A stored answer, but for that to an issue: it is the lease.
    Answer(AnswerKey),
}

/// A record, with the times that its commit set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A task.
    Task(Box<Task>),
    /// A lease.
    Lease(Box<Lease>),
    /// The sealed keyring and its version.
    Keyring(Vec<u8>, Stamp),
    /// The number of the newest revocation list, and the record's version.
    RevocationList(u64, Stamp),
    /// A stored answer.
    Answer(Box<Answer>),
}

impl Record {
    /// Stamp of the commit that wrote it: what a [`Guard`] names.
    pub fn version(&self) -> Stamp {
        match self {
            Self::Task(task) => task.version,
            Self::Lease(lease) => lease.origin.stamp,
            Self::Keyring(_, version) | Self::RevocationList(_, version) => *version,
            Self::Answer(answer) => answer.origin.stamp,
        }
    }
}

/// What was answered to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// SHA-256 of the request.
    pub request_hash: [u8; 32],
    /// When it was committed.
    pub origin: Origin,
    /// What it was about, as of then.
    pub subject: Subject<Box<Lease>>,
}

impl Answer {
    /// What a lease's record answers to the request that it was issued for; `None` if that has an answer of its own.
    pub(crate) fn of_issue(lease: Lease) -> Option<Self> {
        let (request_hash, origin) = (lease.draft.request?, lease.origin);
        Some(Self { request_hash, origin, subject: Subject::Lease(Box::new(lease)) })
    }
}

/// What an answer is about. Before the commit a lease is the one that is [`Written`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject<L> {
    /// A task.
    Task(Box<Task>),
    /// A lease.
    Lease(L),
    /// A scope, by its text.
    Scope(String),
}

/// The one lease that a commit writes, and where the answer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The lease is new, and [named by the request](LeaseId::of_request): its record is the answer, for as long as it is kept.
    Issued,
    /// It goes on: the answer has a record of its own.
    Renewed,
}

/// How a request is kept from acting twice.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Where its answer lies.
    pub key: AnswerKey,
    /// SHA-256 of the request; another one under the same key is refused.
    pub request_hash: [u8; 32],
    /// The answer to keep.
    pub subject: Subject<Written>,
    /// How long the answer is kept; `None`: as long as the task whose `answer_key` it is. That to an issue is kept with its lease.
    pub keep_until: Option<Stamp>,
    /// Whether a replay goes through the checks again (issue and renew) or is answered at once.
    pub checked: bool,
}

/// A record that the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Which record.
    pub key: RecordKey,
    /// The version it was read in; `None`: it must not exist.
    pub version: Option<Stamp>,
}

/// Which connections a commit or a read uses, and whom it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Issuing and everything else.
    Ordinary,
    /// Endings and quarantines, which go first.
    Ending,
}

/// Something to write.
#[derive(Clone, Debug)]
pub enum Write {
    /// A task; it is indexed under `due`, which for an ended one is when its record may be dropped, but never before the
    /// partition's `max_exp`.
    Task {
        /// The record.
        task: Box<Task>,
        /// When the sweeper must look at it.
        due: Stamp,
    },
    /// A lease, one in a commit; kept until its expiry and then some.
    Lease(Arc<Draft>),
    /// The certificate of the lease that the same commit writes: only if it [lives so long](crate::domain::certificate::is_listed)
    /// that revocation lists tell of it, and until it expires.
    Certificate(Box<CertificateDraft>),
    /// The sealed keyring.
    Keyring(Vec<u8>),
    /// The number of the newest revocation list.
    RevocationList(u64),
    /// A public key, claimed for one task of a tree. Another task's claim refuses the commit.
    ProvedKey {
        /// SHA-256 of root task id and SubjectPublicKeyInfo, each behind its length.
        key: [u8; 32],
        /// Whose it is.
        task: TaskId,
        /// How long the claim stands.
        keep_until: Stamp,
    },
    /// A DPoP proof, shown with one request. Shown with another one it refuses the commit.
    ShownProof {
        /// Its identity: SHA-256 of key, method, URI and `jti`, each behind its length.
        id: [u8; 32],
        /// SHA-256 of caller, request id and request, each behind its length.
        request: [u8; 32],
        /// How long it is remembered.
        keep_until: Stamp,
    },
    /// Removes a task's record, its place in the indexes and the stored answer of its begin.
    DropTask {
        /// Which.
        task: TaskId,
        /// Its `answer_key`.
        answer_key: AnswerKey,
    },
}

/// What the commit needs to compute a credential's times.
#[derive(Clone, Debug)]
pub struct IssueTimes {
    /// The limits, and the minimum.
    pub limits: Limits,
    /// SHA-256 of task, principal and audience, each behind its length: where first issue is kept.
    pub ceiling_key: [u8; 32],
    /// When the ceiling's record may be dropped at the earliest.
    pub ceiling_keep_until: Stamp,
    /// Origin of the lease's first credential; `None` if this is it.
    pub lease_origin: Option<Origin>,
}

impl IssueTimes {
    /// The times of a credential that is committed at `origin`.
    ///
    /// # Errors
    /// [`Denial::TooShort`]; at the ceiling its seconds are zero, since nothing that the caller does gets more.
    pub fn resolve(&self, origin: Origin, first_issue: Stamp) -> Result<CredentialTimes, Denial> {
        let expiry = clamp(origin.stamp, first_issue, &self.limits).map_err(|refusal| {
            let Refusal::TtlBelowMinimum { clamp, seconds, .. } = refusal else {
                return Denial::TooShort { clamp: Clamp::LeaseCeiling, seconds: 0 };
            };
            Denial::TooShort { clamp, seconds }
        })?;
        Ok(CredentialTimes {
            first_issue,
            lease_origin: self.lease_origin.unwrap_or(origin),
            expiry,
        })
    }
}

/// A decision, and all that it rests on.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Where.
    pub partition: Partition,
    /// How urgently.
    pub lane: Lane,
    /// Kept from acting twice; `None` for what the broker does by itself.
    pub replay: Option<Replay>,
    /// Records that must stand in these versions.
    pub guards: Vec<Guard>,
    /// The partition's floor that it was decided under; another one makes it stale. `None` where the floor decides nothing.
    pub floor: Option<Stamp>,
    /// The commit's stamp must lie before it, else [`Denial::Overdue`].
    pub before: Option<Stamp>,
    /// The commit's stamp is at least this.
    pub at_least: Stamp,
    /// Scopes none of which may be blocked.
    pub unblocked: Vec<Reach>,
    /// Scopes none of whose watermarks may have reached the origin.
    pub unmarked: Option<(Vec<Reach>, Origin)>,
    /// A lease that must not be over.
    pub unrevoked: Option<LeaseId>,
    /// Set when a credential is issued.
    pub times: Option<IssueTimes>,
    /// What to write.
    pub writes: Vec<Write>,
    /// What to announce; its entries are what to kill or block.
    // INVARIANT (nothing dies unannounced): there is no other way to write an entry of the lattice.
    pub event: Option<Event>,
}

/// What became of a commit.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is written.
    Done(Receipt),
    /// The same request was answered before; this is what was said. Nothing was written but the answer's touch.
    Replayed(Box<Answer>),
    /// Records had moved on; nothing was written. The guarded records as they stand.
    Stale(Vec<(RecordKey, Option<Record>)>),
    /// Nothing was written, and nothing will be however often it is tried.
    Denied(Denial),
}

impl Outcome {
    /// Its name among the metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Replayed(_) => "replayed",
            Self::Stale(_) => "stale",
            Self::Denied(_) => "denied",
        }
    }
}

/// The times that a commit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The commit itself.
    pub origin: Origin,
    /// Of a credential.
    pub credential: Option<CredentialTimes>,
}

/// The times of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialTimes {
    /// First issue for task, principal and audience.
    pub first_issue: Stamp,
    /// The lease's first credential.
    pub lease_origin: Origin,
    /// When it ends, and why then.
    pub expiry: Expiry,
}

/// Why a commit was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The request id was used for another request.
    RequestIdReused,
    /// Its time had come: sweep and decide again.
    Overdue,
    /// A scope is blocked, or a watermark reaches the lease's origin.
    Quarantined,
    /// The lease was released or revoked.
    LeaseOver,
    /// The key belongs to another task of the tree.
    KeyClaimed,
    /// The proof was shown with another request.
    ProofShown,
    /// Less than the minimum is left.
    TooShort {
        /// The limit that won.
        clamp: Clamp,
        /// What would be left.
        seconds: u64,
    },
}

impl Replay {
    /// The lease that the request names, if it asks for one.
    pub fn lease(&self, partition: Partition) -> LeaseId {
        LeaseId::of_request(partition, &self.key)
    }
}

impl Commit {
    /// A commit that rests on nothing and writes nothing yet.
    pub fn new(partition: Partition, lane: Lane) -> Self {
        Self {
            partition,
            lane,
            replay: None,
            guards: Vec::new(),
            floor: None,
            before: None,
            at_least: Stamp::ZERO,
            unblocked: Vec::new(),
            unmarked: None,
            unrevoked: None,
            times: None,
            writes: Vec::new(),
            event: None,
        }
    }

    /// What it kills or blocks.
    pub fn entries(&self) -> &[Entry] {
        self.event.as_ref().map_or(&[], |event| &event.entries)
    }

    /// That a lease which is to be the answer to its request can be found by it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]: such a commit makes no sense.
    pub(crate) fn must_answer(&self) -> Result<(), StoreError> {
        let Some(replay) = &self.replay else { return Ok(()) };
        let Subject::Lease(Written::Issued) = replay.subject else { return Ok(()) };
        let named = |lease: &Draft| {
            let request = Some(replay.request_hash);
            lease.id == replay.lease(self.partition) && lease.request == request
        };
        if self.lease().is_some_and(named) {
            return Ok(());
        }
        Err(StoreError::Corrupt("a lease that its request does not name".to_owned()))
    }

    /// The lease that it writes.
    pub fn lease(&self) -> Option<&Draft> {
        self.writes.iter().find_map(|write| match write {
            Write::Lease(draft) => Some(&**draft),
            Write::Task { .. }
            | Write::Certificate(_)
            | Write::Keyring(_)
            | Write::RevocationList(_)
            | Write::ProvedKey { .. }
            | Write::ShownProof { .. }
            | Write::DropTask { .. } => None,
        })
    }
}
