//! What the broker signs with, as it said itself over the connection that it was known by.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::domain::time::Stamp;
use crate::jose::access_token::{self, AccessToken, AccessTokenError};
use crate::jose::{KeySet, KeySetError};
use crate::proto::v1::GetTrustBundleResponse;
use crate::spiffe::authority::Authority;
use crate::spiffe::bundle::{Bundle, BundleError};
use crate::spiffe::id::{TrustDomain, TrustDomainError};
use crate::spiffe::task_certificate::{TaskCertificate, TaskCertificateError};
use crate::spiffe::task_extension::ExtensionOid;

/// Certificates between a leaf and the bundle that are looked at.
const MAX_INTERMEDIATES: usize = 4;

/// The broker's keys: what credentials are verified with.
#[derive(Clone, Debug)]
pub struct Trust {
    issuer: String,
    keys: KeySet,
    trust_domain: TrustDomain,
    authorities: Vec<Authority>,
    chains: Option<Arc<dyn ClientCertVerifier>>,
    /// What it was read from, to see whether another one says anything new.
    source: GetTrustBundleResponse,
}

/// What the broker says of its keys is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No `issuer`.
    #[error("the broker does not say which issuer it is")]
    Issuer,
    /// Another one than was configured.
    #[error("the broker is the issuer `{0}`, and not the one that is configured")]
    OtherIssuer(String),
    /// The access tokens' keys.
    #[error("the keys of access tokens: {0}")]
    Keys(#[from] KeySetError),
    /// The certificates' authorities.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The trust domain.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
}

impl Trust {
    /// Reads what the broker answered to `GetTrustBundle`. `issuer`: the only one to take, if one was configured.
    ///
    /// # Errors
    /// [`TrustError`]
    pub fn read(source: GetTrustBundleResponse, issuer: Option<&str>) -> Result<Self, TrustError> {
        if source.issuer.is_empty() {
            return Err(TrustError::Issuer);
        }
        if issuer.is_some_and(|issuer| issuer != source.issuer) {
            return Err(TrustError::OtherIssuer(source.issuer));
        }
        let authorities = Bundle::parse(source.spiffe_bundle.as_bytes())?.authorities().to_vec();
        Ok(Self {
            issuer: source.issuer.clone(),
            keys: KeySet::parse(source.access_token_jwks.as_bytes())?,
            trust_domain: TrustDomain::parse(&source.trust_domain)?,
            chains: chains(&authorities),
            authorities,
            source,
        })
    }

    /// `iss` of its access tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The trust domain of its certificates.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Whether another one says the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.source == other.source
    }

    pub(super) fn verify_token(
        &self,
        token: &str,
        now: Stamp,
    ) -> Result<AccessToken, AccessTokenError> {
        access_token::verify(token, &self.keys, &self.issuer, now)
    }

    /// The leaf, and whatever leads up to the bundle.
    pub(super) fn verify_certificate(
        &self,
        leaf: &[u8],
        intermediates: &[&[u8]],
        oid: &ExtensionOid,
        now: Stamp,
    ) -> Result<TaskCertificate, TaskCertificateError> {
        let known = self.with_intermediates(intermediates, now);
        let authorities = known.iter().map(|one| &one.authority);
        let verified = TaskCertificate::verify(leaf, authorities, (&self.trust_domain, oid), now)?;
        self.must_lead_here(leaf, intermediates, now)?;
        // Whoever makes authorities gives them any name: all of this name count.
        let name = Some(&verified.signing_key);
        let signers =
            known.into_iter().filter(|one| one.authority.subject_key_id().as_ref() == name);
        let vouching = signers.flat_map(|signer| signer.keys).collect();
        Ok(TaskCertificate { vouching, ..verified })
    }

    /// The bundle's authorities, and those that they vouch for, directly or not.
    // INVARIANT (the signer's name is vouched for): a quarantine of a key goes by the signer's key identifier; anybody can write
    // another one into a certificate of the same key that nobody signed.
    fn with_intermediates(&self, intermediates: &[&[u8]], now: Stamp) -> Vec<Vouched> {
        let bundle = self.authorities.iter().cloned();
        let mut known: Vec<Vouched> = bundle.map(|one| Vouched::by(one, [].into())).collect();
        let mut rest: Vec<Authority> = intermediates
            .iter()
            .take(MAX_INTERMEDIATES)
            .filter_map(|der| Authority::check(der).ok())
            .filter(|authority| authority.is_valid_at(now))
            .collect();
        for _ in 0..MAX_INTERMEDIATES {
            let mut vouched = Vec::new();
            rest.retain(|one| {
                let signs = |above: &&Vouched| {
                    above.authority.is_valid_at(now) && one.is_signed_by(&above.authority)
                };
                let mut above = known.iter().filter(signs).peekable();
                let is_vouched = above.peek().is_some();
                let keys = above.flat_map(|above| above.keys.iter().cloned()).collect();
                if is_vouched {
                    vouched.push(Vouched::by(one.clone(), keys));
                }
                !is_vouched
            });
            known.extend(vouched);
        }
        known
    }

    /// By every rule of a chain (RFC 5280 section 6.1): lengths, constraints, critical extensions.
    fn must_lead_here(
        &self,
        leaf: &[u8],
        intermediates: &[&[u8]],
        now: Stamp,
    ) -> Result<(), TaskCertificateError> {
        let chains = self.chains.as_ref().ok_or(TaskCertificateError::Signature)?;
        let intermediates: Vec<_> = intermediates
            .iter()
            .take(MAX_INTERMEDIATES)
            .map(|der| CertificateDer::from(*der))
            .collect();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
        let verified = chains.verify_client_cert(&CertificateDer::from(leaf), &intermediates, now);
        verified.map(drop).map_err(|_| TaskCertificateError::Signature)
    }
}

/// An authority that leads up to the bundle.
struct Vouched {
    authority: Authority,
    /// The key identifiers of all authorities on the way, and its own.
    // INVARIANT (quarantined key): whoever has an authority's key makes others below it, of any name and key. They are dead with it.
    keys: BTreeSet<String>,
}

impl Vouched {
    fn by(authority: Authority, above: BTreeSet<String>) -> Self {
        let keys = above.into_iter().chain(authority.subject_key_id()).collect();
        Self { authority, keys }
    }
}

/// Who is below these authorities; `None` if there are none to be below of.
fn chains(authorities: &[Authority]) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        // One that webpki does not read vouches for nobody.
        let _ = roots.add(CertificateDer::from(authority.der().to_vec()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()
}
