//! `[[trust.spiffe]]` and `[[trust.oidc]]`: whose word the broker takes for who somebody is.

use std::path::PathBuf;

use super::document::Field;
use super::section::Section;
use super::value;
use crate::domain::principal::Name;
use crate::domain::time::Span;
use crate::spiffe::id::TrustDomain;

/// `exp − iat` of an issuer's tokens where nothing is said: what Kubernetes gives a workload that asks for no other length.
pub const DEFAULT_MAX_LIFETIME: Span = Span::from_seconds(3_600);

/// Everyone who is trusted to name callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Trust domains; no two alike, and none of them the broker's own.
    pub spiffe: Vec<TrustedDomain>,
    /// OIDC issuers; no two of one name or one URL.
    pub oidc: Vec<TrustedIssuer>,
}

/// A trust domain whose X.509-SVIDs are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedDomain {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// Its bundle: a SPIFFE bundle in JSON, or roots in PEM. Read again when it changes.
    pub bundle_file: PathBuf,
}

/// An OIDC issuer whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// What principals and roles call it.
    pub name: Name,
    /// Its `iss`, byte for byte.
    pub issuer: String,
    /// The one `aud` that its tokens must have for us.
    pub audience: String,
    /// Where its keys come from.
    pub keys: IssuerKeys,
    /// The longest `exp − iat` that is accepted; 1 min to 24 h, [`DEFAULT_MAX_LIFETIME`] unless configured.
    pub max_lifetime: Span,
    /// What its claims mean beyond the registered ones; `None`: nothing.
    pub preset: Option<Preset>,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerKeys {
    /// A JWK set in a file.
    File(PathBuf),
    /// The issuer's own discovery document.
    Discovery {
        /// Roots that its server's certificate must lead to, in PEM; `None`: this machine's.
        ca_file: Option<PathBuf>,
        /// It may lie at an address that is not of the public internet.
        in_cluster: bool,
        /// It lies on this machine, also without TLS. For development.
        danger_loopback: bool,
    },
}

/// A platform whose claims say which running copy of a workload calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Kubernetes service account tokens: the pod.
    Kubernetes,
    /// GitHub Actions: run and attempt.
    Github,
}

/// Neither the broker's own trust domain nor its own URL is to be trusted for who somebody is.
pub(super) fn read(
    section: &mut Section<'_>,
    own: Option<&TrustDomain>,
    own_url: Option<&str>,
) -> Option<Trust> {
    let spiffe = section.or("spiffe", Vec::new(), value::list(value::table(|s| domain(s, own))));
    let oidc = section.or("oidc", Vec::new(), value::list(value::table(|s| issuer(s, own_url))));
    let trust = Trust { spiffe: spiffe?, oidc: oidc? };
    if trust == Trust::default() {
        return section.refuse("", "is empty; add `[[trust.spiffe]]` or `[[trust.oidc]]`");
    }
    let domains: Vec<_> = trust.spiffe.iter().map(|domain| domain.trust_domain.as_str()).collect();
    let names: Vec<_> = trust.oidc.iter().map(|issuer| issuer.name.as_str()).collect();
    let issuers: Vec<_> = trust.oidc.iter().map(|issuer| issuer.issuer.as_str()).collect();
    unrepeated(section, "spiffe", "trust_domain", &domains)?;
    unrepeated(section, "oidc", "name", &names)?;
    unrepeated(section, "oidc", "issuer", &issuers)?;
    Some(trust)
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
    let file = |section: &mut Section<'_>| {
        section.required("file", "file = \"prod.example.bundle.json\"", value::file)
    };
    let bundle_file = section.required(
        "bundle",
        "bundle = { file = \"prod.example.bundle.json\" }",
        value::table(file),
    );
    Some(TrustedDomain { trust_domain: trust_domain?, bundle_file: bundle_file? })
}

fn issuer(section: &mut Section<'_>, own: Option<&str>) -> Option<TrustedIssuer> {
    let danger_loopback = section.or("danger_loopback", false, value::flag);
    if danger_loopback == Some(true) {
        section.warn(
            "danger_loopback",
            "takes keys from this machine without TLS; for development only",
        );
    }
    let name = section.required("name", "name = \"k8s\"", value::name);
    let example = "issuer = \"https://kubernetes.default.svc\"";
    let issuer = section
        .required("issuer", example, |field| url(field, own, danger_loopback.unwrap_or(false)));
    let audience = section.required("audience", "audience = \"leasehold\"", value::owned);
    let presets = [("kubernetes", Preset::Kubernetes), ("github", Preset::Github)];
    let preset = section.optional("preset", value::choice(&presets));
    let bounds = Span::from_seconds(60)..=Span::from_seconds(86_400);
    let max_lifetime = section.or("max_lifetime", DEFAULT_MAX_LIFETIME, value::duration(bounds));
    let keys = keys(section, danger_loopback);
    Some(TrustedIssuer {
        name: name?,
        issuer: issuer?,
        audience: audience?,
        keys: keys?,
        max_lifetime: max_lifetime?,
        preset: preset?,
    })
}

fn keys(section: &mut Section<'_>, danger_loopback: Option<bool>) -> Option<IssuerKeys> {
    let file =
        |section: &mut Section<'_>| section.required("file", "file = \"jwks.json\"", value::file);
    let jwks = section.optional("jwks", value::table(file));
    let ca_file = section.optional("ca_file", value::file);
    let in_cluster = section.or("in_cluster", false, value::flag);
    match (jwks?, ca_file?, in_cluster?, danger_loopback?) {
        (None, ca_file, in_cluster, danger_loopback) => {
            Some(IssuerKeys::Discovery { ca_file, in_cluster, danger_loopback })
        }
        (Some(path), None, false, false) => Some(IssuerKeys::File(path)),
        (Some(_), _, _, _) => {
            let text = "is a file, so nothing is fetched; remove `ca_file`, `in_cluster` and `danger_loopback`";
            section.refuse("jwks", text)
        }
    }
}

fn url(field: &Field<'_>, own: Option<&str>, danger_loopback: bool) -> Option<String> {
    let text = value::text(field)?;
    let below_own = own.and_then(|own| text.strip_prefix(own));
    if below_own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return field.refuse("is the broker's own; its tokens must not come back as identities");
    }
    let on_this_machine = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
    if danger_loopback && on_this_machine.iter().any(|start| text.starts_with(start)) {
        return Some(text.to_owned());
    }
    value::https_url(field)
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
