//! The key-encryption key: 32 bytes that the operator keeps outside the store.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::domain::secret::Secret;
use crate::jose::dpop::NonceKey;

/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// Seals what the store keeps of our private keys.
#[derive(Clone, Debug)]
pub struct KeyEncryptionKey(Secret);

/// There is no usable key-encryption key. Nothing of it is in the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// The file cannot be read.
    #[error("the key-encryption key in `{file}` cannot be read: {fault}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        fault: std::io::ErrorKind,
    },
    /// The variable is not set, or not text.
    #[error("the environment variable `{0}` is not set: it has the key-encryption key")]
    NotSet(String),
    /// Neither 32 bytes, nor 64 hex digits, nor base64 of 32 bytes.
    #[error(
        "the key-encryption key is not 32 bytes, raw, in hex or in base64; make one with `openssl rand -base64 32`"
    )]
    Form,
    /// Every byte is the same: a placeholder.
    #[error(
        "the key-encryption key is one byte {KEY_BYTES} times; make one with `openssl rand -base64 32`"
    )]
    Placeholder,
}

impl KeyEncryptionKey {
    /// Reads a key: 32 bytes raw, or as text in hex or base64 with white space around it.
    ///
    /// # Errors
    /// [`KekError::Form`], [`KekError::Placeholder`].
    pub fn parse(bytes: &Secret) -> Result<Self, KekError> {
        let bytes = bytes.expose();
        let key = if bytes.len() == KEY_BYTES { Some(bytes.to_vec()) } else { decoded(bytes) };
        let key = Secret::new(key.ok_or(KekError::Form)?);
        match key.expose() {
            [first, rest @ ..] if rest.iter().any(|byte| byte != first) => Ok(Self(key)),
            _ => Err(KekError::Placeholder),
        }
    }

    /// Reads the key in a file.
    ///
    /// # Errors
    /// [`KekError`] says what is wrong.
    pub fn from_file(path: &Path) -> Result<Self, KekError> {
        let unreadable = |error: std::io::Error| KekError::Unreadable {
            file: path.display().to_string(),
            fault: error.kind(),
        };
        Self::parse(&Secret::new(std::fs::read(path).map_err(unreadable)?))
    }

    /// Reads the key in an environment variable.
    ///
    /// # Errors
    /// [`KekError`] says what is wrong.
    pub fn from_environment(variable: &str) -> Result<Self, KekError> {
        let text = std::env::var(variable).map_err(|_| KekError::NotSet(variable.to_owned()))?;
        Self::parse(&Secret::from(text))
    }

    /// What DPoP nonces are made with: the same at every broker of one store, and nobody else's.
    pub(super) fn nonces(&self) -> Result<NonceKey, ring::error::Unspecified> {
        NonceKey::derive(&self.0)
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let engines = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
    let base64 = engines.iter().find_map(|engine| engine.decode(text).ok());
    unhex(text).or(base64.filter(|key| key.len() == KEY_BYTES))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = Zeroizing::new(digits?);
    let byte = |pair: &[u32]| u8::try_from(pair.iter().fold(0, |n, digit| n * 16 + digit)).ok();
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F";

    fn parse(bytes: &[u8]) -> Result<Vec<u8>, KekError> {
        KeyEncryptionKey::parse(&Secret::new(bytes.to_vec())).map(|key| key.expose().to_vec())
    }

    #[test]
    fn a_key_is_read_raw_in_hex_and_in_base64() {
        let key: Vec<u8> = (0..32).collect();
        assert_eq!(parse(&key).as_ref(), Ok(&key));
        let mut ends_in_newline = key.clone();
        ends_in_newline[31] = b'\n';
        assert_eq!(parse(&ends_in_newline), Ok(ends_in_newline));
        for text in [HEX.to_owned(), STANDARD.encode(&key), URL_SAFE_NO_PAD.encode(&key)] {
            assert_eq!(parse(text.as_bytes()).as_ref(), Ok(&key), "{text}");
            assert_eq!(parse(format!(" {text}\r\n").as_bytes()).as_ref(), Ok(&key), "{text}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), HEX).unwrap();
        assert!(KeyEncryptionKey::from_file(file.path()).is_ok());
    }

    #[test]
    fn another_length_a_placeholder_or_no_key_at_all_is_refused() {
        let short = STANDARD.encode([7; 31]);
        let odd = HEX.strip_prefix('0').unwrap();
        for wrong in ["", "password", odd, &HEX.replace('0', "g"), &short] {
            assert_eq!(parse(wrong.as_bytes()), Err(KekError::Form), "{wrong}");
        }
        assert_eq!(parse(&[7; 33]), Err(KekError::Form));
        assert_eq!(parse(&[0; 32]), Err(KekError::Placeholder));
        assert_eq!(parse(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), Err(KekError::Placeholder));
        let absent = KeyEncryptionKey::from_file(Path::new("/nowhere/kek")).unwrap_err();
        assert!(absent.to_string().contains("`/nowhere/kek`"), "{absent}");
        let unset = KeyEncryptionKey::from_environment("LEASEHOLD_NO_SUCH_KEK").unwrap_err();
        assert!(unset.to_string().contains("`LEASEHOLD_NO_SUCH_KEK`"), "{unset}");
    }

    #[test]
    fn class_17_debug_shows_nothing_of_the_key() {
        let key = KeyEncryptionKey::parse(&Secret::from(HEX.to_owned())).unwrap();
        assert_eq!(format!("{key:?}"), "KeyEncryptionKey(<secret>)");
    }
}
