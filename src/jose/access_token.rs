//! The access token (`at+jwt`, RFC 9068) that the broker mints, and the one function that verifies one.

mod payload;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use self::payload::Claims;
use super::base64url;
use super::claims::{ClaimError, Leeway, Validity};
use super::execution_claim::{self, ExecutionClaim, ExecutionClaimError};
use super::jws::{JwsError, Unverified};
use super::key_set::KeySet;
use super::signing_key::{SigningKey, SigningKeyError};
use crate::domain::execution::{Execution, ExecutionError};
use crate::domain::grant::Grant;
use crate::domain::id::TaskId;
use crate::domain::principal::Principal;
use crate::domain::scope::Reach;
use crate::domain::secret::Secret;
use crate::domain::time::Stamp;

/// `typ` of its header (RFC 9068 section 2.1).
pub const TYP: &str = "at+jwt";
/// The longest payload that is minted, in bytes (STANDARDS.md section 9).
pub const MAX_BODY_BYTES: usize = 4 * 1024;

/// `nbf` lies so long before `iat`.
const BEFORE_ISSUE_SECONDS: u64 = 5;

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// `iss`: the broker's base URL.
    pub issuer: String,
    /// `sub`: the root task's agent.
    pub subject: Principal,
    /// `act`: who acts for the subject, from this task's agent outward; empty if the subject acts itself.
    pub actors: Vec<Principal>,
    /// `aud`: the one resource.
    pub audience: String,
    /// `iat`, in seconds.
    pub issued_seconds: u64,
    /// `exp`, in seconds.
    pub expires_seconds: u64,
    /// `jti`.
    pub jti: [u8; 16],
    /// `authorization_details`.
    pub grant: Grant,
    /// `cnf`: what its bearer must show besides; `None` for a bearer token.
    pub confirmation: Option<Confirmation>,
    /// The claim `leasehold`.
    pub execution: Execution,
    /// `kid` of the header.
    pub signing_key: String,
}

/// What a token is bound to (RFC 7800): without it, the token is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// `x5t#S256`: SHA-256 of the client certificate that comes with it (RFC 8705 section 3.1).
    Certificate([u8; 32]),
    /// `jkt`: thumbprint of the key of the DPoP proof that comes with it (RFC 9449 section 6.1).
    Key([u8; 32]),
}

impl Confirmation {
    /// `token_type` of a token that is bound like this (RFC 9449 section 5); `Bearer` also with a certificate.
    pub fn token_type(confirmation: Option<Self>) -> &'static str {
        match confirmation {
            Some(Self::Key(_)) => "DPoP",
            Some(Self::Certificate(_)) | None => "Bearer",
        }
    }
}

/// What a token that is too large mostly consists of, in bytes. Written out, it says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Of `leasehold.reach`.
    reach: usize,
    /// Of `authorization_details`.
    grant: usize,
}

impl std::fmt::Display for Bulk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reach, grant } = self;
        if reach > grant {
            write!(
                f,
                "{reach} of them for the agents through whom it is had; have the tasks above begun for fewer `instances`, or for one agent each"
            )
        } else {
            write!(
                f,
                "{grant} of them for what it allows; ask for fewer actions in `authorization_details`"
            )
        }
    }
}

/// A text is not an access token of ours, or one could not be made. Nothing of the token is in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// Shape, header, key or signature (RFC 7515, RFC 8725, RFC 9068 section 4).
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A registered claim is missing, ill-typed, or out of its time (RFC 9068 section 2.2).
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// `iss` is not exactly ours (RFC 9068 section 4).
    #[error("the token is of another issuer")]
    Issuer,
    /// A claim is there and not of the form that FORMATS.md gives.
    #[error("the claim `{0}` is not of the form that Leasehold writes")]
    Malformed(&'static str),
    /// `v` of the claim `leasehold` is not one that this version knows.
    #[error(
        "the token's claim `leasehold` is of a version that is not known here; upgrade the verifier"
    )]
    Version,
    /// A member of the claim `leasehold`.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// More than [`MAX_BODY_BYTES`].
    #[error("the token would have more than {MAX_BODY_BYTES} bytes, {0}")]
    TooLarge(Bulk),
    /// The key did not sign.
    #[error(transparent)]
    Signing(#[from] SigningKeyError),
}

impl From<ExecutionClaimError> for AccessTokenError {
    fn from(error: ExecutionClaimError) -> Self {
        match error {
            ExecutionClaimError::Missing => ClaimError::Missing(execution_claim::NAME).into(),
            ExecutionClaimError::Malformed => Self::Malformed(execution_claim::NAME),
            ExecutionClaimError::Version => Self::Version,
            ExecutionClaimError::Execution(error) => error.into(),
        }
    }
}

/// Verifies an access token of this issuer, with the keys that it signs access tokens with. No leeway after `exp`.
///
/// Whether the credential is still alive is not decided here: ask revocation with [`AccessToken::full_reach`].
///
/// # Errors
/// [`AccessTokenError`] names the rule that the text breaks.
pub fn verify(
    compact: &str,
    keys: &KeySet,
    issuer: &str,
    now: Stamp,
) -> Result<AccessToken, AccessTokenError> {
    let unverified = Unverified::parse_access_token(compact, keys)?;
    let signing_key = unverified.kid().to_owned();
    let payload = unverified.signed_payload(keys)?;
    let claims = Claims::read(&payload)?;
    if required("iss", claims.iss)? != issuer {
        return Err(AccessTokenError::Issuer);
    }
    let (expires, issued) = (required("exp", claims.exp)?, required("iat", claims.iat)?);
    let times = Validity { expires, issued: Some(issued), not_before: claims.nbf };
    times.check(now, Leeway::OURS)?;
    let issued_seconds = issued.seconds();
    if required("nbf", claims.nbf)?.seconds() != issued_seconds.saturating_sub(BEFORE_ISSUE_SECONDS)
    {
        return Err(AccessTokenError::Malformed("nbf"));
    }
    let execution = required(execution_claim::NAME, claims.leasehold)?.0.into_execution()?;
    if execution.origin.stamp.seconds() != issued_seconds {
        return Err(AccessTokenError::Malformed("iat"));
    }
    // An id has one spelling.
    if TaskId::parse(&required("txn", claims.txn)?) != Ok(execution.path.root()) {
        return Err(AccessTokenError::Malformed("txn"));
    }
    let principal = |name, text: Option<Cow<'_, str>>| {
        Principal::parse(&required(name, text)?).map_err(|_| AccessTokenError::Malformed(name))
    };
    let token = AccessToken {
        issuer: issuer.to_owned(),
        subject: principal("sub", claims.sub)?,
        actors: claims.act.unwrap_or_default(),
        audience: required("aud", claims.aud)?.into_owned(),
        issued_seconds,
        expires_seconds: expires.seconds(),
        jti: bytes(&required("jti", claims.jti)?).ok_or(AccessTokenError::Malformed("jti"))?,
        grant: required("authorization_details", claims.authorization_details)?,
        confirmation: claims.cnf.map(Cnf::read).transpose()?,
        execution,
        signing_key,
    };
    if principal("client_id", claims.client_id)? != *token.client() {
        return Err(AccessTokenError::Malformed("client_id"));
    }
    Ok(token)
}

fn required<T>(name: &'static str, claim: Option<T>) -> Result<T, ClaimError> {
    claim.ok_or(ClaimError::Missing(name))
}

impl AccessToken {
    /// `client_id`: this task's agent.
    pub fn client(&self) -> &Principal {
        self.actors.first().unwrap_or(&self.subject)
    }

    /// Every scope that reaches it.
    pub fn full_reach(&self) -> Vec<Reach> {
        self.execution.full_reach(&self.signing_key)
    }

    /// That its payload is not longer than what may be minted.
    ///
    /// # Errors
    /// [`AccessTokenError::TooLarge`].
    pub fn must_fit(&self) -> Result<(), AccessTokenError> {
        let length = length_of(&self.body())?;
        if length > MAX_BODY_BYTES { Err(self.too_large()?) } else { Ok(()) }
    }

    fn too_large(&self) -> Result<AccessTokenError, AccessTokenError> {
        let reach = ExecutionClaim::of(&self.execution).reach_bytes();
        Ok(AccessTokenError::TooLarge(Bulk { reach, grant: length_of(&self.grant)? }))
    }

    /// The compact JWS.
    ///
    /// # Errors
    /// [`AccessTokenError::TooLarge`], or the key's own error.
    pub fn sign(&self, key: &SigningKey) -> Result<Secret, AccessTokenError> {
        let compact = key.sign(TYP, &self.body())?;
        let payload = compact.expose_text().split('.').nth(1).unwrap_or_default();
        // Four characters of base64url are three bytes.
        if payload.len() * 3 / 4 > MAX_BODY_BYTES {
            return Err(self.too_large()?);
        }
        Ok(compact)
    }

    /// The claims as the token carries them.
    pub fn claims(&self) -> serde_json::Value {
        serde_json::to_value(self.body()).unwrap_or_default()
    }

    fn body(&self) -> Body<'_> {
        Body {
            iss: &self.issuer,
            sub: self.subject.as_str(),
            client_id: self.client().as_str(),
            act: Actor::chain(&self.actors),
            aud: &self.audience,
            iat: self.issued_seconds,
            nbf: self.issued_seconds.saturating_sub(BEFORE_ISSUE_SECONDS),
            exp: self.expires_seconds,
            jti: base64url::encode(self.jti),
            authorization_details: &self.grant,
            cnf: self.confirmation.map(Cnf::of),
            txn: self.execution.path.root().to_string(),
            leasehold: ExecutionClaim::of(&self.execution),
        }
    }
}

fn length_of(value: &impl Serialize) -> Result<usize, AccessTokenError> {
    Ok(serde_json::to_vec(value).map_err(|_| SigningKeyError::Claims)?.len())
}

/// The payload, its members in the order of FORMATS.md.
#[derive(Serialize)]
struct Body<'a> {
    iss: &'a str,
    sub: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Actor<'a>>>,
    aud: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    authorization_details: &'a Grant,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Cnf>,
    txn: String,
    leasehold: ExecutionClaim,
}

#[derive(Serialize)]
struct Actor<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Actor<'a>>>,
}

impl<'a> Actor<'a> {
    fn chain(actors: &'a [Principal]) -> Option<Box<Self>> {
        let inner_first = actors.iter().rev();
        inner_first.fold(None, |act, actor| Some(Box::new(Self { sub: actor.as_str(), act })))
    }
}

/// The claim `cnf`, with exactly one member. One of a third kind, or of two, is none: ignored, the token would be one for whoever
/// holds it.
#[derive(Serialize, Deserialize)]
enum Cnf {
    #[serde(rename = "x5t#S256")]
    X5t(String),
    #[serde(rename = "jkt")]
    Jkt(String),
}

impl Cnf {
    fn read(self) -> Result<Confirmation, AccessTokenError> {
        let confirmation = match self {
            Self::X5t(text) => bytes(&text).map(Confirmation::Certificate),
            Self::Jkt(text) => bytes(&text).map(Confirmation::Key),
        };
        confirmation.ok_or(AccessTokenError::Malformed("cnf"))
    }

    fn of(confirmation: Confirmation) -> Self {
        match confirmation {
            Confirmation::Certificate(hash) => Self::X5t(base64url::encode(hash)),
            Confirmation::Key(hash) => Self::Jkt(base64url::encode(hash)),
        }
    }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    base64url::decode(text)?.try_into().ok()
}

#[cfg(test)]
mod tests;
