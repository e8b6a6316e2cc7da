//! The keys that credentials are signed with, in memory, and what is published of them.
//!
//! ```text
//!  store: sealed keyring ──▶ open ──▶ complete (make what is missing) ──▶ Keys
//!              ▲                          │ compare-and-set: one broker makes, the others read
//!              └──────────── seal ◀───────┘
//! ```

mod ca;
mod ca_files;
mod kek;
mod keyring;
mod load;
mod making;
mod root_list;
mod sealed;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::KeyPair;

pub use ca::{CaError, IssuerCa, set_validity};
pub use ca_files::{AuthorityFileError, AuthorityFiles, FileFault};
pub use kek::{KekError, KeyEncryptionKey};
pub use keyring::{KeyringError, Life};
pub use load::load_or_make;
pub use root_list::RootList;
pub use sealed::SealedError;

use crate::broker::seams::EntropyError;
use crate::domain::time::Stamp;
use crate::jose::dpop::NonceKey;
use crate::jose::{KeySet, KeySetError, SigningKey, SigningKeyError, VerifyingKey};
use crate::spiffe::authority::Authority;
use crate::spiffe::bundle::Bundle;
use crate::spiffe::id::TrustDomain;
use crate::spiffe::task_extension::ExtensionOid;
use crate::store::StoreError;
use keyring::{Keyring, StoredKey};

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
pub struct Keys {
    settings: Settings,
    version: Stamp,
    nonces: NonceKey,
    access_tokens: Vec<TokenKey>,
    jwt_svids: Vec<TokenKey>,
    security_events: Vec<TokenKey>,
    authorities: Vec<IssuerCa>,
    root_list: Option<RootList>,
    verifying: KeySet,
    verifying_jwt_svids: KeySet,
    verifying_security_events: KeySet,
    bundle: Bundle,
}

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

impl Keys {
    fn assemble(
        keyring: &Keyring,
        (version, nonces): (Stamp, NonceKey),
        settings: Settings,
        now: Stamp,
    ) -> Result<Self, KeysError> {
        let access_tokens = living(&keyring.access_tokens, now)?;
        let jwt_svids = living(&keyring.jwt_svids, now)?;
        let security_events = living(&keyring.security_events, now)?;
        let (root, authorities, root_list) = match &settings.authority {
            AuthoritySource::Made => {
                let (root, authorities) = made_authorities(keyring, &settings.trust_domain, now)?;
                (root, authorities, Some(RootList::sign(keyring, &settings.trust_domain, now)?))
            }
            AuthoritySource::Files(files) => {
                let (root, ca) = files.load(&settings.trust_domain, now)?;
                (root, vec![ca], None)
            }
        };
        let verifying = key_set(&access_tokens)?;
        let verifying_jwt_svids = key_set(&jwt_svids)?;
        let verifying_security_events = key_set(&security_events)?;
        let jwks = verifying_jwt_svids.iter().map(VerifyingKey::to_jwk).collect();
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
            root_list,
            verifying,
            verifying_jwt_svids,
            verifying_security_events,
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

    /// The key that signs access tokens now; `None` if all have expired, and the keyring must be loaded again.
    pub fn access_token_key(&self, now: Stamp) -> Option<&TokenKey> {
        active(&self.access_tokens, now)
    }

    /// The access token key with this `kid`.
    pub fn access_token_key_named(&self, kid: &str) -> Option<&TokenKey> {
        self.access_tokens.iter().find(|key| key.key.kid() == kid)
    }

    /// The key that signs JWT-SVIDs now; `None` if all have expired, and the keyring must be loaded again.
    pub fn jwt_svid_key(&self, now: Stamp) -> Option<&TokenKey> {
        active(&self.jwt_svids, now)
    }

    /// The JWT-SVID key with this `kid`.
    pub fn jwt_svid_key_named(&self, kid: &str) -> Option<&TokenKey> {
        self.jwt_svids.iter().find(|key| key.key.kid() == kid)
    }

    /// The key that signs security events now; `None` if all have expired, and the keyring must be loaded again.
    pub fn security_event_key(&self, now: Stamp) -> Option<&TokenKey> {
        active(&self.security_events, now)
    }

    /// What signs certificates now; `None` if all have expired, and the keyring must be loaded again.
    pub fn authority(&self, now: Stamp) -> Option<&IssuerCa> {
        let active = self.authorities.iter().filter(|ca| ca.life().is_active(now));
        active.max_by_key(|ca| ca.life().use_from())
    }

    /// The authority with this subject key identifier, in hex.
    pub fn authority_named(&self, key_id: &str) -> Option<&IssuerCa> {
        self.authorities.iter().find(|ca| ca.key_id() == key_id)
    }

    /// Everything that signs or has signed certificates that may be valid still, or will.
    pub fn issuers(&self) -> impl Iterator<Item = &IssuerCa> {
        self.authorities.iter()
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
        &self.verifying
    }

    /// What JWT-SVIDs are verified with; its document is what `/spiffe/keys` publishes.
    pub fn jwt_svid_verifying_keys(&self) -> &KeySet {
        &self.verifying_jwt_svids
    }

    /// What security events are verified with; its document is what `/events/keys` publishes.
    pub fn security_event_verifying_keys(&self) -> &KeySet {
        &self.verifying_security_events
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

/// Keys of one kind that have not expired.
fn living(stored: &[StoredKey], now: Stamp) -> Result<Vec<TokenKey>, KeysError> {
    let living = stored.iter().filter(|key| now < key.life.expires());
    let keys = living.map(|stored| {
        let key = SigningKey::from_pkcs8(&stored.pkcs8)?;
        Ok(TokenKey { key, life: stored.life })
    });
    keys.collect()
}

fn active(keys: &[TokenKey], now: Stamp) -> Option<&TokenKey> {
    let active = keys.iter().filter(|key| key.life.is_active(now));
    active.max_by_key(|key| key.life.use_from())
}

fn key_set(keys: &[TokenKey]) -> Result<KeySet, KeySetError> {
    KeySet::of(keys.iter().map(|key| key.key.verifying_key().clone()))
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
