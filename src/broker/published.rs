//! What is published of our keys: all that is verified with, but for what a quarantine has reached.

use crate::broker::Broker;
use crate::domain::lease::Draft;
use crate::jose::KeySet;
use crate::spiffe::bundle::Bundle;

impl Broker {
    /// The keys of access tokens, to be published.
    pub fn published_access_token_keys(&self) -> KeySet {
        self.published(self.keys().verifying_keys())
    }

    /// The keys of JWT-SVIDs, to be published.
    pub fn published_jwt_svid_keys(&self) -> KeySet {
        self.published(self.keys().jwt_svid_verifying_keys())
    }

    /// The keys of security events, to be published.
    pub fn published_security_event_keys(&self) -> KeySet {
        self.published(self.keys().security_event_verifying_keys())
    }

    // INVARIANT (quarantined key): it is withdrawn as soon as this broker has heard of it, and not when the keyring is next read.
    fn published(&self, keys: &KeySet) -> KeySet {
        keys.without(|kid| self.parts.feed.is_condemned(kid))
    }

    /// The bundle of our trust domain, to be published.
    pub fn published_bundle(&self) -> Bundle {
        self.keys().bundle().without_jwt_keys(|kid| self.parts.feed.is_condemned(kid))
    }

    /// Whether a credential was signed with a key that has been quarantined since, or came with a certificate that was.
    pub(super) fn is_of_condemned_key(&self, draft: &Draft) -> bool {
        let keys = std::iter::once(draft.signing_key.as_str()).chain(draft.certificate_authority());
        keys.into_iter().any(|key_id| self.parts.feed.is_condemned(key_id))
    }

    /// Whether the keyring must be read again: a key that it gave has been quarantined since.
    pub fn has_condemned_keys(&self) -> bool {
        self.keys().living_key_ids().any(|key_id| self.parts.feed.is_condemned(key_id))
    }
}
