//! Whose word is taken for who somebody is, from the configuration.

use std::sync::Arc;

use super::AppError;
use crate::broker::seams::Entropy;
use crate::config::Config;
use crate::config::trust::{IssuerKeys, TrustedIssuer};
use crate::identity::bundle_files::{BundleFile, BundleFiles};
use crate::identity::client_cert::SvidClientVerifier;
use crate::identity::oidc::{JwksSource, OidcIssuer, OidcVerifier, TokenReviewConfig};

pub(super) fn load(
    config: &Config,
    entropy: &dyn Entropy,
) -> Result<(Arc<BundleFiles>, OidcVerifier), AppError> {
    let files = config.trust.spiffe.iter().map(|trusted| BundleFile {
        trust_domain: trusted.trust_domain.clone(),
        path: trusted.bundle_file.clone(),
    });
    let bundles = Arc::new(BundleFiles::load(&config.trust_domain, files.collect())?);
    let mut jitter = [0];
    entropy.fill(&mut jitter)?;
    let [jitter] = jitter;
    let spiffe = format!("{}/spiffe", config.base_url);
    let own = [config.base_url.as_str(), spiffe.as_str()];
    let issuers = config.trust.oidc.iter().map(issuer).collect();
    Ok((bundles, OidcVerifier::new(issuers, &own, jitter)?))
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

/// The judge of client certificates, over the bundles as they are at each handshake.
pub(super) fn client_verifier(bundles: &BundleFiles) -> Arc<SvidClientVerifier> {
    Arc::new(SvidClientVerifier::new(bundles.shared()))
}
