//! Callers that prove themselves with a JWT-SVID (JWT-SVID sections 2 to 4, RFC 8725). Nothing is remembered here.
//!
//! ```text
//!  header ── sub ──▶ SPIFFE ID ── its own trust domain's bundle ──▶ signature ── aud, exp ──▶ VerifiedCaller
//! ```
//!
//! A JWT-SVID is a bearer token: whoever it is shown to can show it on. So we are stricter than the specification where it
//! leaves a choice. `aud` has one value, ours: a token for several could be shown here by any of them. `kid` is required, as
//! SPIRE writes it and go-spiffe asks for it: every key of a bundle has one, so nothing is won by trying keys in turn.

use std::sync::Arc;

use super::trust_bundle::{TrustBundles, TrustDomainError};
use super::{Proof, VerifiedCaller, Vouched};
use crate::domain::time::{Span, Stamp};
use crate::jose::{
    ClaimError, Claimed, Claims, FOREIGN_ALGORITHMS, JwsError, Leeway, Typ, Unverified,
};
use crate::spiffe::id::{SpiffeId, SpiffeIdError, TrustDomain};

/// JWT-SVID section 2.3.
const TYP: Typ = Typ::AbsentOr(&["JWT", "JOSE"]);

/// A token is not a JWT-SVID that proves who the caller is. Nothing of the token is in the error but its trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtSvidError {
    /// Shape, header or signature.
    #[error(transparent)]
    Token(#[from] JwsError),
    /// The header has another member than `alg`, `kid` and `typ` (JWT-SVID section 2).
    #[error("the header of a JWT-SVID has `alg`, `kid` and `typ`, and nothing else")]
    Header,
    /// A claim is missing, has the wrong type, or the token is not valid now.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// `sub` is not the SPIFFE ID of a workload (JWT-SVID section 3.1).
    #[error("`sub` of the token: {0}")]
    Subject(#[from] SpiffeIdError),
    /// Nothing of the trust domain of `sub` is trusted now.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// The bundle of the trust domain has no JWT keys, which makes the token untrusted (JWT-SVID section 5).
    #[error(
        "the bundle of trust domain `{0}` has no keys for JWT-SVIDs; give the broker one that has, or connect with an X.509-SVID"
    )]
    NoJwtKeys(TrustDomain),
    /// `aud` is not ours alone (JWT-SVID section 3.2).
    #[error("the JWT-SVID is not for this broker alone: request one whose only audience is `{0}`")]
    Audience(String),
    /// It lives longer than is accepted.
    #[error("the JWT-SVID lives longer than `trust.jwt_svid.max_lifetime`: request a shorter one")]
    Lifetime,
    /// It is of our own trust domain, or our own URL issued it: who got a credential here could ask for more with it.
    #[error("the token is one of this broker's own and is no identity here")]
    Own,
    /// It has `cnf`: whoever shows it must also prove a key, which a bearer does not.
    #[error("the token is bound to a key (`cnf`) and is no bearer identity")]
    Bound,
    /// It has a `leasehold` claim: a credential of a broker, whoever signed it.
    #[error("the token is a credential for a task and not an identity")]
    Credential,
}

impl JwtSvidError {
    /// Whether the same token may be accepted a little later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::TrustDomain(error) if error.is_retriable())
    }
}

/// What a JWT-SVID must be to prove an identity here.
#[derive(Clone, Debug)]
pub struct JwtSvidVerifier {
    /// The broker's own trust domain.
    pub own_trust_domain: TrustDomain,
    /// The `iss` of the broker's own tokens.
    pub own_issuers: Vec<String>,
    /// The one value of `aud`.
    pub audience: String,
    /// The longest `exp - iat`; without `iat`, the longest time that is left.
    pub max_lifetime: Span,
}

impl JwtSvidVerifier {
    /// Verifies a JWT-SVID, as it stands behind `Bearer`, with the keys of its own trust domain.
    ///
    /// # Errors
    /// [`JwtSvidError`] names the rule that the token breaks.
    pub fn verify(
        &self,
        token: &str,
        bundles: &TrustBundles,
        now: Stamp,
    ) -> Result<VerifiedCaller, JwtSvidError> {
        self.verify_against(token, bundles, now).map(|vouched| vouched.caller)
    }

    pub(super) fn verify_against(
        &self,
        token: &str,
        bundles: &TrustBundles,
        now: Stamp,
    ) -> Result<Vouched, JwtSvidError> {
        let unverified = Unverified::parse(token, TYP, FOREIGN_ALGORITHMS)?;
        let claimed = Claimed::of(token).ok_or(JwtSvidError::Claim(ClaimError::Missing("sub")))?;
        if !claimed.has_plain_header() {
            return Err(JwtSvidError::Header);
        }
        let subject = claimed.subject().ok_or(ClaimError::Missing("sub"))?;
        let id = SpiffeId::parse(subject)?;
        // INVARIANT (keys by trust domain): nothing but the trust domain of `sub` chooses the keys; never `iss`.
        let trust_domain = id.trust_domain().clone();
        if trust_domain == self.own_trust_domain {
            return Err(JwtSvidError::Own);
        }
        let bundle = Arc::clone(bundles.get(&trust_domain, now)?);
        if bundle.jwt_keys().iter().next().is_none() {
            return Err(JwtSvidError::NoJwtKeys(trust_domain));
        }
        let claims = unverified.verify(bundle.jwt_keys())?;
        let expires = self.check(&claims, now)?;
        let caller = VerifiedCaller {
            principal: id.principal().clone(),
            instance: id.to_string(),
            expires,
            proof: Proof::JwtSvid,
        };
        Ok(Vouched { caller, trust_domain, bundle })
    }

    /// Checks claims that the trust domain signed, and answers when they end. `aud` and `exp` are required.
    fn check(&self, claims: &Claims, now: Stamp) -> Result<Stamp, JwtSvidError> {
        let issuer = claims.optional_text("iss")?;
        if issuer.is_some_and(|issuer| self.own_issuers.iter().any(|own| own == issuer)) {
            return Err(JwtSvidError::Own);
        }
        if claims.audience()? != [self.audience.as_str()] {
            return Err(JwtSvidError::Audience(self.audience.clone()));
        }
        let validity = claims.validity(now, Leeway::FOREIGN)?;
        if validity.expires.since(validity.issued.unwrap_or(now)) > self.max_lifetime {
            return Err(JwtSvidError::Lifetime);
        }
        if claims.get("leasehold").is_some() {
            return Err(JwtSvidError::Credential);
        }
        if claims.get("cnf").is_some() {
            return Err(JwtSvidError::Bound);
        }
        Ok(validity.expires)
    }
}

#[cfg(test)]
mod tests;
