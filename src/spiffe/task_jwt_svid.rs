//! The JWT-SVID that the broker mints for a task, and the one function that verifies one.
//!
//! It is for verifiers that know SPIFFE and nothing else, and for clouds that take identity tokens: of an issuer of its own,
//! signed by keys of its own, so that none is ever taken for an access token, nor an access token for one.

use serde::Serialize;

use super::id::{SpiffeId, TrustDomain};
use super::task_certificate::spiffe_id_text;
use crate::domain::execution::{Execution, ExecutionError};
use crate::domain::principal::Name;
use crate::domain::scope::Reach;
use crate::domain::secret::Secret;
use crate::domain::time::Stamp;
use crate::jose::execution_claim::{self, ExecutionClaim, ExecutionClaimError};
use crate::jose::{
    Algorithm, ClaimError, JwsError, KeySet, Leeway, SigningKey, SigningKeyError, Typ, Unverified,
    base64url,
};

/// `typ` of its header; beside it there are `alg` and `kid`, and nothing else (JWT-SVID section 2).
pub const TYP: &str = "JWT";

/// `nbf` lies so long before `iat`.
const BEFORE_ISSUE_SECONDS: u64 = 5;

/// `iss` of the JWT-SVIDs of a broker with this base URL; its discovery document lies below.
pub fn issuer(base_url: &str) -> String {
    format!("{base_url}/spiffe")
}

/// What a JWT-SVID of ours says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskJwtSvid {
    /// `iss`.
    pub issuer: String,
    /// `sub`: the task's SPIFFE ID, as in its certificates.
    pub spiffe_id: SpiffeId,
    /// `aud`: the one that it is for.
    pub audience: String,
    /// `iat`, in seconds.
    pub issued_seconds: u64,
    /// `exp`, in seconds.
    pub expires_seconds: u64,
    /// `jti`.
    pub jti: [u8; 16],
    /// The claim `leasehold`.
    pub execution: Execution,
    /// `kid` of the header.
    pub signing_key: String,
}

/// A text is not a JWT-SVID of ours. Nothing of it is in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskJwtSvidError {
    /// Shape, header, key or signature (JWT-SVID sections 2 and 4).
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A registered claim is missing, ill-typed, or out of its time (JWT-SVID section 3).
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// `iss` is not exactly ours.
    #[error("the JWT-SVID is of another issuer")]
    Issuer,
    /// `sub` is not the SPIFFE ID of the task and epoch in the claim `leasehold`, in this trust domain.
    #[error("the JWT-SVID's `sub` is not the SPIFFE ID of its task")]
    SpiffeId,
    /// A claim is there and not of the form that FORMATS.md gives.
    #[error("the claim `{0}` is not of the form that Leasehold writes")]
    Malformed(&'static str),
    /// `v` of the claim `leasehold` is not one that this version knows.
    #[error(
        "the JWT-SVID's claim `leasehold` is of a version that is not known here; upgrade the verifier"
    )]
    Version,
    /// A member of the claim `leasehold`.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
}

impl From<ExecutionClaimError> for TaskJwtSvidError {
    fn from(error: ExecutionClaimError) -> Self {
        match error {
            ExecutionClaimError::Missing => ClaimError::Missing(execution_claim::NAME).into(),
            ExecutionClaimError::Malformed => Self::Malformed(execution_claim::NAME),
            ExecutionClaimError::Version => Self::Version,
            ExecutionClaimError::Execution(error) => error.into(),
        }
    }
}

impl TaskJwtSvid {
    /// Verifies a JWT-SVID of this issuer, with the keys that it signs JWT-SVIDs with. No leeway after `exp`.
    ///
    /// Whether the credential is still alive is not decided here: ask revocation with [`Self::full_reach`].
    ///
    /// # Errors
    /// [`TaskJwtSvidError`] names the rule that the text breaks.
    pub fn verify(
        compact: &str,
        keys: &KeySet,
        (issuer, trust_domain): (&str, &TrustDomain),
        now: Stamp,
    ) -> Result<Self, TaskJwtSvidError> {
        let unverified = Unverified::parse(compact, Typ::Is(TYP), &[Algorithm::ES256])?;
        let signing_key = unverified.kid().to_owned();
        let claims = unverified.verify(keys)?;
        if claims.text("iss")? != issuer {
            return Err(TaskJwtSvidError::Issuer);
        }
        let times = claims.times(now, Leeway::OURS)?;
        let issued_seconds = times.issued.seconds();
        let not_before = times.not_before.ok_or(ClaimError::Missing("nbf"))?;
        if not_before.seconds() != issued_seconds.saturating_sub(BEFORE_ISSUE_SECONDS) {
            return Err(TaskJwtSvidError::Malformed("nbf"));
        }
        let execution = ExecutionClaim::read(&claims)?;
        if execution.origin.stamp.seconds() != issued_seconds {
            return Err(TaskJwtSvidError::Malformed("iat"));
        }
        let sub = claims.text("sub")?;
        let class = sub.rsplit('/').next().map(Name::parse).and_then(Result::ok);
        let class = class.ok_or(TaskJwtSvidError::SpiffeId)?;
        if sub != spiffe_id_text(trust_domain, &execution, &class) {
            return Err(TaskJwtSvidError::SpiffeId);
        }
        let jti = base64url::decode(claims.text("jti")?).and_then(|jti| jti.try_into().ok());
        Ok(Self {
            issuer: issuer.to_owned(),
            spiffe_id: SpiffeId::parse(sub).map_err(|_| TaskJwtSvidError::SpiffeId)?,
            audience: claims.sole_audience()?.to_owned(),
            issued_seconds,
            expires_seconds: times.expires.seconds(),
            jti: jti.ok_or(TaskJwtSvidError::Malformed("jti"))?,
            execution,
            signing_key,
        })
    }

    /// Every scope that reaches it.
    pub fn full_reach(&self) -> Vec<Reach> {
        self.execution.full_reach(&self.signing_key)
    }

    /// The compact JWS.
    ///
    /// # Errors
    /// The key did not sign.
    pub fn sign(&self, key: &SigningKey) -> Result<Secret, SigningKeyError> {
        key.sign(TYP, &self.body())
    }

    /// The claims as it carries them.
    pub fn claims(&self) -> serde_json::Value {
        serde_json::to_value(self.body()).unwrap_or_default()
    }

    fn body(&self) -> Body<'_> {
        Body {
            iss: &self.issuer,
            sub: self.spiffe_id.as_str(),
            aud: &self.audience,
            iat: self.issued_seconds,
            nbf: self.issued_seconds.saturating_sub(BEFORE_ISSUE_SECONDS),
            exp: self.expires_seconds,
            jti: base64url::encode(self.jti),
            leasehold: ExecutionClaim::of(&self.execution),
        }
    }
}

/// The payload. There is no `cnf`: whoever holds a JWT-SVID can show it.
#[derive(Serialize)]
struct Body<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    leasehold: ExecutionClaim,
}

#[cfg(test)]
mod tests;
