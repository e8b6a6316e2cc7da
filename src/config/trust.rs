//! `[[trust.spiffe]]` and `[[trust.oidc]]`: whose word the broker takes for who somebody is.

mod bundle;
mod oidc;

use super::document::Field;
use super::section::Section;
use super::value;
use crate::domain::time::Span;
use crate::spiffe::id::TrustDomain;

pub use bundle::{
    BundleEndpoint, BundleSource, DEFAULT_BUNDLE_AGE, DEFAULT_FETCHED_BUNDLE_AGE, EndpointProfile,
};
pub use oidc::{DEFAULT_MAX_LIFETIME, IssuerKeys, TokenReview, TrustedIssuer};

/// Everyone who is trusted to name callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Trust domains; no two alike, and none of them the broker's own.
    pub spiffe: Vec<TrustedDomain>,
    /// What its JWT-SVIDs must be.
    pub jwt_svid: JwtSvids,
    /// OIDC issuers; no two of one name or one URL.
    pub oidc: Vec<TrustedIssuer>,
}

/// Which JWT-SVIDs of the trust domains are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSvids {
    /// Their one `aud`; the broker's base URL unless configured.
    pub audience: String,
    /// The longest `exp − iat` that is accepted; 1 min to 24 h, [`DEFAULT_MAX_LIFETIME`] unless configured.
    pub max_lifetime: Span,
}

/// A trust domain whose X.509-SVIDs are accepted, and its JWT-SVIDs, if its bundle has keys for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedDomain {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// Where its bundle comes from.
    pub bundle: BundleSource,
}

/// Neither the broker's own trust domain nor its own URL is to be trusted for who somebody is.
pub(super) fn read(
    section: &mut Section<'_>,
    own: Option<&TrustDomain>,
    own_url: Option<&str>,
) -> Option<Trust> {
    let spiffe = section.or("spiffe", Vec::new(), value::list(value::table(|s| domain(s, own))));
    let oidc =
        section.or("oidc", Vec::new(), value::list(value::table(|s| oidc::read(s, own_url))));
    let audience = own_url.unwrap_or_default();
    let svids = |section: &mut Section<'_>| jwt_svids(section, audience);
    let jwt_svid = section.optional("jwt_svid", value::table(svids))?;
    let jwt_svid = jwt_svid
        .unwrap_or(JwtSvids { audience: audience.to_owned(), max_lifetime: DEFAULT_MAX_LIFETIME });
    let trust = Trust { spiffe: spiffe?, jwt_svid, oidc: oidc? };
    if trust.spiffe.is_empty() && trust.oidc.is_empty() {
        return section.refuse("", "is empty; add `[[trust.spiffe]]` or `[[trust.oidc]]`");
    }
    let domains: Vec<_> = trust.spiffe.iter().map(|domain| domain.trust_domain.as_str()).collect();
    let names: Vec<_> = trust.oidc.iter().map(|issuer| issuer.name.as_str()).collect();
    let issuers: Vec<_> = trust.oidc.iter().map(|issuer| issuer.issuer.as_str()).collect();
    unrepeated(section, "spiffe", "trust_domain", &domains)?;
    bundle::check_vouching(section, &trust.spiffe)?;
    unrepeated(section, "oidc", "name", &names)?;
    unrepeated(section, "oidc", "issuer", &issuers)?;
    Some(trust)
}

fn jwt_svids(section: &mut Section<'_>, base_url: &str) -> Option<JwtSvids> {
    let audience = section.or("audience", base_url.to_owned(), value::owned);
    let bounds = Span::from_seconds(60)..=Span::from_seconds(86_400);
    let max_lifetime = section.or("max_lifetime", DEFAULT_MAX_LIFETIME, value::duration(bounds));
    Some(JwtSvids { audience: audience?, max_lifetime: max_lifetime? })
}

fn domain(section: &mut Section<'_>, own: Option<&TrustDomain>) -> Option<TrustedDomain> {
    let foreign = |field: &Field<'_>| {
        let domain = value::trust_domain(field)?;
        if Some(&domain) == own {
            return field
                .refuse("is the broker's own; what it mints must not come back as an identity");
        }
        Some(domain)
    };
    let trust_domain = section.required("trust_domain", "trust_domain = \"prod.example\"", foreign);
    let example = "bundle = { file = \"prod.example.bundle.json\" }";
    let bundle = section.required("bundle", example, value::table(bundle::read));
    Some(TrustedDomain { trust_domain: trust_domain?, bundle: bundle? })
}

/// Two entries for one thing would make it a guess which of them counts (THREATS.md class 12).
fn unrepeated(section: &Section<'_>, key: &str, what: &str, texts: &[&str]) -> Option<()> {
    for (n, text) in texts.iter().enumerate() {
        if let Some(first) = texts.iter().take(n).position(|earlier| earlier == text) {
            return section.field(key)?.element(n).refuse(format!(
                "has the `{what}` of `trust.{key}[{first}]`, `{text}`; keep one of them"
            ));
        }
    }
    Some(())
}
