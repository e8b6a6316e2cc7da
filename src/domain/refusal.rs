//! Why a rule says no: one variant a reason, each with what the caller can do about it.

use crate::domain::clamp::Clamp;
use crate::domain::task::State;

/// A refusal of the domain's rules. The names of [`Refusal::reason`] leave the process (FORMATS.md, Reasons).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field of the request is not what it must be.
    #[error("`{field}`: {problem}")]
    RequestInvalid {
        /// The field's name in the contract.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The authorization details are not of the form that FORMATS.md gives.
    #[error("`authorization_details`: {0}")]
    AuthorizationDetailsInvalid(String),
    /// Nothing of that name that the caller may see.
    #[error("no such {0}, or it is not yours")]
    NotFound(&'static str),
    /// The caller has no role that may do this.
    #[error(
        "this call needs the role {0}; ask an operator for a `[[roles]]` entry that matches you"
    )]
    RoleMissing(&'static str),
    /// Policy said no.
    #[error("policy denies it: {0}")]
    PolicyDenied(String),
    /// The audience is not one that the task's grant names.
    #[error("the task's grant does not name the audience `{0}`; ask the orchestrator to widen it")]
    TargetNotAllowed(String),
    /// A child or a changed task would be allowed more than its parent.
    #[error("the grant is wider than the parent's: {0}")]
    GrantWidens(String),
    /// The caller meant another epoch than the current one.
    #[error("the task is in epoch {current}, not {expected}; get the task and decide again")]
    EpochStale {
        /// What the caller expected.
        expected: u64,
        /// What it is.
        current: u64,
    },
    /// The task or an ancestor has ended.
    #[error("the task has ended as {0}; begin another one")]
    TaskEnded(State),
    /// The task or an ancestor is suspended.
    #[error("the task is suspended; {0}")]
    TaskSuspended(&'static str),
    /// The lease was released or revoked, or its task moved on.
    #[error("the lease is over; issue a new credential")]
    LeaseRevoked,
    /// A quarantine blocks the caller, the task or its agent.
    #[error("a quarantine blocks you, this task or its agent; an operator can lift it")]
    Quarantined,
    /// Another instance of the agent holds the task.
    #[error(
        "another instance of the agent holds this task; hand it over with AdvanceTask, or begin it with more `instances`"
    )]
    InstanceMismatch,
    /// The credential would live shorter than the tier's minimum.
    #[error("only {seconds} s are left by the {clamp} limit, and the tier wants at least {minimum} s; {}", clamp.remedy())]
    TtlBelowMinimum {
        /// The limit that won.
        clamp: Clamp,
        /// How long the credential would live.
        seconds: u64,
        /// The tier's `min_ttl`.
        minimum: u64,
    },
    /// The lease's ceiling is reached.
    #[error(
        "the tier's ceiling since the first issue is reached; advance cannot lift it, a new task can"
    )]
    CeilingReached,
    /// The same request id came with another request.
    #[error("`request_id` was used for another request; draw a new UUID for a new request")]
    RequestIdReused,
    /// The proof of possession does not hold.
    #[error("the proof of possession does not hold: {0}")]
    ProofInvalid(String),
    /// The proof was shown before, with another request.
    #[error("the proof was shown before; make a new one, with a new `jti`, for each request")]
    ProofReplayed,
    /// The proof must have a nonce that the broker gave lately.
    #[error("the proof must have a `nonce` that the broker gave: make it again with `{nonce}`")]
    ProofNonceRequired {
        /// One that will do.
        nonce: String,
    },
}

impl Refusal {
    /// A field of the request is not what it must be.
    pub fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::RequestInvalid { field, problem: problem.into() }
    }

    /// The stable reason (FORMATS.md, Reasons; STANDARDS.md section 9).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::RequestInvalid { .. } => "REQUEST_INVALID",
            Self::AuthorizationDetailsInvalid(_) => "AUTHORIZATION_DETAILS_INVALID",
            Self::NotFound(_) => "NOT_FOUND",
            Self::RoleMissing(_) => "ROLE_MISSING",
            Self::PolicyDenied(_) => "POLICY_DENIED",
            Self::TargetNotAllowed(_) => "TARGET_NOT_ALLOWED",
            Self::GrantWidens(_) => "GRANT_WIDENS",
            Self::EpochStale { .. } => "EPOCH_STALE",
            Self::TaskEnded(_) => "TASK_ENDED",
            Self::TaskSuspended(_) => "TASK_SUSPENDED",
            Self::LeaseRevoked => "LEASE_REVOKED",
            Self::Quarantined => "QUARANTINED",
            Self::InstanceMismatch => "INSTANCE_MISMATCH",
            Self::TtlBelowMinimum { .. } => "TTL_BELOW_MINIMUM",
            Self::CeilingReached => "CEILING_REACHED",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::ProofInvalid(_) => "PROOF_INVALID",
            Self::ProofReplayed => "PROOF_REPLAYED",
            Self::ProofNonceRequired { .. } => "PROOF_NONCE_REQUIRED",
        }
    }
}
