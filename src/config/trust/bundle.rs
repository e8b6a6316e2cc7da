//! `bundle` of a `[[trust.spiffe]]`: where the bundle of a trust domain comes from.

use std::path::PathBuf;

use super::super::section::Section;
use super::super::value;
use super::TrustedDomain;
use crate::domain::time::Span;
use crate::spiffe::endpoint::WorkloadEndpoint;
use crate::spiffe::id::{SpiffeId, TrustDomain};

/// For how long a bundle counts that its source does not confirm, where nothing is said.
pub const DEFAULT_BUNDLE_AGE: Span = Span::from_seconds(3_600);

/// The same of a bundle that lies on another's server: a day to put right what has failed there.
pub const DEFAULT_FETCHED_BUNDLE_AGE: Span = Span::from_seconds(24 * 3_600);

/// Where the bundle of a trust domain comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleSource {
    /// A file: a SPIFFE bundle in JSON, or roots in PEM. Read again when it changes.
    File(PathBuf),
    /// The agent of this machine, which says when it changes.
    WorkloadApi {
        /// Where its Workload API answers.
        endpoint: WorkloadEndpoint,
        /// For how long the bundle counts when the agent is silent; 5 min to 7 d, [`DEFAULT_BUNDLE_AGE`] unless configured.
        max_age: Span,
    },
    /// A SPIFFE bundle endpoint, fetched again and again.
    Endpoint(BundleEndpoint),
}

/// A SPIFFE bundle endpoint (SPIFFE Federation section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleEndpoint {
    /// Its URL.
    pub url: String,
    /// What its server proves itself with.
    pub profile: EndpointProfile,
    /// For how long its bundle counts after it was last fetched; 5 min to 7 d, [`DEFAULT_FETCHED_BUNDLE_AGE`] unless configured.
    pub max_age: Span,
    /// It may lie at an address that is not of the public internet.
    pub in_cluster: bool,
    /// It lies on this machine. For development.
    pub danger_loopback: bool,
}

/// How the server of a bundle endpoint proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointProfile {
    /// By a certificate for its name.
    HttpsWeb {
        /// Roots that the certificate must lead to, in PEM; `None`: this machine's.
        ca_file: Option<PathBuf>,
    },
    /// By an X.509-SVID.
    HttpsSpiffe {
        /// Its SPIFFE ID.
        endpoint_spiffe_id: SpiffeId,
        /// The bundle that it is known by until the first fetch; there is one iff it is of the trust domain whose bundle it
        /// gives.
        bootstrap_file: Option<PathBuf>,
    },
}

#[derive(Clone, Copy)]
enum Profile {
    Web,
    Spiffe,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<BundleSource> {
    let file = section.optional("file", value::file);
    let workload_api = section.optional("workload_api", value::workload_endpoint);
    let url = section.optional("endpoint", value::https_url);
    let bounds = Span::from_seconds(5 * 60)..=Span::from_seconds(7 * 86_400);
    let max_age = section.optional("max_age", value::duration(bounds));
    let (Some(file), Some(workload_api), Some(url), Some(max_age)) =
        (file, workload_api, url, max_age)
    else {
        section.ignore_rest();
        return None;
    };
    match (file, workload_api, url) {
        (Some(path), None, None) if max_age.is_none() => Some(BundleSource::File(path)),
        (Some(_), None, None) => {
            section.refuse("max_age", "is for bundles that are fetched; a file does not grow old")
        }
        (None, Some(endpoint), None) => {
            let max_age = max_age.unwrap_or(DEFAULT_BUNDLE_AGE);
            Some(BundleSource::WorkloadApi { endpoint, max_age })
        }
        (None, None, Some(url)) => {
            let max_age = max_age.unwrap_or(DEFAULT_FETCHED_BUNDLE_AGE);
            endpoint(section, url, max_age).map(BundleSource::Endpoint)
        }
        (None, None, None) => section.refuse(
            "",
            "has no source; write `file = \"prod.example.bundle.json\"`, \
             `workload_api = \"unix:///run/spire/agent.sock\"` or `endpoint = \"https://…\"`",
        ),
        _ => {
            section.ignore_rest();
            section.refuse("", "has two sources; keep one of them")
        }
    }
}

fn endpoint(section: &mut Section<'_>, url: String, max_age: Span) -> Option<BundleEndpoint> {
    let profiles = [("https_web", Profile::Web), ("https_spiffe", Profile::Spiffe)];
    let profile = section.required("profile", "profile = \"https_web\"", value::choice(&profiles));
    let in_cluster = section.or("in_cluster", false, value::flag);
    let danger_loopback = section.or("danger_loopback", false, value::flag);
    if danger_loopback == Some(true) {
        section.warn("danger_loopback", "takes a bundle from this machine; for development only");
    }
    let Some(profile) = profile else {
        section.ignore_rest();
        return None;
    };
    let profile = match profile {
        Profile::Web => {
            EndpointProfile::HttpsWeb { ca_file: section.optional("ca_file", value::file)? }
        }
        Profile::Spiffe => {
            let example = "endpoint_spiffe_id = \"spiffe://prod.example/spire/server\"";
            let id = section.required("endpoint_spiffe_id", example, value::spiffe_id);
            let bootstrap_file = section.optional("bootstrap_file", value::file);
            let (endpoint_spiffe_id, bootstrap_file) = (id?, bootstrap_file?);
            EndpointProfile::HttpsSpiffe { endpoint_spiffe_id, bootstrap_file }
        }
    };
    let (in_cluster, danger_loopback) = (in_cluster?, danger_loopback?);
    Some(BundleEndpoint { url, profile, max_age, in_cluster, danger_loopback })
}

/// Whoever vouches for the server of an endpoint must be known, and not by way of that very endpoint.
pub(super) fn check_vouching(section: &Section<'_>, domains: &[TrustedDomain]) -> Option<()> {
    for (n, domain) in domains.iter().enumerate() {
        let field = || section.field("spiffe").map(|field| field.element(n));
        let BundleSource::Endpoint(endpoint) = &domain.bundle else { continue };
        let EndpointProfile::HttpsSpiffe { endpoint_spiffe_id, bootstrap_file } = &endpoint.profile
        else {
            continue;
        };
        let by = endpoint_spiffe_id.trust_domain();
        let is_own = *by == domain.trust_domain;
        match bootstrap_file {
            None if is_own => {
                let text = "has an endpoint of its own trust domain, and nothing to know it by at first; add \
                            `bootstrap_file`, with a bundle of it";
                return field()?.refuse(text);
            }
            Some(_) if !is_own => {
                return field()?.refuse(format!(
                    "has an endpoint of `{by}`, whose own entry vouches for it; remove `bootstrap_file`"
                ));
            }
            _ => {}
        }
        if !domains.iter().any(|domain| domain.trust_domain == *by) {
            return field()?.refuse(format!(
                "has an endpoint of `{by}`, which no `[[trust.spiffe]]` names; add one, so that its server is known"
            ));
        }
        if is_in_a_circle(domain, domains) {
            return field()?.refuse(format!(
                "has an endpoint of `{by}`, which is known only by way of this one; give one of them a file"
            ));
        }
    }
    Some(())
}

fn is_in_a_circle(domain: &TrustedDomain, domains: &[TrustedDomain]) -> bool {
    let mut at = voucher(domain);
    for _ in domains {
        let Some(by) = at else { return false };
        at = domains.iter().find(|domain| domain.trust_domain == *by).and_then(voucher);
    }
    at.is_some()
}

/// Another trust domain, whose bundle is needed to fetch this one's.
fn voucher(domain: &TrustedDomain) -> Option<&TrustDomain> {
    let BundleSource::Endpoint(endpoint) = &domain.bundle else { return None };
    let EndpointProfile::HttpsSpiffe { endpoint_spiffe_id, .. } = &endpoint.profile else {
        return None;
    };
    Some(endpoint_spiffe_id.trust_domain()).filter(|by| **by != domain.trust_domain)
}
