//! Whose word is taken for who somebody is, from the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AppError, Seams};
use crate::config::Config;
use crate::config::trust::{self, BundleSource, IssuerKeys, TrustedIssuer};
use crate::identity::agent_bundles::AgentBundles;
use crate::identity::bundle_endpoint::{BundleEndpoint, BundleEndpoints, EndpointProfile};
use crate::identity::bundle_files::{BundleFile, BundleFiles};
use crate::identity::jwt_svid::JwtSvidVerifier;
use crate::identity::oidc::{JwksSource, OidcIssuer, OidcVerifier, TokenReviewConfig};
use crate::identity::trust_store::{TrustStore, TrustedDomain};
use crate::spiffe::id::TrustDomain;
use crate::spiffe::task_jwt_svid;
use crate::webhooks;
use crate::workload_api::WorkloadApi;

/// What says who a caller is, and what keeps it up to date.
pub(super) struct Trust {
    /// The bundles of all trust domains.
    pub(super) store: Arc<TrustStore>,
    /// Those of them that lie in files.
    pub(super) files: Arc<BundleFiles>,
    /// Those of them that agents tell.
    pub(super) agents: Vec<AgentBundles>,
    /// Those that come from bundle endpoints.
    pub(super) endpoints: BundleEndpoints,
    /// Which of their JWT-SVIDs count.
    pub(super) jwt_svid: JwtSvidVerifier,
    /// The OIDC issuers.
    pub(super) issuers: OidcVerifier,
}

pub(super) fn load(config: &Config, seams: &Seams) -> Result<Trust, AppError> {
    let now = seams.clock.now();
    let trusted = config.trust.spiffe.iter().map(trusted_domain);
    let store = Arc::new(TrustStore::new(&config.trust_domain, trusted, now)?);
    let (mut files, mut endpoints) = (Vec::new(), Vec::new());
    for trust::TrustedDomain { trust_domain, bundle } in config.trust.spiffe.clone() {
        match bundle {
            BundleSource::File(path) => files.push(BundleFile { trust_domain, path }),
            BundleSource::WorkloadApi { .. } => {}
            BundleSource::Endpoint(configured) => {
                endpoints.push(endpoint(trust_domain, configured))
            }
        }
    }
    let files = Arc::new(BundleFiles::load(store.clone(), files, now)?);
    let agents = agents(config, &store, seams)?;
    let mut jitter = [0];
    seams.entropy.fill(&mut jitter)?;
    let [jitter] = jitter;
    let endpoints = BundleEndpoints::new(store.clone(), endpoints, &seams.clock, jitter)?;
    let svids = task_jwt_svid::issuer(&config.base_url);
    let events = webhooks::issuer(&config.base_url);
    let own = [config.base_url.as_str(), svids.as_str(), events.as_str()];
    let issuers = config.trust.oidc.iter().map(issuer).collect();
    let trust::JwtSvids { audience, max_lifetime } = config.trust.jwt_svid.clone();
    let jwt_svid = JwtSvidVerifier {
        own_trust_domain: config.trust_domain.clone(),
        own_issuers: own.map(str::to_owned).into(),
        audience,
        max_lifetime,
    };
    let issuers = OidcVerifier::new(issuers, &own, jitter)?;
    Ok(Trust { store, files, agents, endpoints, jwt_svid, issuers })
}

fn endpoint(trust_domain: TrustDomain, configured: trust::BundleEndpoint) -> BundleEndpoint {
    let trust::BundleEndpoint { url, profile, max_age, in_cluster, danger_loopback } = configured;
    let profile = match profile {
        trust::EndpointProfile::HttpsWeb { ca_file } => EndpointProfile::HttpsWeb { ca_file },
        trust::EndpointProfile::HttpsSpiffe { endpoint_spiffe_id, bootstrap_file } => {
            EndpointProfile::HttpsSpiffe { spiffe_id: endpoint_spiffe_id, bootstrap_file }
        }
    };
    BundleEndpoint { trust_domain, url, profile, max_age, in_cluster, danger_loopback }
}

fn trusted_domain(trusted: &trust::TrustedDomain) -> TrustedDomain {
    let max_age = match &trusted.bundle {
        // What lies on the disk is the operator's word until it is changed: it does not grow old.
        BundleSource::File(_) => None,
        BundleSource::WorkloadApi { max_age, .. } => Some(*max_age),
        BundleSource::Endpoint(endpoint) => Some(endpoint.max_age),
    };
    TrustedDomain { trust_domain: trusted.trust_domain.clone(), max_age }
}

/// One for each agent, whatever number of trust domains it is asked about.
fn agents(
    config: &Config,
    store: &Arc<TrustStore>,
    seams: &Seams,
) -> Result<Vec<AgentBundles>, AppError> {
    let mut domains: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for trusted in &config.trust.spiffe {
        if let BundleSource::WorkloadApi { endpoint, .. } = &trusted.bundle {
            domains.entry(endpoint.clone()).or_default().push(trusted.trust_domain.clone());
        }
    }
    let agent = |(endpoint, domains)| {
        let Seams { clock, entropy } = seams.clone();
        let api = WorkloadApi::at(endpoint)?;
        Ok(AgentBundles { api, domains, store: Arc::clone(store), clock, entropy })
    };
    domains.into_iter().map(agent).collect()
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
