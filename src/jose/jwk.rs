//! One public JWK and the rules it must pass to become a key of exactly one algorithm (RFC 7517, RFC 8725
//! section 3.1).

use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::JwtVerifier;
use ring::signature as rs;
use serde_json::Value;

use super::json::Object;
use super::public_key::{Curve, PublicKey, PublicKeyError};
use super::{FOREIGN_ALGORITHMS, base64url};

/// Bytes of a `kid`; it is looked up in a map and used for nothing else.
pub(super) const MAX_KID_BYTES: usize = 256;

/// A JWK is not one to verify with. The rest of its set may be used, except where [`super::KeySetError`] says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// `kid` missing, empty, longer than 256 bytes, or no string: the key could not be looked up.
    #[error("`kid` is not a string of 1 to {MAX_KID_BYTES} bytes")]
    Kid,
    /// `kty` is neither `RSA` nor `EC`, or `crv` is not a curve of ours.
    #[error("the key is neither RSA nor EC on P-256 or P-384")]
    KeyType,
    /// `use` is present and not `sig` (RFC 7517 section 4.2).
    #[error("`use` is not `sig`")]
    Use,
    /// `key_ops` is present and does not allow `verify` (RFC 7517 section 4.3).
    #[error("`key_ops` does not contain `verify`")]
    KeyOps,
    /// `alg` is present and not one that such a key verifies (RFC 7517 section 4.4).
    #[error("`alg` is not an algorithm for such a key")]
    Algorithm,
    /// The private part is published with it.
    #[error("the private part of the key is published: replace it")]
    Private,
    /// A coordinate, modulus or exponent is missing or not canonical base64url of the right length.
    #[error("a part of the key is missing or not base64url")]
    Encoding,
    /// The key itself.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
}

/// A public key, its name and the one algorithm that it verifies.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    kid: String,
    algorithm: Algorithm,
    public: PublicKey,
}

impl VerifyingKey {
    /// Reads a public JWK. An EC key's algorithm follows from its curve; an RSA key without `alg` is for RS256.
    ///
    /// # Errors
    /// [`JwkError`] names the rule that the key breaks.
    pub fn from_jwk(jwk: &Object) -> Result<Self, JwkError> {
        let kid = text(jwk, "kid").filter(|kid| is_kid(kid)).ok_or(JwkError::Kid)?.to_owned();
        let public = public_key(jwk)?;
        let algorithm = match jwk.get("alg") {
            None => default_algorithm(&public),
            Some(Value::String(name)) => name.parse().map_err(|_| JwkError::Algorithm)?,
            Some(_) => return Err(JwkError::Algorithm),
        };
        Self::new(kid, algorithm, public)
    }

    /// Reads a public JWK that came in a token's own header, for the algorithm of that token. Its name is its thumbprint,
    /// whatever it calls itself.
    ///
    /// # Errors
    /// [`JwkError`] names the rule that the key breaks.
    pub(super) fn from_header(jwk: &Object, algorithm: Algorithm) -> Result<Self, JwkError> {
        let public = public_key(jwk)?;
        let named = |alg: &Value| alg.as_str().and_then(|name| name.parse().ok());
        if jwk.get("alg").is_some_and(|alg| named(alg) != Some(algorithm)) {
            return Err(JwkError::Algorithm);
        }
        Self::new(base64url::encode(public.thumbprint()), algorithm, public)
    }

    /// Names a checked key and binds it to its algorithm.
    ///
    /// # Errors
    /// [`JwkError::Algorithm`] if such a key does not verify that algorithm, [`JwkError::Kid`] if the name is empty or
    /// longer than 256 bytes.
    pub fn new(kid: String, algorithm: Algorithm, public: PublicKey) -> Result<Self, JwkError> {
        if !is_kid(&kid) {
            return Err(JwkError::Kid);
        }
        let fits = match public.curve() {
            Some(_) => algorithm == default_algorithm(&public),
            None => {
                FOREIGN_ALGORITHMS.contains(&algorithm)
                    && !matches!(algorithm, Algorithm::ES256 | Algorithm::ES384)
            }
        };
        if fits { Ok(Self { kid, algorithm, public }) } else { Err(JwkError::Algorithm) }
    }

    /// Its name in its set.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key itself.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The JWK to publish: public parts, `kid`, `use` and `alg`.
    pub fn to_jwk(&self) -> Object {
        let mut jwk = self.public.required_members();
        for (name, value) in [("kid", self.kid.clone()), ("use", "sig".to_owned())] {
            jwk.insert(name.to_owned(), value.into());
        }
        jwk.insert("alg".to_owned(), format!("{:?}", self.algorithm).into());
        jwk
    }
}

impl signature::Verifier<Vec<u8>> for VerifyingKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let rsa = |parameters| match self.public.components() {
            Some(key) => key.verify(parameters, message, signature),
            None => Err(ring::error::Unspecified),
        };
        // The fixed forms take r and s of exactly the curve's length (RFC 7518 section 3.4).
        let ec = |algorithm| match self.public.point() {
            Some(point) => rs::UnparsedPublicKey::new(algorithm, point).verify(message, signature),
            None => Err(ring::error::Unspecified),
        };
        match self.algorithm {
            Algorithm::ES256 => ec(&rs::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => ec(&rs::ECDSA_P384_SHA384_FIXED),
            Algorithm::RS256 => rsa(&rs::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&rs::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&rs::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => rsa(&rs::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => rsa(&rs::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => rsa(&rs::RSA_PSS_2048_8192_SHA512),
            _ => Err(ring::error::Unspecified),
        }
        .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for VerifyingKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn default_algorithm(public: &PublicKey) -> Algorithm {
    match public.curve() {
        Some(Curve::P256) => Algorithm::ES256,
        Some(Curve::P384) => Algorithm::ES384,
        None => Algorithm::RS256,
    }
}

/// The key itself, if it is one to verify with and nothing of its private part is there.
fn public_key(jwk: &Object) -> Result<PublicKey, JwkError> {
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|part| jwk.contains_key(*part)) {
        return Err(JwkError::Private);
    }
    if jwk.get("use").is_some_and(|usage| usage != "sig") {
        return Err(JwkError::Use);
    }
    if jwk.get("key_ops").is_some_and(|operations| !may_verify(operations)) {
        return Err(JwkError::KeyOps);
    }
    match text(jwk, "kty") {
        Some("EC") => ec(jwk),
        Some("RSA") => Ok(PublicKey::rsa(&decoded(jwk, "n")?, &decoded(jwk, "e")?)?),
        _ => Err(JwkError::KeyType),
    }
}

fn ec(jwk: &Object) -> Result<PublicKey, JwkError> {
    let curve = text(jwk, "crv").and_then(Curve::from_name).ok_or(JwkError::KeyType)?;
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = decoded(jwk, name)?;
        if coordinate.len() != curve.coordinate_bytes() {
            return Err(JwkError::Encoding);
        }
        point.extend(coordinate);
    }
    Ok(PublicKey::ec(curve, &point)?)
}

fn text<'a>(jwk: &'a Object, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

fn decoded(jwk: &Object, name: &str) -> Result<Vec<u8>, JwkError> {
    text(jwk, name).and_then(base64url::decode).ok_or(JwkError::Encoding)
}

pub(super) fn is_kid(kid: &str) -> bool {
    (1..=MAX_KID_BYTES).contains(&kid.len())
}

/// `key_ops` is an array of strings that names `verify`.
fn may_verify(operations: &Value) -> bool {
    operations.as_array().is_some_and(|operations| {
        operations.iter().all(Value::is_string) && operations.iter().any(|name| name == "verify")
    })
}
