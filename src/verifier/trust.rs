//! What the broker signs with, as it said itself over the connection that it was known by.

use crate::domain::time::Stamp;
use crate::jose::access_token::{self, AccessToken, AccessTokenError};
use crate::jose::{KeySet, KeySetError};
use crate::proto::v1::GetTrustBundleResponse;
use crate::spiffe::authority::Authority;
use crate::spiffe::bundle::{Bundle, BundleError};
use crate::spiffe::id::{TrustDomain, TrustDomainError};
use crate::spiffe::task_certificate::{TaskCertificate, TaskCertificateError};
use crate::spiffe::task_extension::ExtensionOid;

/// The broker's keys: what credentials are verified with.
#[derive(Clone, Debug)]
pub struct Trust {
    issuer: String,
    keys: KeySet,
    trust_domain: TrustDomain,
    authorities: Vec<Authority>,
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
        Ok(Self {
            issuer: source.issuer.clone(),
            keys: KeySet::parse(source.access_token_jwks.as_bytes())?,
            trust_domain: TrustDomain::parse(&source.trust_domain)?,
            authorities: Bundle::parse(source.spiffe_bundle.as_bytes())?.authorities().to_vec(),
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

    pub(super) fn verify_certificate(
        &self,
        der: &[u8],
        oid: &ExtensionOid,
        now: Stamp,
    ) -> Result<TaskCertificate, TaskCertificateError> {
        TaskCertificate::verify(der, &self.authorities, (&self.trust_domain, oid), now)
    }
}
