//! Keys that sign tokens of one kind.

use super::condemned::Condemned;
use super::keyring::StoredKey;
use super::{KeysError, Life};
use crate::domain::time::Stamp;
use crate::jose::{KeySet, SigningKey};

/// A key that signs tokens of one kind.
#[derive(Debug)]
pub struct TokenKey {
    key: SigningKey,
    life: Life,
}

impl TokenKey {
    /// The key itself.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// When it signs; nothing that it signs may be valid longer.
    pub fn life(&self) -> Life {
        self.life
    }
}

/// Keys of one kind that have not expired and were never quarantined.
#[derive(Debug)]
pub(super) struct TokenKeys {
    keys: Vec<TokenKey>,
    verifying: KeySet,
    /// The newest that was quarantined and has not expired.
    condemned: Option<String>,
}

impl TokenKeys {
    pub(super) fn of(
        stored: &[StoredKey],
        condemned: &Condemned,
        now: Stamp,
    ) -> Result<Self, KeysError> {
        let mut gone = None;
        let mut keys = Vec::new();
        for stored in stored.iter().filter(|stored| now < stored.life.expires()) {
            let key = SigningKey::from_pkcs8(&stored.pkcs8)?;
            if condemned.holds(key.kid()) {
                gone = Some(key.kid().to_owned());
            } else {
                keys.push(TokenKey { key, life: stored.life });
            }
        }
        let verifying = KeySet::of(keys.iter().map(|key| key.key.verifying_key().clone()))?;
        Ok(Self { keys, verifying, condemned: gone })
    }

    /// The one that signs now.
    pub(super) fn active(&self, now: Stamp) -> Option<&TokenKey> {
        let active = self.keys.iter().filter(|key| key.life.is_active(now));
        active.max_by_key(|key| key.life.use_from())
    }

    /// From when on the next one signs.
    pub(super) fn next(&self, now: Stamp) -> Option<Stamp> {
        self.keys.iter().map(|key| key.life.use_from()).filter(|use_from| *use_from > now).min()
    }

    pub(super) fn named(&self, kid: &str) -> Option<&TokenKey> {
        self.keys.iter().find(|key| key.key.kid() == kid)
    }

    pub(super) fn verifying(&self) -> &KeySet {
        &self.verifying
    }

    pub(super) fn condemned(&self) -> Option<&str> {
        self.condemned.as_deref()
    }
}
