//! Our own keys: opened at start, looked at again every few minutes.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{AppError, Seams};
use crate::broker::seams::Entropy;
use crate::config::Config;
use crate::keys::{
    AuthorityFiles, AuthoritySource, KeyEncryptionKey, KeysError, Settings, SharedKeys,
    load_or_make,
};
use crate::spiffe::task_extension::ExtensionOid;
use crate::store::Store;

/// What opens the keyring, and what was in it when it was last opened.
pub(super) struct Keyring {
    store: Arc<dyn Store>,
    key: KeyEncryptionKey,
    settings: Settings,
    entropy: Arc<dyn Entropy>,
    pub(super) shared: SharedKeys,
}

impl Keyring {
    pub(super) async fn open(
        config: &Config,
        store: Arc<dyn Store>,
        seams: &Seams,
    ) -> Result<Self, AppError> {
        let key = KeyEncryptionKey::parse(&config.keys.encryption_key.read()?)?;
        let settings = settings(config)?;
        let entropy = seams.entropy.clone();
        let keys = load_or_make(&*store, &key, &settings, &*entropy).await?;
        let shared = Arc::new(ArcSwap::from_pointee(keys));
        Ok(Self { store, key, settings, entropy, shared })
    }

    /// Opens it again: another broker may have made a successor, or one may be due.
    pub(super) async fn reload(&self) -> Result<(), KeysError> {
        let keys = load_or_make(&*self.store, &self.key, &self.settings, &*self.entropy).await?;
        if keys.version() != self.shared.load().version() {
            tracing::info!("the keyring changed");
        }
        // Also at the same version: keys that expired since are no longer in it.
        self.shared.store(Arc::new(keys));
        Ok(())
    }
}

fn settings(config: &Config) -> Result<Settings, AppError> {
    let oid: Vec<_> = config.keys.certificate_extension_oid.iter().map(u64::to_string).collect();
    let authority = match &config.keys.ca {
        None => AuthoritySource::Made,
        Some(files) => AuthoritySource::Files(AuthorityFiles {
            root: files.root_cert_file.clone(),
            intermediate: Some(files.intermediate_cert_file.clone()),
            key: files.intermediate_key_file.clone(),
        }),
    };
    Ok(Settings {
        base_url: config.base_url.clone(),
        trust_domain: config.trust_domain.clone(),
        task_extension: ExtensionOid::parse(&oid.join("."))?,
        authority,
    })
}
