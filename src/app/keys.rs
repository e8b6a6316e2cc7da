//! Our own keys: opened at start, looked at again every few minutes; and the server's certificate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, SanType};

use super::{AppError, Seams};
use crate::broker::seams::Clock;
use crate::config::{self, Config};
use crate::domain::secret::Secret;
use crate::domain::time::Span;
use crate::keys::{
    AuthorityFiles, AuthoritySource, KeyEncryptionKey, Keys, KeysError, Settings, SharedKeys,
    load_or_make, set_validity,
};
use crate::listen::tls::ServerIdentity;
use crate::spiffe::task_extension::ExtensionOid;
use crate::store::Store;

/// How long a certificate that we made for ourselves may be used, if the authority lives as long.
const SELF_ISSUED_LIFE: Span = Span::from_seconds(30 * 86_400);
/// It begins earlier: a caller's clock may be behind.
const BACKDATED: Span = Span::from_seconds(300);

/// What opens the keyring, and what was in it when it was last opened.
pub(super) struct Keyring {
    store: Arc<dyn Store>,
    key: KeyEncryptionKey,
    settings: Settings,
    seams: Seams,
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
        let (clock, entropy) = (&*seams.clock, &*seams.entropy);
        let keys = load_or_make(&*store, &key, &settings, clock, entropy).await?;
        let shared = Arc::new(ArcSwap::from_pointee(keys));
        Ok(Self { store, key, settings, seams: seams.clone(), shared })
    }

    /// Opens it again: another broker may have made a successor, or one may be due.
    pub(super) async fn reload(&self) -> Result<(), KeysError> {
        let (clock, entropy) = (&*self.seams.clock, &*self.seams.entropy);
        let keys = load_or_make(&*self.store, &self.key, &self.settings, clock, entropy).await?;
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

/// The certificate that the broker shows to its callers.
pub(super) fn server_identity(
    config: &Config,
    keys: &Keys,
    clock: &dyn Clock,
) -> Result<ServerIdentity, AppError> {
    match &config.tls {
        config::listen::ServerIdentity::Files(files) => {
            Ok(ServerIdentity::from_files(&files.cert_file, &files.key_file)?)
        }
        config::listen::ServerIdentity::DangerSelfIssued => {
            tracing::warn!(
                "danger_self_issued: the server's certificate is made here, for this machine only"
            );
            self_issued(keys, clock)
        }
    }
}

fn self_issued(keys: &Keys, clock: &dyn Clock) -> Result<ServerIdentity, AppError> {
    let fault = |fault: rcgen::Error| AppError::SelfIssued(fault.to_string());
    let now = clock.now();
    let missing = || AppError::SelfIssued("no certificate authority is active".to_owned());
    let authority = keys.authority(now).ok_or_else(missing)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let name = "localhost".try_into().map_err(fault)?;
    params.subject_alt_names = vec![SanType::DnsName(name)];
    params.subject_alt_names.extend(local.map(SanType::IpAddress));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let end = now.plus(SELF_ISSUED_LIFE).min(authority.life().expires());
    set_validity(&mut params, now.minus(BACKDATED), end);
    let key = KeyPair::generate().map_err(fault)?;
    let signed = authority.sign(&params, &key);
    let leaf = signed.map_err(|fault| AppError::SelfIssued(fault.to_string()))?;
    let chain = std::iter::once(leaf.to_vec()).chain(authority.chain().iter().cloned());
    Ok(ServerIdentity::from_der(chain.collect(), &Secret::new(key.serialize_der()))?)
}
