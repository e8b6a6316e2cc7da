//! Sealing: what the store keeps of our private keys, under AES-256-GCM.
//!
//! ```text
//! version (1 byte) ‖ nonce (12 bytes) ‖ ciphertext and tag; additional data: purpose and version
//! ```

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::kek::KeyEncryptionKey;
use crate::broker::seams::{Entropy, EntropyError};
use crate::domain::secret::Secret;

const VERSION: u8 = 1;

/// What is sealed: one kind of record cannot be put in the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The keyring.
    Keyring,
}

/// A record could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// No nonce.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A version that is not known here.
    #[error("the sealed record is of a version that is not known here; upgrade the broker")]
    Version,
    /// Cut short, changed, sealed for something else, or under another key.
    #[error(
        "the sealed record does not open: this is not the key-encryption key that it was sealed with, or it was changed"
    )]
    Closed,
}

impl KeyEncryptionKey {
    /// Seals, with a nonce of its own.
    ///
    /// # Errors
    /// [`SealedError::Entropy`]; also [`SealedError::Closed`] for more than AES-GCM can take, which is 64 GiB.
    pub fn seal(
        &self,
        purpose: Purpose,
        plain: &Secret,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, SealedError> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce)?;
        let mut sealed = plain.expose().to_vec();
        self.cipher()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(additional_data(purpose)),
                &mut sealed,
            )
            .map_err(|_| SealedError::Closed)?;
        Ok([&[VERSION], nonce.as_slice(), sealed.as_slice()].concat())
    }

    /// Opens what was sealed for this purpose, under this key.
    ///
    /// # Errors
    /// [`SealedError::Version`], [`SealedError::Closed`].
    pub fn open(&self, purpose: Purpose, sealed: &[u8]) -> Result<Secret, SealedError> {
        let (version, rest) = sealed.split_first().ok_or(SealedError::Closed)?;
        if *version != VERSION {
            return Err(SealedError::Version);
        }
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(SealedError::Closed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealedError::Closed)?;
        let mut bytes = sealed.to_vec();
        let plain = self
            .cipher()?
            .open_in_place(nonce, Aad::from(additional_data(purpose)), &mut bytes)
            .map_err(|_| SealedError::Closed)?
            .len();
        bytes.truncate(plain);
        Ok(Secret::new(bytes))
    }

    fn cipher(&self) -> Result<LessSafeKey, SealedError> {
        let key = UnboundKey::new(&AES_256_GCM, self.expose()).map_err(|_| SealedError::Closed)?;
        Ok(LessSafeKey::new(key))
    }
}

fn additional_data(purpose: Purpose) -> &'static [u8] {
    match purpose {
        Purpose::Keyring => b"leasehold keyring v1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::entropy::{NoEntropy, SeededEntropy};

    fn key(byte: u8) -> KeyEncryptionKey {
        let mut bytes = vec![byte; 32];
        bytes[0] ^= 1;
        KeyEncryptionKey::parse(&Secret::new(bytes)).unwrap()
    }

    fn plain() -> Secret {
        Secret::from("private keys".to_owned())
    }

    #[test]
    fn what_was_sealed_opens_under_the_same_key_only() {
        let entropy = SeededEntropy::new(1);
        let sealed = key(7).seal(Purpose::Keyring, &plain(), &entropy).unwrap();
        let opened = key(7).open(Purpose::Keyring, &sealed).unwrap();
        assert_eq!(opened.expose(), plain().expose());
        assert_eq!(key(8).open(Purpose::Keyring, &sealed).unwrap_err(), SealedError::Closed);
        let again = key(7).seal(Purpose::Keyring, &plain(), &entropy).unwrap();
        assert_ne!(sealed, again, "a nonce was used twice");
        let readable = |window: &[u8]| window == b"private";
        assert!(!sealed.windows(7).any(readable), "the record holds the plain text");
    }

    #[test]
    fn a_record_that_was_changed_or_cut_in_any_place_does_not_open() {
        let sealed = key(7).seal(Purpose::Keyring, &plain(), &SeededEntropy::new(1)).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key(7).open(Purpose::Keyring, &changed).is_err(), "byte {at}");
            assert!(key(7).open(Purpose::Keyring, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_purpose_and_version_are_bound_to_what_is_sealed() {
        let nonce = [3; NONCE_LEN];
        let mut bytes = b"other".to_vec();
        let aad = Aad::from(b"leasehold something v1".as_slice());
        let cipher = key(7).cipher().unwrap();
        let nonce_once = Nonce::assume_unique_for_key(nonce);
        cipher.seal_in_place_append_tag(nonce_once, aad, &mut bytes).unwrap();
        let foreign = [&[VERSION], nonce.as_slice(), &bytes].concat();
        assert_eq!(key(7).open(Purpose::Keyring, &foreign).unwrap_err(), SealedError::Closed);
        let later = [&[VERSION + 1], nonce.as_slice(), &bytes].concat();
        assert_eq!(key(7).open(Purpose::Keyring, &later).unwrap_err(), SealedError::Version);
    }

    #[test]
    fn without_entropy_nothing_is_sealed() {
        let refused = key(7).seal(Purpose::Keyring, &plain(), &NoEntropy);
        assert_eq!(refused.unwrap_err(), SealedError::Entropy(EntropyError));
    }
}
