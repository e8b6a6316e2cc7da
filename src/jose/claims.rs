//! Claims behind a valid signature, each with its type: a wrong type is never an absent claim (CVE-2026-25537).

use serde_json::Value;

use super::json::Object;
use crate::domain::time::{INFINITY, Span, Stamp};

/// Bytes of a text claim.
pub(super) const MAX_TEXT_BYTES: usize = 2048;
/// Values of `aud`.
const MAX_AUDIENCES: usize = 16;
/// More than this is never forgiven to a clock (RFC 7519 section 4.1.4: "no more than a few minutes").
const MAX_LEEWAY: Span = Span::from_seconds(60);

/// A claim is not what the kind of token requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Required, and not there.
    #[error("the token has no claim `{0}`")]
    Missing(&'static str),
    /// Another JSON type than the claim has, or an empty text, or a text of more than 2048 bytes.
    #[error("the claim `{0}` has the wrong type")]
    WrongType(&'static str),
    /// A time that is no whole number of seconds between 1970 and 2255 (RFC 7519 section 2, NumericDate).
    #[error("the claim `{0}` is not a time in whole seconds")]
    WrongTime(&'static str),
    /// Now is not before `exp` (RFC 7519 section 4.1.4).
    #[error("the token has expired")]
    Expired,
    /// `iat` or `nbf` lies in the future (RFC 7519 section 4.1.5).
    #[error("the token is not valid yet: `{0}` lies in the future")]
    NotYet(&'static str),
    /// `exp` is not after `iat`.
    #[error("the token expires before it was issued")]
    Backwards,
}

/// How far another clock may differ from ours. Each is at most 60 seconds, whatever is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Leeway {
    /// Accepted for so long after `exp`.
    pub past_expiry: Span,
    /// Accepted for so long before `iat` and `nbf`.
    pub before_start: Span,
}

impl Leeway {
    /// For tokens of ours: none after `exp`; before `iat` the five seconds that their `nbf` lies earlier.
    pub const OURS: Self = Self { past_expiry: Span::ZERO, before_start: Span::from_seconds(5) };
    /// For tokens of foreign issuers.
    pub const FOREIGN: Self = Self { past_expiry: MAX_LEEWAY, before_start: MAX_LEEWAY };
}

/// The times of a token that is valid now and need not say when it was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// `exp`.
    pub expires: Stamp,
    /// `iat`.
    pub issued: Option<Stamp>,
    /// `nbf`.
    pub not_before: Option<Stamp>,
}

impl Validity {
    /// Checks the times of a token against now.
    ///
    /// # Errors
    /// [`ClaimError`] if it is not valid now.
    pub(super) fn check(self, now: Stamp, leeway: Leeway) -> Result<Self, ClaimError> {
        let Self { expires, issued, not_before } = self;
        if issued.is_some_and(|issued| expires <= issued) {
            return Err(ClaimError::Backwards);
        }
        if now >= expires.plus(leeway.past_expiry.min(MAX_LEEWAY)) {
            return Err(ClaimError::Expired);
        }
        let latest_start = now.plus(leeway.before_start.min(MAX_LEEWAY));
        if issued.is_some_and(|issued| issued > latest_start) {
            return Err(ClaimError::NotYet("iat"));
        }
        if not_before.is_some_and(|start| start > latest_start) {
            return Err(ClaimError::NotYet("nbf"));
        }
        Ok(self)
    }
}

/// The times of a token that is valid now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// `exp`.
    pub expires: Stamp,
    /// `iat`.
    pub issued: Stamp,
    /// `nbf`, which a kind may require.
    pub not_before: Option<Stamp>,
}

/// The claims of a token whose signature was valid. Each getter is a requirement of the kind that calls it.
#[derive(Clone)]
pub struct Claims(Object);

impl Claims {
    /// Takes a payload whose registered claims have the types of RFC 7519 section 4.1, as far as they are there.
    pub(super) fn read(object: Object) -> Result<Self, ClaimError> {
        let claims = Self(object);
        for name in ["iss", "sub", "jti"] {
            claims.optional_text(name)?;
        }
        for name in ["exp", "iat", "nbf"] {
            claims.optional_time(name)?;
        }
        match claims.audience() {
            Ok(_) | Err(ClaimError::Missing(_)) => Ok(claims),
            Err(error) => Err(error),
        }
    }

    /// A text that must be there: not empty, at most 2048 bytes.
    ///
    /// # Errors
    /// [`ClaimError::Missing`], [`ClaimError::WrongType`].
    pub fn text(&self, name: &'static str) -> Result<&str, ClaimError> {
        self.optional_text(name)?.ok_or(ClaimError::Missing(name))
    }

    /// A text that may be absent.
    ///
    /// # Errors
    /// [`ClaimError::WrongType`].
    pub fn optional_text(&self, name: &'static str) -> Result<Option<&str>, ClaimError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => is_text(value).map(Some).ok_or(ClaimError::WrongType(name)),
        }
    }

    /// The values of `aud`, a text or an array of 1 to 16 texts (RFC 7519 section 4.1.3).
    ///
    /// # Errors
    /// [`ClaimError::Missing`], [`ClaimError::WrongType`].
    pub fn audience(&self) -> Result<Vec<&str>, ClaimError> {
        let wrong = ClaimError::WrongType("aud");
        match self.0.get("aud") {
            None => Err(ClaimError::Missing("aud")),
            Some(Value::Array(values)) if (1..=MAX_AUDIENCES).contains(&values.len()) => {
                values.iter().map(|value| is_text(value).ok_or(wrong)).collect()
            }
            Some(value) => Ok(vec![is_text(value).ok_or(wrong)?]),
        }
    }

    /// `aud` as the one text it is in tokens of ours; an array is refused, whatever its length.
    ///
    /// # Errors
    /// [`ClaimError::Missing`], [`ClaimError::WrongType`].
    pub fn sole_audience(&self) -> Result<&str, ClaimError> {
        self.text("aud")
    }

    /// Requires `exp` and `iat` and checks them, and `nbf` where it is, against now.
    ///
    /// # Errors
    /// [`ClaimError`] if one is missing or the token is not valid now.
    pub fn times(&self, now: Stamp, leeway: Leeway) -> Result<Times, ClaimError> {
        self.time("exp")?;
        let issued = self.time("iat")?;
        let Validity { expires, not_before, .. } = self.validity(now, leeway)?;
        Ok(Times { expires, issued, not_before })
    }

    /// Requires `exp` and checks it, and `iat` and `nbf` where they are, against now.
    ///
    /// # Errors
    /// [`ClaimError`] if it is missing or the token is not valid now.
    pub fn validity(&self, now: Stamp, leeway: Leeway) -> Result<Validity, ClaimError> {
        let expires = self.time("exp")?;
        let issued = self.optional_time("iat")?;
        let not_before = self.optional_time("nbf")?;
        Validity { expires, issued, not_before }.check(now, leeway)
    }

    /// A time that must be there.
    ///
    /// # Errors
    /// [`ClaimError::Missing`], [`ClaimError::WrongType`], [`ClaimError::WrongTime`].
    pub fn time(&self, name: &'static str) -> Result<Stamp, ClaimError> {
        self.optional_time(name)?.ok_or(ClaimError::Missing(name))
    }

    /// Any claim, for the typed part of one kind.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// All claims.
    pub fn members(&self) -> &Object {
        &self.0
    }

    /// A time that may be absent.
    ///
    /// # Errors
    /// [`ClaimError::WrongType`], [`ClaimError::WrongTime`].
    pub fn optional_time(&self, name: &'static str) -> Result<Option<Stamp>, ClaimError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let Value::Number(number) = value else { return Err(ClaimError::WrongType(name)) };
        let seconds = number.as_u64().filter(|seconds| *seconds <= INFINITY.seconds());
        seconds.map(Stamp::from_seconds).map(Some).ok_or(ClaimError::WrongTime(name))
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claims({} members)", self.0.len())
    }
}

fn is_text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| (1..=MAX_TEXT_BYTES).contains(&text.len()))
}

#[cfg(test)]
mod tests;
