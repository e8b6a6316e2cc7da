//! The keys that credentials are signed with, in memory, and what is published of them.
//!
//! ```text
//!  store: sealed keyring ──▶ open ──▶ complete (make what is missing) ──▶ Keys
//!              ▲                          │ compare-and-set: one broker makes, the others read
//!              └──────────── seal ◀───────┘
//! ```

mod ca;
mod ca_files;
mod condemned;
mod kek;
mod keyring;
mod load;
mod making;
mod root_list;
mod sealed;
mod token_keys;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::KeyPair;

pub use ca::{CaError, IssuerCa, set_validity};
pub use ca_files::{AuthorityFileError, AuthorityFiles, FileFault};
pub use kek::{KekError, KeyEncryptionKey};
pub use keyring::{KeyringError, Life};
pub use load::load_or_make;
pub use making::PUBLISHED_AT_LEAST;
pub use root_list::RootList;
pub use sealed::SealedError;
pub use token_keys::TokenKey;

use crate::broker::seams::EntropyError;
use crate::domain::lease::Kind;
use crate::domain::time::Stamp;
use crate::jose::dpop::NonceKey;
use crate::jose::{KeySet, KeySetError, SigningKeyError, VerifyingKey};
use crate::spiffe::authority::Authority;
use crate::spiffe::bundle::Bundle;
use crate::spiffe::id::TrustDomain;
use crate::spiffe::task_extension::ExtensionOid;
use crate::store::StoreError;
use condemned::Condemned;
use keyring::Keyring;
use token_keys::TokenKeys;

/// How often others should look for new keys, in seconds.
const REFRESH_HINT_SECONDS: u64 = 300;

/// In whose name the keys sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `iss` of access tokens, exactly.
    pub base_url: String,
    /// The trust domain of certificates.
    pub trust_domain: TrustDomain,
    /// Where certificates carry their execution.
    pub task_extension: ExtensionOid,
    /// Where the certificate authority comes from.
    pub authority: AuthoritySource,
}

/// Where the certificate authority comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthoritySource {
    /// Made on first start, and kept in the keyring.
    Made,
    /// An operator's own.
    Files(AuthorityFiles),
}

/// There are no keys to sign with. Nothing of a key is in the error.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store answered something that a keyring's commit cannot have.
    #[error("the store did not take the keyring, and gave no other; try again")]
    Contended,
    /// The sealed record.
    #[error("the keyring in the store: {0}")]
    Sealed(#[from] SealedError),
    /// What was sealed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A key for tokens.
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    /// The set of keys for tokens.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
    /// The authority that we made.
    #[error("the certificate authority in the keyring: {0}")]
    Ca(#[from] CaError),
    /// The operator's authority.
    #[error("certificate authority from files: {0}")]
    AuthorityFile(#[from] AuthorityFileError),
}

/// The snapshot that everyone reads and one task swaps.
pub type SharedKeys = Arc<ArcSwap<Keys>>;

/// Every key that signs or has signed what may still be valid. A snapshot: loading again gives another one.
// INVARIANT (quarantined key): none that was ever quarantined signs, verifies or is published. What is left of an authority is that
// it signs its own revocation list, for those that do not look whether the root revoked it.
pub struct Keys {
    settings: Settings,
    version: Stamp,
    nonces: NonceKey,
    access_tokens: TokenKeys,
    jwt_svids: TokenKeys,
    security_events: TokenKeys,
    authorities: Vec<IssuerCa>,
    condemned_authorities: Vec<IssuerCa>,
    root_list: Option<RootList>,
    bundle: Bundle,
}

impl Keys {
    /// `condemned_since`: when those of our own authorities were quarantined that were.
    fn assemble(
        keyring: &Keyring,
        (condemned, condemned_since): (&Condemned, &BTreeMap<String, Stamp>),
        (version, nonces): (Stamp, NonceKey),
        settings: Settings,
        now: Stamp,
    ) -> Result<Self, KeysError> {
        let of_kind = |stored| TokenKeys::of(stored, condemned, now);
        let access_tokens = of_kind(&keyring.access_tokens)?;
        let jwt_svids = of_kind(&keyring.jwt_svids)?;
        let security_events = of_kind(&keyring.security_events)?;
        let (root, authorities, root_list) = match &settings.authority {
            AuthoritySource::Made => {
                let trust_domain = &settings.trust_domain;
                let (root, authorities) = made_authorities(keyring, trust_domain, now)?;
                let list = RootList::sign(keyring, trust_domain, condemned_since, now)?;
                (root, authorities, Some(list))
            }
            AuthoritySource::Files(files) => {
                let (root, ca) = files.load(&settings.trust_domain, now)?;
                (root, vec![ca], None)
            }
        };
        let (condemned_authorities, authorities) =
            authorities.into_iter().partition(|ca| condemned.holds(ca.key_id()));
        let jwks = jwt_svids.verifying().iter().map(VerifyingKey::to_jwk).collect();
        let bundle = Bundle::of_authorities(vec![root])
            .with_jwt_keys(jwks)
            .with_sequence(version.micros(), REFRESH_HINT_SECONDS);
        if bundle.to_document().get("keys").and_then(|keys| keys.get(0)).is_none() {
            return Err(CaError::RootKey.into());
        }
        Ok(Self {
            settings,
            version,
            nonces,
            access_tokens,
            jwt_svids,
            security_events,
            authorities,
            condemned_authorities,
            root_list,
            bundle,
        })
    }

    /// In whose name they sign.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The keyring's version: the same version is the same keys.
    pub fn version(&self) -> Stamp {
        self.version
    }

    /// What nonces of DPoP proofs are made with.
    pub fn dpop_nonces(&self) -> &NonceKey {
        &self.nonces
    }

    /// The key that signs access tokens now; `None` if all have expired, and the keyring must be loaded
    /// again, or the successor of a quarantined one is still to be published: [`Self::out_of_use`].
    pub fn access_token_key(&self, now: Stamp) -> Option<&TokenKey> {
        self.access_tokens.active(now)
    }

    /// The access token key with this `kid`.
    pub fn access_token_key_named(&self, kid: &str) -> Option<&TokenKey> {
        self.access_tokens.named(kid)
    }

    /// The key that signs JWT-SVIDs now; `None` if all have expired, and the keyring must be loaded
    /// again, or the successor of a quarantined one is still to be published: [`Self::out_of_use`].
    pub fn jwt_svid_key(&self, now: Stamp) -> Option<&TokenKey> {
        self.jwt_svids.active(now)
    }

    /// The JWT-SVID key with this `kid`.
    pub fn jwt_svid_key_named(&self, kid: &str) -> Option<&TokenKey> {
        self.jwt_svids.named(kid)
    }

    /// The key that signs security events now; `None` if all have expired, and the keyring must be loaded
    /// again, or the successor of a quarantined one is still to be published: [`Self::out_of_use`].
    pub fn security_event_key(&self, now: Stamp) -> Option<&TokenKey> {
        self.security_events.active(now)
    }

    /// What signs certificates now; `None` if all have expired, and the keyring must be loaded
    /// again, or the successor of a quarantined one is still to be published: [`Self::out_of_use`].
    pub fn authority(&self, now: Stamp) -> Option<&IssuerCa> {
        let active = self.authorities.iter().filter(|ca| ca.life().is_active(now));
        active.max_by_key(|ca| ca.life().use_from())
    }

    /// Why nothing signs credentials of a kind: the name of the key that did and was quarantined, and from when on its successor
    /// signs; `None` for that: it has none, since the authority is the operator's own.
    pub fn out_of_use(&self, kind: Kind, now: Stamp) -> Option<(&str, Option<Stamp>)> {
        let of_tokens = |keys: &'_ TokenKeys| keys.next(now);
        let (condemned, successor) = match kind {
            Kind::AccessToken => (self.access_tokens.condemned(), of_tokens(&self.access_tokens)),
            Kind::JwtSvid => (self.jwt_svids.condemned(), of_tokens(&self.jwt_svids)),
            Kind::X509Svid => {
                let next = self.authorities.iter().map(|ca| ca.life().use_from());
                let condemned = self.condemned_authorities.last().map(IssuerCa::key_id);
                (condemned, next.filter(|use_from| *use_from > now).min())
            }
        };
        condemned.map(|key_id| (key_id, successor))
    }

    /// Whether keys of a kind get successors here, rather than from the operator.
    pub fn makes(&self, kind: Kind) -> bool {
        kind != Kind::X509Svid || self.settings.authority == AuthoritySource::Made
    }

    /// The names of all keys that sign, will or did, and of whatever was quarantined and has not expired.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        let tokens = [&self.access_tokens, &self.jwt_svids, &self.security_events];
        let condemned = tokens.into_iter().filter_map(|keys| keys.condemned());
        let issuers = self.issuers().map(IssuerCa::key_id);
        self.living_key_ids().chain(condemned).chain(issuers)
    }

    /// The names of all keys that sign, will or did.
    pub fn living_key_ids(&self) -> impl Iterator<Item = &str> {
        let tokens = [&self.access_tokens, &self.jwt_svids, &self.security_events];
        let kids = tokens.into_iter().flat_map(|keys| keys.verifying().iter());
        let authorities = self.authorities.iter().map(IssuerCa::key_id);
        kids.map(VerifyingKey::kid).chain(authorities)
    }

    /// The authority with this subject key identifier, in hex, if it may sign certificates.
    pub fn authority_named(&self, key_id: &str) -> Option<&IssuerCa> {
        self.authorities.iter().find(|ca| ca.key_id() == key_id)
    }

    /// Everything that signs or has signed certificates that may not have expired, or will; the quarantined among them.
    pub fn issuers(&self) -> impl Iterator<Item = &IssuerCa> {
        self.authorities.iter().chain(&self.condemned_authorities)
    }

    /// The revocation list of the root with this subject key identifier, in hex, if we made it.
    pub fn root_list(&self, key_id: &str) -> Option<&RootList> {
        self.root_list.as_ref().filter(|list| list.key_id() == key_id)
    }

    /// Every authority that may have signed a certificate that is valid now.
    pub fn authorities(&self) -> impl Iterator<Item = &Authority> {
        self.authorities.iter().map(IssuerCa::authority)
    }

    /// What access tokens are verified with; its document is what `/oauth2/jwks` publishes.
    pub fn verifying_keys(&self) -> &KeySet {
        self.access_tokens.verifying()
    }

    /// What JWT-SVIDs are verified with; its document is what `/spiffe/keys` publishes.
    pub fn jwt_svid_verifying_keys(&self) -> &KeySet {
        self.jwt_svids.verifying()
    }

    /// What security events are verified with; its document is what `/events/keys` publishes.
    pub fn security_event_verifying_keys(&self) -> &KeySet {
        self.security_events.verifying()
    }

    /// What certificates and JWT-SVIDs are verified with; its document is what `/spiffe/bundle.json` publishes.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("version", &self.version)
            .field("access_tokens", &self.access_tokens)
            .field("jwt_svids", &self.jwt_svids)
            .field("security_events", &self.security_events)
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}

fn made_authorities(
    keyring: &Keyring,
    trust_domain: &TrustDomain,
    now: Stamp,
) -> Result<(Authority, Vec<IssuerCa>), KeysError> {
    let root = keyring.root.as_ref().ok_or(KeyringError::Malformed)?;
    let root = ca::check(&root.certificate, trust_domain, now)?;
    let lives = |life: Life| life.is_made(now) && now < life.expires();
    let living = keyring.intermediates.iter().filter(|stored| lives(stored.life));
    let authorities: Result<Vec<_>, KeysError> = living
        .map(|stored| {
            let key = KeyPair::try_from(stored.pkcs8.expose()).map_err(|_| CaError::Signing)?;
            let when = (stored.life, now);
            Ok(IssuerCa::new(&stored.certificate, &root, key, trust_domain, when)?)
        })
        .collect();
    Ok((root, authorities?))
}

#[cfg(test)]
mod tests;
