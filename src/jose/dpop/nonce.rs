//! Nonces that a server gives and takes back without remembering them (RFC 9449 section 8).
//!
//! ```text
//!  base64url( seconds since 1970 (8 bytes) ‖ HMAC-SHA256 of them )
//! ```

use ring::rand::SecureRandom;
use ring::{hkdf, hmac};

use crate::domain::secret::Secret;
use crate::domain::time::{Span, Stamp};
use crate::jose::base64url;

/// How long a nonce is good.
const LIFE: Span = Span::from_seconds(300);
/// How far the clock of whoever gave it may be ahead of ours.
const AHEAD: Span = Span::from_seconds(60);
/// Bytes of the time in front.
const TIME_BYTES: usize = 8;
/// What keeps this key apart from every other that is made from the same secret.
const PURPOSE: &[u8] = b"leasehold dpop nonce v1";

/// Makes nonces and knows them again. Servers with one secret know each other's.
#[derive(Clone)]
pub struct NonceKey(hmac::Key);

impl NonceKey {
    /// The key that follows from a secret of at least 32 random bytes (RFC 5869).
    ///
    /// # Errors
    /// Never in fact: that the length of an HMAC key is too much for HKDF.
    pub fn derive(secret: &Secret) -> Result<Self, ring::error::Unspecified> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"leasehold");
        let key = salt.extract(secret.expose());
        Ok(Self(key.expand(&[PURPOSE], hmac::HMAC_SHA256)?.into()))
    }

    /// A nonce that is good from now on for five minutes.
    pub fn fresh(&self, now: Stamp) -> String {
        let time = now.seconds().to_be_bytes();
        base64url::encode([&time, hmac::sign(&self.0, &time).as_ref()].concat())
    }

    /// A key that nobody else has.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, ring::error::Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, random).map(Self)
    }

    /// Whether a text is a nonce of this key that is good now.
    pub fn accepts(&self, nonce: &str, now: Stamp) -> bool {
        self.given(nonce, now).is_some()
    }

    /// When it was given, to the second below, if a text is a nonce of this key that is good now.
    pub fn given(&self, nonce: &str, now: Stamp) -> Option<Stamp> {
        let bytes = base64url::decode(nonce)?;
        let (time, tag) = bytes.split_first_chunk::<TIME_BYTES>()?;
        let given = Stamp::from_seconds(u64::from_be_bytes(*time));
        let in_time = given <= now.plus(AHEAD) && now < given.plus(LIFE);
        (hmac::verify(&self.0, time, tag).is_ok() && in_time).then_some(given)
    }
}

impl std::fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> NonceKey {
        NonceKey::derive(&Secret::new(vec![byte; 32])).unwrap()
    }

    fn at(seconds: u64) -> Stamp {
        Stamp::from_seconds(1_790_000_000 + seconds)
    }

    #[test]
    fn class_26_a_nonce_is_good_for_five_minutes_at_every_server_of_one_secret() {
        let nonce = key(1).fresh(at(100));
        for (now, good) in [(39, false), (40, true), (100, true), (399, true), (400, false)] {
            assert_eq!(key(1).accepts(&nonce, at(now)), good, "{now}");
        }
        assert!(!key(2).accepts(&nonce, at(100)), "another secret");
    }

    #[test]
    fn class_23_a_nonce_that_nobody_gave_is_refused() {
        let nonce = base64url::decode(&key(1).fresh(at(0))).unwrap();
        for n in 0..nonce.len() {
            let mut changed = nonce.clone();
            changed[n] ^= 1;
            assert!(!key(1).accepts(&base64url::encode(&changed), at(0)), "byte {n}");
            assert!(!key(1).accepts(&base64url::encode(&nonce[..n]), at(0)), "cut at {n}");
        }
        for text in ["", "?", "AAAA"] {
            assert!(!key(1).accepts(text, at(0)), "{text}");
        }
    }
}
