//! `[[trust.oidc]]`: issuers whose tokens say who a caller is.

use std::path::PathBuf;

use super::super::document::Field;
use super::super::section::Section;
use super::super::value;
use crate::domain::platform::Platform;
use crate::domain::principal::Name;
use crate::domain::time::Span;

/// `exp − iat` of an issuer's tokens where nothing is said: what Kubernetes gives a workload that asks for no other length.
pub const DEFAULT_MAX_LIFETIME: Span = Span::from_seconds(3_600);

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
    /// Whose claims its tokens have, beyond the registered ones; `None`: nobody's that is known.
    pub preset: Option<Platform>,
    /// The cluster to ask about each token; with the preset of Kubernetes only.
    pub token_review: Option<TokenReview>,
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

/// A cluster that is asked whether a pod's token still counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenReview {
    /// Its API server, `https://host[:port]`.
    pub api_server: String,
    /// The broker's own token there. Read for every question.
    pub token_file: PathBuf,
    /// Roots that the API server's certificate must lead to, in PEM; `None`: this machine's.
    pub ca_file: Option<PathBuf>,
}

/// `own` is the broker's own URL, which is not to be trusted for who somebody is.
pub(super) fn read(section: &mut Section<'_>, own: Option<&str>) -> Option<TrustedIssuer> {
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
    let preset = section.optional("preset", value::choice(&Platform::ALL));
    let bounds = Span::from_seconds(60)..=Span::from_seconds(86_400);
    let max_lifetime = section.or("max_lifetime", DEFAULT_MAX_LIFETIME, value::duration(bounds));
    let keys = keys(section, danger_loopback);
    let loopback = danger_loopback.unwrap_or(false);
    let token_review =
        section.optional("token_review", value::table(|section| review(section, loopback)));
    let (issuer, audience) = (issuer?, audience?);
    if let Some(platform) = preset?
        && let Err(fault) = platform.check(&issuer, &audience)
    {
        return section.refuse(fault.field(), fault.to_string());
    }
    if token_review.as_ref().is_some_and(Option::is_some) && preset? != Some(Platform::Kubernetes) {
        let text = "is for pods' tokens; write `preset = \"kubernetes\"`, or remove it";
        return section.refuse("token_review", text);
    }
    Some(TrustedIssuer {
        name: name?,
        issuer,
        audience,
        keys: keys?,
        max_lifetime: max_lifetime?,
        preset: preset?,
        token_review: token_review?,
    })
}

fn review(section: &mut Section<'_>, danger_loopback: bool) -> Option<TokenReview> {
    let example = "api_server = \"https://kubernetes.default.svc\"";
    let api_server =
        section.required("api_server", example, |field| url(field, None, danger_loopback));
    let example = "token_file = \"/var/run/secrets/kubernetes.io/serviceaccount/token\"";
    let token_file = section.required("token_file", example, value::file);
    let ca_file = section.optional("ca_file", value::file);
    Some(TokenReview { api_server: api_server?, token_file: token_file?, ca_file: ca_file? })
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
    value::https_or_loopback_url(field, danger_loopback)
}
