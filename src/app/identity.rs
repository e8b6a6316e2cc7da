//! Whose word is taken for who somebody is, from the configuration.

use std::sync::Arc;

use super::{AppError, Seams};
use crate::config::Config;
use crate::config::trust::{self, BundleSource, IssuerKeys, TrustedIssuer};
use crate::identity::bundle_files::{BundleFile, BundleFiles};
use crate::identity::oidc::{JwksSource, OidcIssuer, OidcVerifier, TokenReviewConfig};
use crate::identity::trust_store::{TrustStore, TrustedDomain};

/// What says who a caller is, and what keeps it up to date.
pub(super) struct Trust {
    /// The bundles of all trust domains.
    pub(super) store: Arc<TrustStore>,
    /// Those of them that lie in files.
    pub(super) files: Arc<BundleFiles>,
    /// The OIDC issuers.
    pub(super) issuers: OidcVerifier,
}

pub(super) fn load(config: &Config, seams: &Seams) -> Result<Trust, AppError> {
    let now = seams.clock.now();
    let trusted = config.trust.spiffe.iter().map(trusted_domain);
    let store = Arc::new(TrustStore::new(&config.trust_domain, trusted, now)?);
    let files = config.trust.spiffe.iter().map(|trusted| match &trusted.bundle {
        BundleSource::File(path) => {
            BundleFile { trust_domain: trusted.trust_domain.clone(), path: path.clone() }
        }
    });
    let files = Arc::new(BundleFiles::load(store.clone(), files.collect(), now)?);
    let mut jitter = [0];
    seams.entropy.fill(&mut jitter)?;
    let [jitter] = jitter;
    let spiffe = format!("{}/spiffe", config.base_url);
    let own = [config.base_url.as_str(), spiffe.as_str()];
    let issuers = config.trust.oidc.iter().map(issuer).collect();
    Ok(Trust { store, files, issuers: OidcVerifier::new(issuers, &own, jitter)? })
}

fn trusted_domain(trusted: &trust::TrustedDomain) -> TrustedDomain {
    let max_age = match &trusted.bundle {
        // What lies on the disk is the operator's word until it is changed: it does not grow old.
        BundleSource::File(_) => None,
    };
    TrustedDomain { trust_domain: trusted.trust_domain.clone(), max_age }
}

fn issuer(trusted: &TrustedIssuer) -> OidcIssuer {
    let mut issuer = OidcIssuer {
        name: trusted.name.clone(),
        issuer: trusted.issuer.clone(),
        audience: trusted.audience.clone(),
        jwks: JwksSource::Discovery,
        max_lifetime: trusted.max_lifetime,
        platform: trusted.preset,
        token_review: trusted.token_review.as_ref().map(|review| TokenReviewConfig {
            api_server: review.api_server.clone(),
            token_file: review.token_file.clone(),
            ca_file: review.ca_file.clone(),
        }),
        in_cluster: false,
        danger_loopback: false,
        ca_file: None,
    };
    match &trusted.keys {
        IssuerKeys::File(path) => issuer.jwks = JwksSource::File(path.clone()),
        IssuerKeys::Discovery { ca_file, in_cluster, danger_loopback } => {
            issuer.ca_file = ca_file.clone();
            issuer.in_cluster = *in_cluster;
            issuer.danger_loopback = *danger_loopback;
        }
    }
    issuer
}
