//! Signing keys of a broker, and a store with room for nothing but a keyring.

use std::sync::Mutex;

use async_trait::async_trait;

use super::clock::TestClock;
use super::entropy::SeededEntropy;
use crate::domain::lattice::Lattice;
use crate::domain::path::Origin;
use crate::domain::secret::Secret;
use crate::domain::time::Stamp;
use crate::keys::{AuthoritySource, KeyEncryptionKey, Keys, Settings, load_or_make};
use crate::spiffe::id::TrustDomain;
use crate::store::{
    Commit, Listing, Meta, Outcome, Query, Receipt, Record, RecordKey, Snapshot, Store, StoreError,
    Write,
};

/// Keeps one keyring, by compare-and-set.
#[derive(Debug, Default)]
pub struct KeyringStore {
    held: Mutex<Option<(Vec<u8>, Stamp)>>,
}

impl KeyringStore {
    /// The sealed keyring as it lies there.
    pub fn sealed(&self) -> Option<Vec<u8>> {
        self.held.lock().unwrap().as_ref().map(|(sealed, _)| sealed.clone())
    }

    /// Puts other bytes there.
    pub fn overwrite(&self, sealed: Vec<u8>) {
        *self.held.lock().unwrap() = Some((sealed, Stamp::from_seconds(1)));
    }
}

#[async_trait]
impl Store for KeyringStore {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let mut held = self.held.lock().unwrap();
        let version = held.as_ref().map(|(_, version)| *version);
        let guard = commit.guards[0];
        assert_eq!(guard.key, RecordKey::Keyring);
        if guard.version != version {
            let record = held.clone().map(|(sealed, version)| Record::Keyring(sealed, version));
            return Ok(Outcome::Stale(vec![(RecordKey::Keyring, record)]));
        }
        let [Write::Keyring(sealed)] = commit.writes.as_slice() else {
            return Err(StoreError::Misconfigured("only a keyring fits".to_owned()));
        };
        let stamp = version.unwrap_or_default().next();
        *held = Some((sealed.clone(), stamp));
        let origin = Origin { incarnation: stamp, stamp };
        Ok(Outcome::Done(Receipt { origin, credential: None }))
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        assert_eq!(query.records, [RecordKey::Keyring]);
        let held = self.held.lock().unwrap().clone();
        let zero = Stamp::ZERO;
        Ok(Snapshot {
            meta: Meta {
                incarnation: zero,
                open: true,
                stamp: zero,
                now: zero,
                max_expiry: zero,
                floor: zero,
            },
            records: vec![held.map(|(sealed, version)| Record::Keyring(sealed, version))],
            lattice: Lattice::default(),
            blocked_scopes: Vec::new(),
        })
    }

    async fn list(&self, _: Listing) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}

/// A key-encryption key that everybody knows.
pub fn kek() -> KeyEncryptionKey {
    KeyEncryptionKey::parse(&Secret::new((0..32).collect())).unwrap()
}

/// A broker of `https://leasehold.example`, trust domain `leasehold.example`, that makes its own authority.
pub fn settings() -> Settings {
    Settings {
        base_url: "https://leasehold.example".to_owned(),
        trust_domain: TrustDomain::parse("leasehold.example").unwrap(),
        task_extension: Default::default(),
        authority: AuthoritySource::Made,
    }
}

/// New keys of such a broker, made at `now`.
pub async fn keys(now: Stamp) -> Keys {
    let (store, entropy) = (KeyringStore::default(), SeededEntropy::new(now.micros()));
    load_or_make(&store, &kek(), &settings(), &TestClock::at(now), &entropy).await.unwrap()
}
