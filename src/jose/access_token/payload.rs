//! The claims of an access token where they stand in its payload: read once and in place, each with its type, without a tree of
//! values. What is not strict JSON is refused as everywhere (`json`), in members that are not known too.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use super::super::claims::{self, ClaimError, MAX_TEXT_BYTES};
use super::super::execution_claim::{self, ExecutionClaim};
use super::super::json::{self, JsonError, MAX_DEPTH, PassedOver, Written};
use super::super::jws::{JwsError, MAX_COMPACT_BYTES};
use super::{AccessTokenError, Cnf};
use crate::domain::grant::Grant;
use crate::domain::principal::Principal;
use crate::domain::time::{INFINITY, Stamp};

/// The claims, each of its type; `None`: it is not there.
#[derive(Default)]
pub(super) struct Claims<'p> {
    pub(super) iss: Option<Cow<'p, str>>,
    pub(super) sub: Option<Cow<'p, str>>,
    pub(super) client_id: Option<Cow<'p, str>>,
    /// From this task's agent outward.
    pub(super) act: Option<Vec<Principal>>,
    pub(super) aud: Option<Cow<'p, str>>,
    pub(super) iat: Option<Stamp>,
    pub(super) nbf: Option<Stamp>,
    pub(super) exp: Option<Stamp>,
    pub(super) jti: Option<Cow<'p, str>>,
    pub(super) authorization_details: Option<Grant>,
    pub(super) cnf: Option<Cnf>,
    pub(super) txn: Option<Cow<'p, str>>,
    pub(super) leasehold: Option<Written<ExecutionClaim>>,
}

impl<'p> Claims<'p> {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`AccessTokenError`] names the first rule that it breaks: of JSON, or of the type of a claim.
    pub(super) fn read(payload: &'p [u8]) -> Result<Self, AccessTokenError> {
        let fault = Cell::new(JwsError::Payload(JsonError::Syntax).into());
        // At once, and not text by text.
        let Ok(text) = str::from_utf8(payload) else { return Err(explained(payload, fault.get())) };
        let mut reader = serde_json::Deserializer::from_str(text);
        let claims = reader.deserialize_map(Members { fault: &fault });
        let claims = claims.and_then(|claims| reader.end().map(|()| claims));
        claims.map_err(|_| explained(payload, fault.get()))
    }
}

/// Why a payload was not read. `fault`: what is wrong with the member that reading ended at, if it is JSON.
fn explained(payload: &[u8], fault: AccessTokenError) -> AccessTokenError {
    let object = match json::parse_object(payload, MAX_COMPACT_BYTES) {
        Ok(object) => object,
        Err(error) => return JwsError::Payload(error).into(),
    };
    if fault != AccessTokenError::Malformed(execution_claim::NAME) {
        return fault;
    }
    // It may be of another version.
    let claims = claims::Claims::read(object);
    claims.ok().and_then(|claims| ExecutionClaim::read(&claims).err()).map_or(fault, Into::into)
}

/// Reads the members. `fault` carries around serde's error what is wrong with the one that is read.
struct Members<'f> {
    fault: &'f Cell<AccessTokenError>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Claims<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Claims<'de>, A::Error> {
        let (mut claims, mut others) = (Claims::default(), BTreeSet::new());
        let of = &mut members;
        let malformed = AccessTokenError::Malformed;
        while let Some(name) = of.next_key_seed(Text(0..=usize::MAX))? {
            match &*name {
                "iss" => self.text("iss", &mut claims.iss, of)?,
                "sub" => self.text("sub", &mut claims.sub, of)?,
                "client_id" => self.text("client_id", &mut claims.client_id, of)?,
                "aud" => self.text("aud", &mut claims.aud, of)?,
                "jti" => self.text("jti", &mut claims.jti, of)?,
                "txn" => self.text("txn", &mut claims.txn, of)?,
                "iat" => self.time("iat", &mut claims.iat, of)?,
                "nbf" => self.time("nbf", &mut claims.nbf, of)?,
                "exp" => self.time("exp", &mut claims.exp, of)?,
                "act" => {
                    let actors = Actors { levels_left: MAX_DEPTH - 1 };
                    self.member(malformed("act"), &mut claims.act, of, actors)?;
                }
                "authorization_details" => {
                    let fault = malformed("authorization_details");
                    self.member(fault, &mut claims.authorization_details, of, Allowed)?;
                }
                "cnf" => self.member(malformed("cnf"), &mut claims.cnf, of, PhantomData)?,
                execution_claim::NAME => {
                    let fault = malformed(execution_claim::NAME);
                    self.member(fault, &mut claims.leasehold, of, PhantomData)?;
                }
                _ => {
                    if !others.insert(name.into_owned()) {
                        return Err(A::Error::custom(JsonError::DuplicateMember));
                    }
                    of.next_value_seed(PassedOver { levels_left: MAX_DEPTH - 1 })?;
                }
            }
        }
        Ok(claims)
    }
}

impl Members<'_> {
    /// Reads a member into its place, which is empty.
    fn member<'de, S: DeserializeSeed<'de>, A: MapAccess<'de>>(
        &self,
        fault: AccessTokenError,
        place: &mut Option<S::Value>,
        members: &mut A,
        seed: S,
    ) -> Result<(), A::Error> {
        if place.is_some() {
            return Err(A::Error::custom(JsonError::DuplicateMember));
        }
        self.fault.set(fault);
        *place = Some(members.next_value_seed(seed)?);
        Ok(())
    }

    fn text<'de, A: MapAccess<'de>>(
        &self,
        name: &'static str,
        place: &mut Option<Cow<'de, str>>,
        members: &mut A,
    ) -> Result<(), A::Error> {
        self.member(ClaimError::WrongType(name).into(), place, members, Text(1..=MAX_TEXT_BYTES))
    }

    fn time<'de, A: MapAccess<'de>>(
        &self,
        name: &'static str,
        place: &mut Option<Stamp>,
        members: &mut A,
    ) -> Result<(), A::Error> {
        self.member(ClaimError::WrongType(name).into(), place, members, Time { name, of: self })
    }
}

/// A text of so many bytes, where it stands, unless characters of it are escaped.
struct Text(RangeInclusive<usize>);

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of {} to {} bytes", self.0.start(), self.0.end())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        if self.0.contains(&text.len()) {
            return Ok(Cow::Borrowed(text));
        }
        Err(E::invalid_length(text.len(), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if self.0.contains(&text.len()) {
            return Ok(Cow::Owned(text.to_owned()));
        }
        Err(E::invalid_length(text.len(), &self))
    }
}

/// A time in whole seconds (RFC 7519 section 2, NumericDate).
struct Time<'m> {
    name: &'static str,
    of: &'m Members<'m>,
}

impl Time<'_> {
    fn wrong<E: Error>(&self) -> E {
        self.of.fault.set(ClaimError::WrongTime(self.name).into());
        E::custom("not a time in whole seconds")
    }
}

impl<'de> DeserializeSeed<'de> for Time<'_> {
    type Value = Stamp;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Stamp, D::Error> {
        deserializer.deserialize_u64(self)
    }
}

impl Visitor<'_> for Time<'_> {
    type Value = Stamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Stamp, E> {
        if seconds > INFINITY.seconds() {
            return Err(self.wrong());
        }
        Ok(Stamp::from_seconds(seconds))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Stamp, E> {
        Err(self.wrong())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Stamp, E> {
        Err(self.wrong())
    }
}

/// `authorization_details`.
struct Allowed;

impl<'de> DeserializeSeed<'de> for Allowed {
    type Value = Grant;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Grant, D::Error> {
        Grant::read(deserializer).map_err(D::Error::custom)
    }
}

/// `act` (RFC 8693 section 4.1): only `sub` and `act`, since that is what we write.
struct Actors {
    levels_left: usize,
}

impl<'de> DeserializeSeed<'de> for Actors {
    type Value = Vec<Principal>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Actors {
    type Value = Vec<Principal>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an actor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let levels_left = self.levels_left.checked_sub(1);
        let levels_left = levels_left.ok_or_else(|| A::Error::custom(JsonError::TooDeep))?;
        let (mut sub, mut others) = (None, None);
        while let Some(name) = members.next_key_seed(Text(0..=usize::MAX))? {
            match &*name {
                "sub" if sub.is_none() => {
                    let text = members.next_value_seed(Text(0..=usize::MAX))?;
                    sub = Some(Principal::parse(&text).map_err(A::Error::custom)?);
                }
                "act" if others.is_none() => {
                    others = Some(members.next_value_seed(Self { levels_left })?);
                }
                _ => return Err(A::Error::custom("another member")),
            }
        }
        let own = sub.ok_or_else(|| A::Error::missing_field("sub"))?;
        // The outermost comes first.
        let mut actors = vec![own];
        actors.extend(others.unwrap_or_default());
        Ok(actors)
    }
}
