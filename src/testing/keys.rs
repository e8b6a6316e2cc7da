//! Signing keys of a broker.

use std::sync::Arc;

use super::clock::TestClock;
use super::entropy::SeededEntropy;
use super::model::ModelStore;
use super::store_contract::constants;
use crate::domain::secret::Secret;
use crate::domain::time::Stamp;
pub use crate::keys::Settings;
use crate::keys::{AuthoritySource, KeyEncryptionKey, Keys, load_or_make};
use crate::spiffe::id::TrustDomain;

/// A key-encryption key that everybody knows.
pub fn kek() -> KeyEncryptionKey {
    KeyEncryptionKey::parse(&Secret::new((0..32).collect())).unwrap()
}

/// A broker at `https://leasehold.example`, trust domain `leasehold.example`, that makes its own authority.
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
    keys_of(now, settings()).await
}

/// New keys of another broker, made at `now`.
pub async fn keys_of(now: Stamp, settings: Settings) -> Keys {
    let clock = Arc::new(TestClock::at(now));
    let store = ModelStore::new(clock, constants());
    let entropy = SeededEntropy::new(now.micros());
    load_or_make(&store, &kek(), &settings, &entropy).await.unwrap()
}
