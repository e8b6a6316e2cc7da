//! The SPIFFE bundle: the keys that a trust domain vouches with, as JSON (SPIFFE Trust Domain and Bundle section 4).
//!
//! A bundle does not say whose it is; whoever fetched it knows from configuration.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::authority::{Authority, AuthorityError};
use crate::jose::json::{JsonError, Object, parse_object};

/// The longest bundle document, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 1024 * 1024;

/// The most elements of `keys`.
pub const MAX_KEYS: usize = 256;

/// The keys of one trust domain. Without any, it trusts nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    authorities: Vec<Authority>,
    jwt_keys: Vec<Object>,
    sequence: Option<u64>,
    refresh_hint_seconds: Option<u64>,
}

/// A document is not a SPIFFE bundle. `key` counts the elements of `keys` from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not a strict JSON object (RFC 7517 section 5).
    #[error("the bundle: {0}")]
    Json(#[from] JsonError),
    /// `keys` is missing or not an array (section 4.1.3). Empty is allowed, and trusts nothing.
    #[error("the bundle has no array `keys`")]
    NoKeys,
    /// More than [`MAX_KEYS`].
    #[error("the bundle has more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// An element of `keys` is not an object (RFC 7517 section 5.1).
    #[error("key {key} of the bundle is not an object")]
    NotAnObject {
        /// Which.
        key: usize,
    },
    /// `spiffe_sequence` is not a whole number below 2^64 (section 4.1.1).
    #[error("`spiffe_sequence` of the bundle is not a whole number")]
    Sequence,
    /// `spiffe_refresh_hint` is not a whole number of seconds (section 4.1.2).
    #[error("`spiffe_refresh_hint` of the bundle is not a whole number of seconds")]
    RefreshHint,
    /// An `x509-svid` key has a `kid`, which it must not (X509-SVID section 6.1).
    #[error("key {key} of the bundle is for X.509 and must not have a `kid`")]
    KidOnX509 {
        /// Which.
        key: usize,
    },
    /// The first value of `x5c` is not a certificate in base64 (X509-SVID section 6.1).
    #[error("`x5c` of key {key} of the bundle does not begin with a certificate in base64")]
    X5c {
        /// Which.
        key: usize,
    },
    /// The certificate does not belong to an authority (THREATS.md class 8).
    #[error("key {key} of the bundle: {fault}")]
    Authority {
        /// Which.
        key: usize,
        /// Why.
        fault: AuthorityError,
    },
    /// A `jwt-svid` key has no `kid`, or an empty one (JWT-SVID section 5.1).
    #[error("key {key} of the bundle is for JWT and needs a `kid`")]
    KidMissing {
        /// Which.
        key: usize,
    },
    /// Two `jwt-svid` keys have one `kid` (JWT-SVID section 5.1).
    #[error("key {key} of the bundle has the `kid` of another")]
    KidTwice {
        /// Which.
        key: usize,
    },
}

impl Bundle {
    /// Reads a bundle document. Elements of unknown or missing `use` or `kty`, and `x509-svid` keys without a value in
    /// `x5c`, are passed over, as the specification demands.
    ///
    /// # Errors
    /// [`BundleError`] names the rule that the document breaks.
    pub fn parse(document: &[u8]) -> Result<Self, BundleError> {
        let document = parse_object(document, MAX_BUNDLE_BYTES)?;
        let keys = keys(&document)?;
        let mut bundle = Self {
            sequence: whole(&document, "spiffe_sequence").ok_or(BundleError::Sequence)?,
            refresh_hint_seconds: whole(&document, "spiffe_refresh_hint")
                .ok_or(BundleError::RefreshHint)?,
            ..Self::default()
        };
        for (key, jwk) in keys.iter().enumerate() {
            bundle.take(key, jwk.as_object().ok_or(BundleError::NotAnObject { key })?)?;
        }
        Ok(bundle)
    }

    /// A bundle of X.509 authorities.
    pub fn of_authorities(authorities: Vec<Authority>) -> Self {
        Self { authorities, ..Self::default() }
    }

    /// The same bundle with JWT-SVID keys: JWKs with a `kid`, without `use`.
    #[must_use]
    pub fn with_jwt_keys(self, jwt_keys: Vec<Object>) -> Self {
        Self { jwt_keys, ..self }
    }

    /// The same bundle but for JWT-SVID keys of certain names.
    #[must_use]
    pub fn without_jwt_keys(&self, is_gone: impl Fn(&str) -> bool) -> Self {
        let mut left = self.clone();
        left.jwt_keys.retain(|jwk| !jwk.get("kid").and_then(Value::as_str).is_some_and(&is_gone));
        left
    }

    /// The same bundle with the JWT-SVID keys of a JWK set whose keys are all for that, whether they say so or not (SPIFFE
    /// Workload API section 6.2). What says that it is for something else is left out.
    ///
    /// # Errors
    /// [`BundleError`] names the rule that the set breaks.
    pub fn with_jwk_set(mut self, document: &[u8]) -> Result<Self, BundleError> {
        let document = parse_object(document, MAX_BUNDLE_BYTES)?;
        self.jwt_keys.clear();
        for (key, jwk) in keys(&document)?.iter().enumerate() {
            let mut jwk = jwk.as_object().ok_or(BundleError::NotAnObject { key })?.clone();
            let purpose = jwk.entry("use").or_insert_with(|| json!("jwt-svid"));
            if purpose == "jwt-svid" {
                self.take(key, &jwk)?;
            }
        }
        Ok(self)
    }

    /// The same bundle with a sequence number, to be raised at each change, and the seconds between two fetches.
    #[must_use]
    pub fn with_sequence(self, sequence: u64, refresh_hint_seconds: u64) -> Self {
        Self { sequence: Some(sequence), refresh_hint_seconds: Some(refresh_hint_seconds), ..self }
    }

    /// The roots that X.509-SVIDs of the trust domain lead to.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// The keys of JWT-SVIDs of the trust domain, each with a `kid` of its own, otherwise as they were read.
    pub fn jwt_keys(&self) -> &[Object] {
        &self.jwt_keys
    }

    /// The number that is raised at each change.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// How often to look for changes, in seconds.
    pub fn refresh_hint_seconds(&self) -> Option<u64> {
        self.refresh_hint_seconds
    }

    /// The bundle as a document. Authorities whose key has no JWK of ours (EC on P-256 and P-384, RSA) are left out.
    pub fn to_document(&self) -> Value {
        let x509 = self.authorities.iter().filter_map(|authority| {
            let mut jwk = authority.public_key_members()?;
            jwk.insert("use".to_owned(), json!("x509-svid"));
            jwk.insert("x5c".to_owned(), json!([STANDARD.encode(authority.der())]));
            Some(jwk)
        });
        let jwt = self.jwt_keys.iter().cloned().map(|mut jwk| {
            jwk.insert("use".to_owned(), json!("jwt-svid"));
            jwk
        });
        let mut document = Object::new();
        document.insert("keys".to_owned(), x509.chain(jwt).collect());
        let numbers = [
            ("spiffe_sequence", self.sequence),
            ("spiffe_refresh_hint", self.refresh_hint_seconds),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                document.insert(name.to_owned(), json!(number));
            }
        }
        Value::Object(document)
    }

    fn take(&mut self, key: usize, jwk: &Object) -> Result<(), BundleError> {
        let text = |name| jwk.get(name).and_then(Value::as_str);
        match (text("use"), text("kty")) {
            (Some("x509-svid"), Some("EC" | "RSA" | "OKP")) => {
                if jwk.contains_key("kid") {
                    return Err(BundleError::KidOnX509 { key });
                }
                self.authorities.extend(authority(key, jwk.get("x5c"))?);
            }
            (Some("jwt-svid"), Some("EC" | "RSA")) => {
                let kid = text("kid").filter(|kid| !kid.is_empty());
                let kid = kid.ok_or(BundleError::KidMissing { key })?;
                let known = |known: &Object| known.get("kid").and_then(Value::as_str) == Some(kid);
                if self.jwt_keys.iter().any(known) {
                    return Err(BundleError::KidTwice { key });
                }
                self.jwt_keys.push(jwk.clone());
            }
            _ => {}
        }
        Ok(())
    }
}

fn keys(document: &Object) -> Result<&[Value], BundleError> {
    let keys = document.get("keys").and_then(Value::as_array).ok_or(BundleError::NoKeys)?;
    if keys.len() > MAX_KEYS { Err(BundleError::TooManyKeys) } else { Ok(keys) }
}

/// `Some(None)` if there is no such member, `None` if it is not a whole number.
fn whole(document: &Object, name: &str) -> Option<Option<u64>> {
    document.get(name).map_or(Some(None), |value| value.as_u64().map(Some))
}

fn authority(key: usize, x5c: Option<&Value>) -> Result<Option<Authority>, BundleError> {
    let values = match x5c {
        None => return Ok(None),
        Some(values) => values.as_array().ok_or(BundleError::X5c { key })?,
    };
    let Some(first) = values.first() else { return Ok(None) };
    let der = first.as_str().and_then(|text| STANDARD.decode(text).ok());
    let der = der.ok_or(BundleError::X5c { key })?;
    Authority::check(&der).map(Some).map_err(|fault| BundleError::Authority { key, fault })
}

#[cfg(test)]
mod tests;
