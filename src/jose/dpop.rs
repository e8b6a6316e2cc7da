//! DPoP (RFC 9449): the proof that whoever calls holds the key that a token is, or is to be, bound to.
//!
//! ```text
//!  header  {typ: dpop+jwt, alg, jwk}                     the key, in public
//!  claims  {jti, htm, htu, iat, ath?, nonce?}            this one request, now
//! ```
//!
//! A proof is good once: whoever accepts one remembers [`Proof::id`] until [`Proof::expires`], by one clock.

mod nonce;
mod uri;

pub use nonce::NonceKey;
pub use uri::{HttpsUri, HttpsUriError};

use jsonwebtoken::Algorithm;
use ring::digest::{Context, SHA256, digest};
use serde::Serialize;
use serde_json::Value;
use signature::Verifier as _;

use super::claims::{ClaimError, Claims};
use super::json::{self, Object};
use super::jwk::{JwkError, VerifyingKey};
use super::jws::{Compact, JwsError, Typ, check_kind};
use super::signing_key::{SigningKey, SigningKeyError};
use super::{FOREIGN_ALGORITHMS, base64url};
use crate::domain::secret::Secret;
use crate::domain::time::{Span, Stamp};

/// `typ` of its header (RFC 9449 section 4.2).
pub const TYP: &str = "dpop+jwt";
/// Bytes of a proof: the largest RSA key and its signature, and room for a URI.
pub const MAX_PROOF_BYTES: usize = 6 * 1024;
/// Bytes of a `jti`.
pub const MAX_JTI_BYTES: usize = 256;
/// `iat` lies at most so long before now, and at most so long after it; there is no leeway beyond.
pub const WINDOW: Span = Span::from_seconds(60);

/// All members that a header has; none may be missing, and there is no other.
const HEADER_MEMBERS: [&str; 3] = ["alg", "jwk", "typ"];

/// The request that a proof must be for.
#[derive(Clone, Copy)]
pub struct Expect<'e> {
    /// `htm`: the method, exactly.
    pub method: &'e str,
    /// `htu`: one of these. From configuration, never from the request's own `Host` or `:authority`.
    pub uris: &'e [HttpsUri],
    /// The access token that comes with the request, which `ath` must be the hash of; `None`: none does.
    pub token: Option<&'e str>,
    /// Demands a nonce that this key made; `None`: none is demanded, and [`Proof::nonce`] says what there is.
    pub nonce: Option<&'e NonceKey>,
}

/// A proof that holds for the request that was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The key's thumbprint (RFC 7638): `jkt` of a token's `cnf`.
    pub thumbprint: [u8; 32],
    /// `iat`.
    pub issued: Stamp,
    /// `nonce`, whosever it is.
    pub nonce: Option<String>,
    id: [u8; 32],
}

impl Proof {
    /// SHA-256 of key, method, URI and `jti`, each behind its length: the same again is a replay.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// The first instant at which nobody accepts it any more.
    pub fn expires(&self) -> Stamp {
        self.issued.plus(WINDOW)
    }
}

/// A text is not a proof for the request. Nothing of it is in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// Form, `typ`, `alg` or signature (RFC 9449 section 4.3, steps 2, 4 to 6).
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// The header has other members than `alg`, `jwk` and `typ` (section 4.2).
    #[error("the proof's header has other members than `typ`, `alg` and `jwk`")]
    Header,
    /// `jwk` is not a public key that fits `alg` (section 4.3, steps 5 to 7).
    #[error("`jwk` of the proof: {0}")]
    Key(#[from] JwkError),
    /// A claim is missing or has the wrong type (section 4.3, step 3).
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// `jti` has more than [`MAX_JTI_BYTES`].
    #[error("`jti` of the proof has more than {MAX_JTI_BYTES} bytes")]
    Jti,
    /// `htm` is another method (section 4.3, step 8).
    #[error("`htm` of the proof is not the method of this request")]
    Method,
    /// `htu` is not a URI as it must be written.
    #[error("`htu` of the proof {0}")]
    Uri(#[from] HttpsUriError),
    /// `htu` is the URI of something else (section 4.3, step 9).
    #[error("`htu` of the proof is not the URI of this request")]
    OtherUri,
    /// `iat` is too long ago (section 4.3, step 11).
    #[error("the proof is more than {} s old; make one for each request", WINDOW.seconds())]
    TooOld,
    /// `iat` lies too far in the future.
    #[error("the proof was made more than {} s from now; check your clock", WINDOW.seconds())]
    TooNew,
    /// `ath` is not the hash of the token that came with the request (section 4.3, step 12), or there without one.
    #[error("`ath` of the proof is not the hash of the token that it came with")]
    Token,
    /// `nonce` is missing, expired, or nobody's of ours (section 4.3, step 10).
    #[error("the proof must have a `nonce` that was given lately")]
    Nonce,
}

/// Checks a proof against the request that it came with. Whether it was shown before is for the caller to find out.
///
/// # Errors
/// [`DpopError`] names the rule that the proof breaks.
pub fn verify(proof: &str, expect: Expect<'_>, now: Stamp) -> Result<Proof, DpopError> {
    let (key, claims) = signed(proof)?;
    let jti = claims.text("jti")?;
    if jti.len() > MAX_JTI_BYTES {
        return Err(DpopError::Jti);
    }
    if claims.text("htm")? != expect.method {
        return Err(DpopError::Method);
    }
    let uri = HttpsUri::parse(claims.text("htu")?)?;
    if !expect.uris.contains(&uri) {
        return Err(DpopError::OtherUri);
    }
    let issued = in_time(&claims, now)?;
    let hash = expect.token.map(|token| base64url::encode(digest(&SHA256, token.as_bytes())));
    if claims.optional_text("ath")? != hash.as_deref() {
        return Err(DpopError::Token);
    }
    let nonce = claims.optional_text("nonce")?;
    if let Some(nonces) = expect.nonce
        && !nonce.is_some_and(|nonce| nonces.accepts(nonce, now))
    {
        return Err(DpopError::Nonce);
    }
    let thumbprint = key.public_key().thumbprint();
    let id = identity(&[&thumbprint, expect.method.as_bytes(), uri.as_bytes(), jti.as_bytes()]);
    Ok(Proof { thumbprint, issued, nonce: nonce.map(str::to_owned), id })
}

/// The claims, and the key in the header that they are signed with.
fn signed(proof: &str) -> Result<(VerifyingKey, Claims), DpopError> {
    let Compact { header, signed, payload, signature } = Compact::split(proof, MAX_PROOF_BYTES)?;
    if !header.keys().map(String::as_str).eq(HEADER_MEMBERS) {
        return Err(DpopError::Header);
    }
    let algorithm = check_kind(&header, Typ::Is(TYP), FOREIGN_ALGORITHMS)?;
    let jwk = header.get("jwk").and_then(Value::as_object).ok_or(DpopError::Header)?;
    let key = VerifyingKey::from_header(jwk, algorithm)?;
    key.verify(signed.as_bytes(), &signature).map_err(|_| JwsError::Signature)?;
    let claims = json::parse_object(&payload, MAX_PROOF_BYTES).map_err(JwsError::Payload)?;
    Ok((key, Claims::read(claims)?))
}

/// `iat`, if it is about now. `exp` and `nbf` are not asked for, and count where they are.
fn in_time(claims: &Claims, now: Stamp) -> Result<Stamp, DpopError> {
    let issued = claims.time("iat")?;
    if now >= issued.plus(WINDOW) {
        return Err(DpopError::TooOld);
    }
    let latest = now.plus(WINDOW);
    if issued > latest || claims.optional_time("nbf")?.is_some_and(|start| start > latest) {
        return Err(DpopError::TooNew);
    }
    if claims.optional_time("exp")?.is_some_and(|expires| now >= expires) {
        return Err(DpopError::TooOld);
    }
    Ok(issued)
}

fn identity(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut id = [0; 32];
    id.copy_from_slice(context.finish().as_ref());
    id
}

/// What a proof is to say.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'s> {
    /// `htm`.
    pub method: &'s str,
    /// `htu`.
    pub uri: &'s HttpsUri,
    /// `jti`: unlike that of any other proof of the key.
    pub jti: &'s str,
    /// `iat`.
    pub issued: Stamp,
    /// The access token that goes with the request, if one does.
    pub token: Option<&'s str>,
    /// The nonce that was demanded, if one was.
    pub nonce: Option<&'s str>,
}

/// Makes a proof.
///
/// # Errors
/// The key did not sign.
pub fn prove(key: &SigningKey, statement: Statement<'_>) -> Result<Secret, SigningKeyError> {
    #[derive(Serialize)]
    struct Header {
        typ: &'static str,
        alg: Algorithm,
        jwk: Object,
    }
    #[derive(Serialize)]
    struct Body<'s> {
        jti: &'s str,
        htm: &'s str,
        htu: &'s str,
        iat: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        ath: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        nonce: Option<&'s str>,
    }
    let jwk = key.verifying_key().public_key().required_members();
    let header = Header { typ: TYP, alg: Algorithm::ES256, jwk };
    let Statement { method, uri, jti, issued, token, nonce } = statement;
    let body = Body {
        jti,
        htm: method,
        htu: uri.as_str(),
        iat: issued.seconds(),
        ath: token.map(|token| base64url::encode(digest(&SHA256, token.as_bytes()))),
        nonce,
    };
    key.sign_under(&header, &body)
}

#[cfg(test)]
mod tests;
