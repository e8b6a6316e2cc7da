//! Compact JWS: shape and header before the signature, the signature before the claims (RFC 7515, RFC 8725).

use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::JwtVerifier as _;
use serde::Serialize;
use serde_json::Value;
use signature::Verifier as _;

use super::claims::{ClaimError, Claims};
use super::json::{self, JsonError, Object};
use super::jwk::{MAX_KID_BYTES, is_kid};
use super::key_set::KeySet;
use super::{access_token, base64url};

/// Bytes of a compact JWS, signature included.
pub const MAX_COMPACT_BYTES: usize = 16 * 1024;

/// Header members that choose a key, a way of reading, or rules of their own (RFC 8725 sections 3.6, 3.10).
const REFUSED_MEMBERS: [&str; 7] = ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"];

/// A text is not a token of the kind that was asked for. Nothing of the token is in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// More than its kind may have: [`MAX_COMPACT_BYTES`], less for some.
    #[error("the token has more bytes than one of its kind may have")]
    TooLarge,
    /// Other characters than `A-Z a-z 0-9 - _ .`, or not exactly two dots (RFC 7515 section 7.1).
    #[error("the token is not a compact JWS: three parts of base64url, two dots")]
    Shape,
    /// Padding, or trailing bits that are set (RFC 7515 section 2).
    #[error("a part of the token is not canonical base64url")]
    Base64,
    /// The header is not a strict JSON object.
    #[error("the header of the token is malformed: {0}")]
    Header(JsonError),
    /// RFC 8725 sections 3.6 and 3.10.
    #[error("the header of the token has the member `{0}`, which is never accepted")]
    RefusedMember(&'static str),
    /// `alg` is missing, no string, or not on the caller's list (RFC 8725 section 3.1).
    #[error("the algorithm of the token is not accepted")]
    Algorithm,
    /// `kid` is missing, empty, too long, or no string.
    #[error("`kid` of the token is not a string of 1 to {MAX_KID_BYTES} bytes")]
    Kid,
    /// `typ` names another kind (RFC 8725 section 3.11).
    #[error("the token is of another kind: `typ` does not match")]
    Typ,
    /// No key of that name in the set.
    #[error("no key of the issuer has the token's `kid`")]
    UnknownKey,
    /// The key is for another algorithm (RFC 8725 section 3.1).
    #[error("the token's algorithm is not that of its key")]
    KeyAlgorithm,
    /// RFC 7515 section 5.2.
    #[error("the signature of the token is not valid")]
    Signature,
    /// The payload is not a strict JSON object.
    #[error("the claims of the token are malformed: {0}")]
    Payload(JsonError),
    /// A registered claim has the wrong type (RFC 7519 section 4.1).
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

/// Which `typ` a kind of token has.
#[derive(Clone, Copy, Debug)]
pub enum Typ {
    /// This media type, with or without `application/`, in any case (RFC 7515 section 4.1.9).
    Is(&'static str),
    /// None, or one of these.
    AbsentOr(&'static [&'static str]),
}

impl Typ {
    fn accepts(self, header: Option<&str>) -> bool {
        match (self, header) {
            (Self::Is(kind), Some(typ)) => is_media_type(typ, kind),
            (Self::Is(_), None) => false,
            (Self::AbsentOr(_), None) => true,
            (Self::AbsentOr(kinds), Some(typ)) => kinds.iter().any(|kind| is_media_type(typ, kind)),
        }
    }
}

fn is_media_type(typ: &str, kind: &str) -> bool {
    let subtype = match typ.split_once('/') {
        Some((top, subtype)) if top.eq_ignore_ascii_case("application") => subtype,
        _ => typ,
    };
    subtype.eq_ignore_ascii_case(kind)
}

/// What one kind of token is verified against.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'k> {
    /// Its `typ`.
    pub typ: Typ,
    /// Its algorithms.
    pub algorithms: &'static [Algorithm],
    /// The keys of its issuer for this kind, and for no other.
    pub keys: &'k KeySet,
}

/// The header of a token that is signed here; nothing else stands in it.
#[derive(Serialize)]
pub(super) struct Header<'h> {
    pub(super) typ: &'h str,
    pub(super) alg: Algorithm,
    pub(super) kid: &'h str,
}

/// Verifies a token of one kind; the caller then asks the claims for what that kind requires.
///
/// # Errors
/// [`JwsError`] names the rule that the token breaks.
pub fn verify(compact: &str, expect: Expect<'_>) -> Result<Claims, JwsError> {
    Unverified::parse(compact, expect.typ, expect.algorithms)?.verify(expect.keys)
}

/// A token whose shape and header are right and whose signature nobody has checked yet.
pub struct Unverified<'a> {
    algorithm: Algorithm,
    kid: String,
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Checks shape and header.
    ///
    /// # Errors
    /// [`JwsError`] names the rule that the token breaks.
    pub fn parse(
        compact: &'a str,
        typ: Typ,
        algorithms: &'static [Algorithm],
    ) -> Result<Self, JwsError> {
        let Compact { header, signed, payload, signature } =
            Compact::split(compact, MAX_COMPACT_BYTES)?;
        let algorithm = check_header(&header, typ, algorithms)?;
        let kid = match header.get("kid") {
            Some(Value::String(kid)) if is_kid(kid) => kid.clone(),
            _ => return Err(JwsError::Kid),
        };
        Ok(Self { algorithm, kid, signed, payload, signature })
    }

    /// The same for an access token, whose header is mostly, letter for letter, the one that a key of its issuer signs under: what
    /// that says is known, and is not read again.
    ///
    /// # Errors
    /// [`JwsError`] names the rule that the token breaks.
    pub(super) fn parse_access_token(compact: &'a str, keys: &KeySet) -> Result<Self, JwsError> {
        let read = || Self::parse(compact, Typ::Is(access_token::TYP), &[Algorithm::ES256]);
        Self::under_known_header(compact, keys).map_or_else(read, Ok)
    }

    /// `None`: it has another header, or another part of it is not what it should be.
    pub(super) fn under_known_header(compact: &'a str, keys: &KeySet) -> Option<Self> {
        let (signed, signature) = compact.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let kid = keys.kid_of_header(header)?.to_owned();
        if compact.len() > MAX_COMPACT_BYTES {
            return None;
        }
        let (payload, signature) = (base64url::decode(payload)?, base64url::decode(signature)?);
        Some(Self { algorithm: Algorithm::ES256, kid, signed, payload, signature })
    }

    /// The name of the key that it claims to be signed with: a stranger's text, to be looked up and for nothing else.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The issuer that it claims to be from: a stranger's text, to find the keys of a configured issuer and for nothing
    /// else. `None` if the payload is malformed or has none.
    pub fn claimed_issuer(&self) -> Option<String> {
        match json::parse_object(&self.payload, MAX_COMPACT_BYTES).ok()?.remove("iss") {
            Some(Value::String(issuer)) => Some(issuer),
            _ => None,
        }
    }

    /// Checks the signature, then reads the claims and the types of the registered ones.
    ///
    /// # Errors
    /// [`JwsError`] names the rule that the token breaks.
    pub fn verify(self, keys: &KeySet) -> Result<Claims, JwsError> {
        let payload = self.signed_payload(keys)?;
        let object = json::parse_object(&payload, MAX_COMPACT_BYTES).map_err(JwsError::Payload)?;
        Ok(Claims::read(object)?)
    }

    /// Checks the signature; the payload is the signer's, and not read yet.
    pub(super) fn signed_payload(self, keys: &KeySet) -> Result<Vec<u8>, JwsError> {
        let key = keys.get(&self.kid).ok_or(JwsError::UnknownKey)?;
        if key.algorithm() != self.algorithm {
            return Err(JwsError::KeyAlgorithm);
        }
        key.verify(self.signed.as_bytes(), &self.signature).map_err(|_| JwsError::Signature)?;
        Ok(self.payload)
    }
}

/// A compact JWS taken apart: its form is right, and nothing that it says is checked.
pub(super) struct Compact<'a> {
    pub(super) header: Object,
    pub(super) signed: &'a str,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    pub(super) fn split(compact: &'a str, max_bytes: usize) -> Result<Self, JwsError> {
        if compact.len() > max_bytes {
            return Err(JwsError::TooLarge);
        }
        let (signed, signature) = compact.rsplit_once('.').ok_or(JwsError::Shape)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Shape)?;
        let decoded = [header, payload, signature].map(base64url::decode);
        let [Some(header), Some(payload), Some(signature)] = decoded else {
            let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            let is_shape = [header, payload, signature].iter().all(|p| p.bytes().all(is_base64));
            return Err(if is_shape { JwsError::Base64 } else { JwsError::Shape });
        };
        let header = json::parse_object(&header, MAX_COMPACT_BYTES).map_err(JwsError::Header)?;
        Ok(Self { header, signed, payload, signature })
    }
}

fn check_header(
    header: &Object,
    typ: Typ,
    algorithms: &[Algorithm],
) -> Result<Algorithm, JwsError> {
    if let Some(member) = REFUSED_MEMBERS.into_iter().find(|member| header.contains_key(*member)) {
        return Err(JwsError::RefusedMember(member));
    }
    check_kind(header, typ, algorithms)
}

/// `alg` and `typ`.
pub(super) fn check_kind(
    header: &Object,
    typ: Typ,
    algorithms: &[Algorithm],
) -> Result<Algorithm, JwsError> {
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(|name| name.parse().ok())
        .filter(|algorithm| algorithms.contains(algorithm))
        .ok_or(JwsError::Algorithm)?;
    let typ_fits = match header.get("typ") {
        None => typ.accepts(None),
        Some(Value::String(text)) => typ.accepts(Some(text)),
        Some(_) => false,
    };
    if typ_fits { Ok(algorithm) } else { Err(JwsError::Typ) }
}

#[cfg(test)]
mod tests;
