//! Why something is not let in: one variant a rule, in the order in which they are checked.

use crate::domain::lattice::Dead;
use crate::domain::time::Span;
use crate::jose::access_token::AccessTokenError;
use crate::jose::dpop::DpopError;
use crate::spiffe::task_certificate::TaskCertificateError;

/// Something is not let in. No variant holds anything of a credential; the text may be shown to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing was shown.
    #[error(
        "show an access token of the broker: `Authorization: Bearer …` or `Authorization: DPoP …`"
    )]
    Nothing,
    /// More than one credential, or a header that is none.
    #[error("`Authorization` is not one access token: {0}")]
    Malformed(&'static str),
    /// The broker's keys have not been read yet.
    #[error("the broker's keys are not known here yet; try again")]
    NoKeys,
    /// The token's own words (RFC 9068 section 4).
    #[error(transparent)]
    Token(#[from] AccessTokenError),
    /// The certificate's own words.
    #[error(transparent)]
    Certificate(#[from] TaskCertificateError),
    /// `aud` is somebody else (RFC 9068 section 4).
    #[error("the token is for another audience")]
    Audience,
    /// The token is bound to a certificate that the connection does not show (RFC 8705 section 3).
    #[error("the token is bound to another client certificate than the connection shows")]
    OtherCertificate,
    /// The token is bound to a key and came as `Bearer` (RFC 9449 section 7.2), or the other way round.
    #[error(
        "the token is bound to a key: send it as `DPoP` with a proof; every other one as `Bearer`"
    )]
    Scheme,
    /// The token is bound to a key and no proof came with it (RFC 9449 section 7.1).
    #[error("the token is bound to a key: send exactly one header `DPoP` with a proof")]
    NoProof,
    /// The proof does not hold (RFC 9449 section 4.3).
    #[error(transparent)]
    Proof(#[from] DpopError),
    /// The proof is by another key than the token is bound to (RFC 9449 section 7.1).
    #[error("the proof is by another key than the token is bound to")]
    OtherKey,
    /// The proof was shown before (RFC 9449 section 11.1).
    #[error("the proof was shown before; make a new one, with a new `jti`, for each request")]
    Replayed,
    /// More proofs at once than are remembered: none is accepted that could not be known again.
    #[error("more requests with proofs come than can be remembered; slow down")]
    TooManyProofs,
    /// The token is bound to nothing, and this verifier takes none such.
    #[error("the token is bound to nothing, and none such is taken here")]
    Unbound,
    /// It was revoked, or its incarnation is not known.
    #[error(transparent)]
    Dead(#[from] Dead),
    /// What is known of revocations is too old for it.
    #[error("what is known here of revocations is older than the {} ms that the credential allows; try again", .0.millis())]
    Stale(Span),
    /// The broker was asked, and did not say yes.
    #[error("the broker does not say that the credential is active")]
    NotActive,
    /// The broker was to be asked, and cannot be.
    #[error(
        "what is known here of revocations is too old, and the broker cannot be asked; try again"
    )]
    NobodyAnswers,
    /// The grant does not have an action.
    #[error("the grant does not have the action `{0}` here; ask the orchestrator for it")]
    Action(String),
    /// A certificate does not say what it allows.
    #[error("a certificate does not say what it allows; show an access token")]
    NoGrant,
}

/// What kind of refusal one is: which status and which challenge go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was shown: 401, and how to ask.
    Nothing,
    /// The request is malformed: 400, `invalid_request`.
    Request,
    /// The credential is no good: 401, `invalid_token`.
    Credential,
    /// The proof is no good: 401, `invalid_dpop_proof`.
    Proof,
    /// The credential is good, and does not allow it: 403, `insufficient_scope`.
    Scope,
    /// It cannot be known now: 503.
    Unknown,
}

impl Refused {
    /// Which kind of refusal it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Nothing => Fault::Nothing,
            Self::Malformed(_) => Fault::Request,
            Self::Token(_)
            | Self::Certificate(_)
            | Self::Audience
            | Self::OtherCertificate
            | Self::Scheme
            | Self::Unbound
            | Self::Dead(_)
            | Self::NotActive => Fault::Credential,
            Self::NoProof | Self::Proof(_) | Self::OtherKey | Self::Replayed => Fault::Proof,
            Self::Action(_) | Self::NoGrant => Fault::Scope,
            Self::NoKeys | Self::TooManyProofs | Self::Stale(_) | Self::NobodyAnswers => {
                Fault::Unknown
            }
        }
    }

    /// The stable reason (FORMATS.md, Reasons; STANDARDS.md section 9).
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "REQUEST_INVALID",
            Self::Nothing
            | Self::Token(_)
            | Self::Certificate(_)
            | Self::Unbound
            | Self::NotActive => "IDENTITY_UNVERIFIED",
            Self::Audience => "TARGET_NOT_ALLOWED",
            Self::Proof(DpopError::Nonce) => "PROOF_NONCE_REQUIRED",
            Self::OtherCertificate
            | Self::Scheme
            | Self::NoProof
            | Self::Proof(_)
            | Self::OtherKey => "PROOF_INVALID",
            Self::Replayed => "PROOF_REPLAYED",
            Self::TooManyProofs => "RATE_LIMITED",
            Self::Dead(Dead::IncarnationUnknown) => "INCARNATION_UNKNOWN",
            Self::Dead(Dead::Fenced) => "EPOCH_STALE",
            Self::Dead(Dead::Quarantined) => "QUARANTINED",
            Self::Dead(Dead::Lost | Dead::LeaseOver) => "LEASE_REVOKED",
            Self::NoKeys | Self::Stale(_) | Self::NobodyAnswers => "DEPENDENCY_UNAVAILABLE",
            Self::Action(_) | Self::NoGrant => "POLICY_DENIED",
        }
    }

    /// Whether the same may be let in a moment later.
    pub fn is_retriable(&self) -> bool {
        self.fault() == Fault::Unknown || matches!(self, Self::Dead(Dead::IncarnationUnknown))
    }
}
