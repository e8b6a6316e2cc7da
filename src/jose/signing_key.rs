//! A private key of ours, parsed once, that signs compact JWS with ES256.

use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::JwtSigner;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde::Serialize;
use signature::Signer as _;

use super::base64url;
use super::jwk::VerifyingKey;
use super::jws::Header;
use super::public_key::{Curve, PublicKey};
use crate::domain::secret::Secret;

/// Of ES256 (RFC 7518 section 3.4).
const SIGNATURE_BYTES: usize = 64;
/// What a header or claims mostly need no more than.
const USUAL_BYTES: usize = 1_024;

/// A key could not be made, read or used. It holds nothing of the key or of what was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The operating system gave no randomness.
    #[error("no randomness for a signing key or a signature")]
    Entropy,
    /// Not PKCS#8 of a P-256 key with its public part (RFC 5958, RFC 5915).
    #[error("not a P-256 key in PKCS#8")]
    Pkcs8,
    /// Claims that have no JSON form.
    #[error("the claims have no JSON form")]
    Claims,
}

/// A P-256 key that signs with ES256. Its `kid` is its thumbprint (RFC 7638).
pub struct SigningKey {
    pair: EcdsaKeyPair,
    entropy: SystemRandom,
    public: VerifyingKey,
}

impl SigningKey {
    /// Makes a key; the second value is its PKCS#8, to be sealed.
    ///
    /// # Errors
    /// [`SigningKeyError::Entropy`].
    pub fn generate() -> Result<(Self, Secret), SigningKeyError> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
            .map_err(|_| SigningKeyError::Entropy)?;
        let pkcs8 = Secret::new(document.as_ref().to_vec());
        Ok((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`SigningKeyError::Pkcs8`] if it is not P-256 in PKCS#8, or its public part is another key's.
    pub fn from_pkcs8(pkcs8: &Secret) -> Result<Self, SigningKeyError> {
        let entropy = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.expose(), &entropy)
            .map_err(|_| SigningKeyError::Pkcs8)?;
        let public = PublicKey::ec(Curve::P256, pair.public_key().as_ref())
            .map_err(|_| SigningKeyError::Pkcs8)?;
        let kid = base64url::encode(public.thumbprint());
        let public =
            VerifyingKey::new(kid, Algorithm::ES256, public).map_err(|_| SigningKeyError::Pkcs8)?;
        Ok(Self { pair, entropy, public })
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// Its public part, to be published and verified with.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs claims as a compact JWS with the header `typ`, `alg` and `kid`, and no other member.
    ///
    /// # Errors
    /// [`SigningKeyError::Claims`], [`SigningKeyError::Entropy`].
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<Secret, SigningKeyError> {
        self.sign_under(&Header { typ, alg: self.algorithm(), kid: self.kid() }, claims)
    }

    /// Signs claims under a header of another form.
    pub(super) fn sign_under(
        &self,
        header: &impl Serialize,
        claims: &impl Serialize,
    ) -> Result<Secret, SigningKeyError> {
        let (header, claims) = (json(header)?, json(claims)?);
        // Large enough from the start: a text that moves leaves what is secret behind.
        let bytes = header.len().saturating_add(claims.len()).saturating_add(SIGNATURE_BYTES);
        let mut compact = String::with_capacity(bytes.saturating_mul(3) / 2);
        base64url::push(&mut compact, header);
        compact.push('.');
        base64url::push(&mut compact, claims);
        let signature = self.try_sign(compact.as_bytes()).map_err(|_| SigningKeyError::Entropy)?;
        compact.push('.');
        base64url::push(&mut compact, signature);
        Ok(Secret::from(compact))
    }
}

impl signature::Signer<Vec<u8>> for SigningKey {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let signature = self.pair.sign(&self.entropy, message);
        signature.map(|s| s.as_ref().to_vec()).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for SigningKey {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.kid())
    }
}

fn json(part: &impl Serialize) -> Result<Vec<u8>, SigningKeyError> {
    let mut text = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut text, part).map_err(|_| SigningKeyError::Claims)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jose::{Expect, JwsError, KeySet, Typ, verify};

    #[test]
    fn a_key_signs_the_same_tokens_after_it_was_stored_and_read() {
        let (made, pkcs8) = SigningKey::generate().unwrap();
        let read = SigningKey::from_pkcs8(&pkcs8).unwrap();
        assert_eq!(read.kid(), made.kid());
        let token = read.sign("at+jwt", &json!({"iss": "https://lh.example"})).unwrap();
        let header = token.expose_text().split('.').next().unwrap();
        let header: serde_json::Value =
            serde_json::from_slice(&base64url::decode(header).unwrap()).unwrap();
        assert_eq!(header, json!({"alg": "ES256", "typ": "at+jwt", "kid": made.kid()}));
        let keys = KeySet::of([made.verifying_key().clone()]).unwrap();
        let expect =
            Expect { typ: Typ::Is("at+jwt"), algorithms: &[Algorithm::ES256], keys: &keys };
        let claims = verify(token.expose_text(), expect).unwrap();
        assert_eq!(claims.text("iss"), Ok("https://lh.example"));
        let (other, _) = SigningKey::generate().unwrap();
        let keys = KeySet::of([other.verifying_key().clone()]).unwrap();
        let refused = verify(token.expose_text(), Expect { keys: &keys, ..expect });
        assert_eq!(refused.unwrap_err(), JwsError::UnknownKey);
    }

    #[test]
    fn the_published_key_has_no_private_part() {
        let (key, _) = SigningKey::generate().unwrap();
        let keys = KeySet::of([key.verifying_key().clone()]).unwrap();
        let document = keys.to_document();
        let members: Vec<_> = document["keys"][0].as_object().unwrap().keys().collect();
        let mut sorted = members.clone();
        sorted.sort();
        assert_eq!(sorted, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        let read = KeySet::parse(document.to_string().as_bytes()).unwrap();
        assert!(read.get(key.kid()).is_some());
        assert!(read.refused().is_empty());
    }

    #[test]
    fn class_17_debug_shows_only_the_name_of_a_key() {
        let (key, _) = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.kid()));
    }

    #[test]
    fn what_is_no_pkcs8_of_a_p256_key_is_refused() {
        let (_, pkcs8) = SigningKey::generate().unwrap();
        let mut cut = pkcs8.expose().to_vec();
        cut.pop();
        for wrong in [vec![], b"-----BEGIN PRIVATE KEY-----".to_vec(), cut] {
            let refused = SigningKey::from_pkcs8(&Secret::new(wrong));
            assert_eq!(refused.unwrap_err(), SigningKeyError::Pkcs8);
        }
    }
}
