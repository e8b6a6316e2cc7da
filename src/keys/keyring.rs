//! The keyring as it is sealed: which keys there are, and from when until when each is used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::ca::CaError;
use crate::domain::secret::Secret;
use crate::domain::time::{Span, Stamp};
use crate::jose::{SigningKey, SigningKeyError};
use crate::spiffe::authority::Authority;

const VERSION: u32 = 1;
/// Certificates of authorities begin earlier than they are made: other clocks may be behind.
pub(super) const BACKDATED: Span = Span::from_seconds(5 * 60);

/// All keys of ours, each list oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keyring {
    version: u32,
    pub(super) access_tokens: Vec<StoredKey>,
    /// Those of JWT-SVIDs; a keyring from before there were any has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) jwt_svids: Vec<StoredKey>,
    /// Those of security events; a keyring from before there were any has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) security_events: Vec<StoredKey>,
    /// The root that we made; absent if the authority comes from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<StoredAuthority>,
    /// Signed by that root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) intermediates: Vec<StoredAuthority>,
}

/// A key that signs tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredKey {
    pub(super) life: Life,
    #[serde(with = "base64_secret")]
    pub(super) pkcs8: Secret,
}

/// A key that signs certificates, and its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredAuthority {
    pub(super) life: Life,
    #[serde(with = "base64_secret")]
    pub(super) pkcs8: Secret,
    #[serde(with = "base64_der")]
    pub(super) certificate: Vec<u8>,
}

impl StoredKey {
    /// Its name.
    pub(super) fn kid(&self) -> Result<String, SigningKeyError> {
        SigningKey::from_pkcs8(&self.pkcs8).map(|key| key.kid().to_owned())
    }
}

impl StoredAuthority {
    /// Its subject key identifier, in hex.
    pub(super) fn key_id(&self) -> Result<String, CaError> {
        Authority::check(&self.certificate)?.subject_key_id().ok_or(CaError::NoKeyId)
    }
}

/// When a key is used. It is published from when it was made until it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    created_seconds: u64,
    use_from_seconds: u64,
    expires_seconds: u64,
}

/// The keyring has no readable form. Nothing of it is in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Not the JSON that we write.
    #[error("the keyring in the store cannot be read")]
    Malformed,
    /// A version that is not known here.
    #[error("the keyring in the store is of a version that is not known here; upgrade the broker")]
    Version,
}

impl Keyring {
    /// A keyring without keys.
    pub(super) fn empty() -> Self {
        Self {
            version: VERSION,
            access_tokens: vec![],
            jwt_svids: vec![],
            security_events: vec![],
            root: None,
            intermediates: vec![],
        }
    }

    pub(super) fn read(plain: &Secret) -> Result<Self, KeyringError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let malformed = |_| KeyringError::Malformed;
        let Version { version } = serde_json::from_slice(plain.expose()).map_err(malformed)?;
        if version != VERSION {
            return Err(KeyringError::Version);
        }
        serde_json::from_slice(plain.expose()).map_err(malformed)
    }

    pub(super) fn to_plain(&self) -> Result<Secret, KeyringError> {
        serde_json::to_vec(self).map(Secret::new).map_err(|_| KeyringError::Malformed)
    }
}

impl Life {
    /// A life from `created`, used from `use_from`; whole seconds.
    pub fn new(created: Stamp, use_from: Stamp, expires: Stamp) -> Self {
        Self {
            created_seconds: created.seconds(),
            use_from_seconds: use_from.seconds(),
            expires_seconds: expires.seconds(),
        }
    }

    /// From when on it signs.
    pub fn use_from(self) -> Stamp {
        Stamp::from_seconds(self.use_from_seconds)
    }

    /// The first instant at which nothing that it signed is valid.
    pub fn expires(self) -> Stamp {
        Stamp::from_seconds(self.expires_seconds)
    }

    /// Whether it may sign now.
    pub fn is_active(self, now: Stamp) -> bool {
        self.use_from() <= now && now < self.expires()
    }

    /// Whether it was made by now. One that a clock ahead of the others made later counts for nothing until then.
    pub(super) fn is_made(self, now: Stamp) -> bool {
        Stamp::from_seconds(self.created_seconds).minus(BACKDATED) <= now
    }

    /// Whether it signs by then, and does not end before.
    pub(super) fn signs_by(self, now: Stamp, then: Stamp) -> bool {
        self.is_made(now) && self.use_from() <= then && then < self.expires()
    }

    /// From when on it should have a successor: two thirds of its life.
    pub(super) fn is_aging(self, now: Stamp) -> bool {
        let third = self.expires_seconds.saturating_sub(self.created_seconds) / 3;
        self.expires().minus(Span::from_seconds(third)) <= now
    }
}

mod base64_der {
    use super::*;

    pub(super) fn serialize<S: Serializer>(der: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(der))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<u8>, D::Error> {
        let text = Zeroizing::new(String::deserialize(reader)?);
        // The decoder's own error would say which byte is wrong.
        STANDARD.decode(text.as_bytes()).map_err(|_| serde::de::Error::custom("not base64"))
    }
}

mod base64_secret {
    use super::*;

    pub(super) fn serialize<S: Serializer>(key: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(key.expose())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(reader: D) -> Result<Secret, D::Error> {
        base64_der::deserialize(reader).map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        let at = Stamp::from_seconds;
        let key = StoredKey {
            life: Life::new(at(100), at(200), at(1_000)),
            pkcs8: Secret::from("hunter2".to_owned()),
        };
        Keyring { access_tokens: vec![key], ..Keyring::empty() }
    }

    #[test]
    fn the_form_of_the_record_is_final() {
        let plain = keyring().to_plain().unwrap();
        let expected = r#"{"version":1,"access_tokens":[{"life":{"created_seconds":100,"use_from_seconds":200,"expires_seconds":1000},"pkcs8":"aHVudGVyMg=="}]}"#;
        assert_eq!(plain.expose_text(), expected);
        let read = Keyring::read(&plain).unwrap();
        assert_eq!(read.to_plain().unwrap().expose_text(), expected);
    }

    #[test]
    fn a_keyring_of_another_version_or_form_is_refused() {
        let text = keyring().to_plain().unwrap().expose_text().to_owned();
        let read = |text: String| Keyring::read(&Secret::from(text)).unwrap_err();
        assert_eq!(read(text.replace("\"version\":1", "\"version\":2")), KeyringError::Version);
        for wrong in [
            String::new(),
            text.replace("\"version\":1,", ""),
            text.replace("aHVudGVyMg==", "?"),
            text.replace("use_from", "from"),
            text.replace("}]}", "}],\"more\":1}"),
        ] {
            assert_eq!(read(wrong.clone()), KeyringError::Malformed, "{wrong}");
        }
    }

    #[test]
    fn a_key_signs_from_its_time_until_it_expires_and_ages_after_two_thirds() {
        let life = keyring().access_tokens[0].life;
        let at = Stamp::from_seconds;
        assert!(!life.is_active(at(199)));
        assert!(life.is_active(at(200)) && life.is_active(at(999)));
        assert!(!life.is_active(at(1_000)));
        assert!(!life.is_aging(at(699)) && life.is_aging(at(700)));
    }

    #[test]
    fn class_17_debug_shows_nothing_of_the_keys() {
        let text = format!("{:?}", keyring());
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
    }
}
