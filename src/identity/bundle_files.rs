//! Trust bundles from files, read again when they change.
//!
//! The files are read every few seconds and compared by content: that sees every kind of replacement, an atomic rename
//! and the switched links of a Kubernetes volume included, and misses no event, because there is none.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;

use super::trust_bundle::{SharedBundles, TrustBundlesError};
use super::trust_store::{PutError, TrustStore, TrustedDomain};
use crate::broker::seams::Clock;
use crate::domain::time::Stamp;
use crate::spiffe::authority::{Authority, AuthorityError};
use crate::spiffe::bundle::{Bundle, BundleError, MAX_BUNDLE_BYTES};
use crate::spiffe::id::TrustDomain;
use crate::telemetry::metrics;

/// Where the bundle of a trust domain lies: SPIFFE bundle JSON, or root certificates in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// The trust domain that the file is for; the file itself does not say.
    pub trust_domain: TrustDomain,
    /// The file.
    pub path: PathBuf,
}

/// What is wrong with the content of a bundle file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// The file cannot be read; the text is the system's.
    #[error("{0}")]
    Unreadable(String),
    /// More than [`MAX_BUNDLE_BYTES`].
    #[error("more than {MAX_BUNDLE_BYTES} bytes")]
    TooLarge,
    /// It begins with `{` and is not a SPIFFE bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It is not a sequence of PEM sections.
    #[error("neither a SPIFFE bundle in JSON nor certificates in PEM")]
    Pem,
    /// PEM without a certificate. To trust nothing, write a bundle with `\"keys\": []`.
    #[error("no certificate in it; a bundle that trusts nothing is `{{\"keys\": []}}`")]
    NoCertificate,
    /// A certificate in it is no authority's.
    #[error("certificate {index}: {fault}")]
    Authority {
        /// Counted from 0.
        index: usize,
        /// Why.
        fault: AuthorityError,
    },
    /// It cannot be used to verify with.
    #[error(transparent)]
    Put(#[from] PutError),
}

/// The trust bundles cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleFilesError {
    /// A file is not a bundle.
    #[error("bundle `{}` of trust domain `{trust_domain}`: {fault}", path.display())]
    File {
        /// Whose.
        trust_domain: TrustDomain,
        /// Which.
        path: PathBuf,
        /// Why.
        fault: ContentError,
    },
    /// The trust domains do not go together.
    #[error(transparent)]
    Domains(#[from] TrustBundlesError),
}

/// The trust domains whose bundles lie in files.
#[derive(Debug)]
pub struct BundleFiles {
    files: Vec<BundleFile>,
    trust: Arc<TrustStore>,
    /// Of each file, what it was when last looked at.
    seen: Mutex<Vec<Seen>>,
}

/// What a file was when last looked at.
#[derive(Debug)]
struct Seen {
    /// A hash of its bytes, or why there are none.
    content: Result<[u8; 32], ContentError>,
    /// Whether it is what is trusted.
    is_taken: bool,
}

impl BundleFiles {
    /// Reads every file for the first time, into a store that knows their domains.
    ///
    /// # Errors
    /// [`BundleFilesError`] if one of them is not a bundle: at the start there is no previous one to keep.
    pub fn load(
        trust: Arc<TrustStore>,
        files: Vec<BundleFile>,
        now: Stamp,
    ) -> Result<Self, BundleFilesError> {
        let mut seen = Vec::new();
        for file in &files {
            let bytes = read(file).map_err(|fault| file.fault(fault))?;
            take_over(&trust, file, &bytes, now).map_err(|fault| file.fault(fault))?;
            seen.push(Seen { content: Ok(hash(&bytes)), is_taken: true });
        }
        Ok(Self { files, trust, seen: Mutex::new(seen) })
    }

    /// Trusts nothing but what lies in these files.
    ///
    /// # Errors
    /// [`BundleFilesError`], as for [`Self::load`]; also if `own` is among the trust domains or one is there twice.
    pub fn alone(
        own: &TrustDomain,
        files: Vec<BundleFile>,
        now: Stamp,
    ) -> Result<Self, BundleFilesError> {
        let domains = files.iter().map(|file| file.trust_domain.clone());
        // What lies on the disk is the operator's word until it is changed: it does not grow old.
        let trusted = domains.map(|trust_domain| TrustedDomain { trust_domain, max_age: None });
        let trust = TrustStore::new(own, trusted, now)?;
        Self::load(Arc::new(trust), files, now)
    }

    /// The snapshot, always the current one.
    pub fn shared(&self) -> SharedBundles {
        self.trust.shared()
    }

    /// Looks at every file once and takes over what changed; answers with each change that could not be taken over.
    /// Then the previous bundle stays, and the fault is not told again until the file changes again.
    pub fn reload(&self, now: Stamp) -> Vec<BundleFilesError> {
        let mut faults = Vec::new();
        for (file, seen) in self.files.iter().zip(self.seen.lock().iter_mut()) {
            let read = read(file);
            let content = read.as_ref().map(|bytes| hash(bytes)).map_err(Clone::clone);
            if seen.content == content {
                if seen.is_taken {
                    self.trust.confirm(&file.trust_domain, now);
                }
                continue;
            }
            let taken = read.and_then(|bytes| take_over(&self.trust, file, &bytes, now));
            *seen = Seen { content, is_taken: taken.is_ok() };
            if let Err(fault) = taken {
                let fault = file.fault(fault);
                metrics::trust_loaded("bundle", "failed");
                tracing::error!(%fault, "trust bundle not taken over, the previous one stays");
                faults.push(fault);
            }
        }
        faults
    }

    /// Looks again and again until told to stop.
    pub async fn watch(
        self: Arc<Self>,
        every: Duration,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            let (files, now) = (Arc::clone(&self), clock.now());
            // Each fault was logged; a read that panicked is tried again.
            let _ = tokio::task::spawn_blocking(move || files.reload(now)).await;
        }
    }
}

impl BundleFile {
    fn fault(&self, fault: ContentError) -> BundleFilesError {
        let Self { trust_domain, path } = self.clone();
        BundleFilesError::File { trust_domain, path, fault }
    }
}

/// The bundle in a file, as it is now.
///
/// # Errors
/// [`BundleFilesError::File`] if it is none.
pub(super) fn read_once(file: &BundleFile) -> Result<Bundle, BundleFilesError> {
    read(file).and_then(|bytes| parse(&bytes)).map_err(|fault| file.fault(fault))
}

fn read(file: &BundleFile) -> Result<Vec<u8>, ContentError> {
    let limit = u64::try_from(MAX_BUNDLE_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(&file.path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|fault| ContentError::Unreadable(fault.to_string()))?;
    if bytes.len() > MAX_BUNDLE_BYTES { Err(ContentError::TooLarge) } else { Ok(bytes) }
}

fn take_over(
    trust: &TrustStore,
    file: &BundleFile,
    bytes: &[u8],
    now: Stamp,
) -> Result<(), ContentError> {
    trust.put(&file.trust_domain, parse(bytes)?, now)?;
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Bundle, ContentError> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        Ok(Bundle::parse(bytes)?)
    } else {
        Ok(Bundle::of_authorities(authorities(bytes)?))
    }
}

fn authorities(pem: &[u8]) -> Result<Vec<Authority>, ContentError> {
    let mut authorities = Vec::new();
    for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let der = der.map_err(|_| ContentError::Pem)?;
        let authority = Authority::check(&der);
        authorities.push(authority.map_err(|fault| ContentError::Authority { index, fault })?);
    }
    if authorities.is_empty() { Err(ContentError::NoCertificate) } else { Ok(authorities) }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests;
