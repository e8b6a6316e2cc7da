//! A JWK set, read once, looked up by `kid` only (RFC 7517 section 5, RFC 8725 section 3.10).

use std::collections::BTreeMap;

use jsonwebtoken::crypto::JwtVerifier as _;
use serde_json::Value;

use super::json::{self, JsonError};
use super::jwk::{JwkError, VerifyingKey};
use super::jws::Header;
use super::{Algorithm, access_token, base64url};

/// Bytes of a JWK set.
pub const MAX_SET_BYTES: usize = 512 * 1024;
/// Keys of a JWK set.
pub const MAX_KEYS: usize = 64;

/// A document is not a JWK set of public keys: none of its keys may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a strict JSON object of at most 512 KiB.
    #[error("the JWK set is malformed: {0}")]
    Json(#[from] JsonError),
    /// `keys` is missing, no array, or has an element that is no object.
    #[error("the JWK set has no array `keys` of objects")]
    Keys,
    /// More than [`MAX_KEYS`].
    #[error("the JWK set has more than {MAX_KEYS} keys")]
    TooMany,
    /// A symmetric key, alone or among others: it is published, so anybody could sign with it.
    #[error("the JWK set holds a symmetric key (`kty` is `oct`)")]
    Symmetric,
    /// Which of the two is meant would be chance.
    #[error("the JWK set has two keys with one `kid`")]
    DuplicateKid,
}

/// Keys that one kind of token of one issuer is verified with. An empty set verifies nothing.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: BTreeMap<String, VerifyingKey>,
    /// Names of keys for ES256, by the header that access tokens of ours have which they signed, as it is written.
    headers: BTreeMap<String, String>,
    refused: Vec<JwkError>,
}

impl KeySet {
    /// Reads a JWK set. Keys that are not for verifying, or not with an algorithm of ours, are left out.
    ///
    /// # Errors
    /// [`KeySetError`] if the document is such that none of its keys may be used.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let object = json::parse_object(document, MAX_SET_BYTES)?;
        let elements = object.get("keys").and_then(Value::as_array).ok_or(KeySetError::Keys)?;
        if elements.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut kids = std::collections::BTreeSet::new();
        let mut set = Self::default();
        for element in elements {
            let jwk = element.as_object().ok_or(KeySetError::Keys)?;
            if jwk.get("kty").is_some_and(|kind| kind == "oct") || jwk.contains_key("k") {
                return Err(KeySetError::Symmetric);
            }
            if jwk.get("kid").and_then(Value::as_str).is_some_and(|kid| !kids.insert(kid)) {
                return Err(KeySetError::DuplicateKid);
            }
            match VerifyingKey::from_jwk(jwk) {
                Ok(key) => set.insert(key)?,
                Err(reason) => set.refused.push(reason),
            }
        }
        Ok(set)
    }

    /// A set of keys that were made here.
    ///
    /// # Errors
    /// [`KeySetError::DuplicateKid`], [`KeySetError::TooMany`].
    pub fn of(keys: impl IntoIterator<Item = VerifyingKey>) -> Result<Self, KeySetError> {
        let mut set = Self::default();
        for key in keys {
            set.insert(key)?;
        }
        if set.keys.len() > MAX_KEYS { Err(KeySetError::TooMany) } else { Ok(set) }
    }

    fn insert(&mut self, key: VerifyingKey) -> Result<(), KeySetError> {
        if key.algorithm() == Algorithm::ES256 {
            let header = Header { typ: access_token::TYP, alg: Algorithm::ES256, kid: key.kid() };
            let header = serde_json::to_vec(&header).unwrap_or_default();
            self.headers.insert(base64url::encode(header), key.kid().to_owned());
        }
        match self.keys.insert(key.kid().to_owned(), key) {
            None => Ok(()),
            Some(_) => Err(KeySetError::DuplicateKid),
        }
    }

    /// The same keys but those of certain names.
    #[must_use]
    pub fn without(&self, is_gone: impl Fn(&str) -> bool) -> Self {
        let mut left = self.clone();
        left.keys.retain(|kid, _| !is_gone(kid));
        left
    }

    /// The name of the key whose access tokens have this header, if it is one of ours for ES256. It may be of no use any more.
    pub(super) fn kid_of_header(&self, header: &str) -> Option<&str> {
        self.headers.get(header).map(String::as_str)
    }

    /// The key of this name.
    pub fn get(&self, kid: &str) -> Option<&VerifyingKey> {
        self.keys.get(kid)
    }

    /// Its keys, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.keys.values()
    }

    /// Why keys of the document were left out, in its order.
    pub fn refused(&self) -> &[JwkError] {
        &self.refused
    }

    /// The document to publish: `{"keys":[…]}`.
    pub fn to_document(&self) -> Value {
        serde_json::json!({ "keys": self.iter().map(VerifyingKey::to_jwk).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests;
