//! Callers that prove themselves with a JWT of a configured OIDC issuer (OpenID Connect Core section 3.1.3.7, RFC 8725).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::jwks_cache::{JwksCache, Origin};
use super::platform::{self, LEGACY_ISSUER};
use super::token_review::TokenReviewer;
use super::{Proof, VerifiedCaller};
use crate::domain::platform::{Platform, PlatformFault};
use crate::domain::principal::{Name, Principal, PrincipalError};
use crate::domain::time::{Span, Stamp};
use crate::fetch::{Fetcher, Reach, check_url};
use crate::jose::{ClaimError, Claims, FOREIGN_ALGORITHMS, JwsError, Leeway, Typ, Unverified};

pub use super::jwks_cache::{JwksError, JwksSource};
pub use super::platform::PlatformError;
pub use super::token_review::{ReviewError, TokenReviewConfig};
pub use crate::fetch::FetchError;

/// A token is verified again after so long, so that a key that its issuer withdrew does not live on.
const VERIFIED_AGE: Span = Span::from_seconds(60);

/// An issuer whose tokens prove who a caller is.
#[derive(Clone, Debug)]
pub struct OidcIssuer {
    /// Its name in principals and scopes.
    pub name: Name,
    /// Its `iss`, compared byte for byte, and the URL that its discovery document lies under.
    pub issuer: String,
    /// What must be among the values of `aud`.
    pub audience: String,
    /// Where its keys come from.
    pub jwks: JwksSource,
    /// The longest `exp - iat`.
    pub max_lifetime: Span,
    /// Whose claims its tokens have, beyond the registered ones; `None`: nobody's that is known.
    pub platform: Option<Platform>,
    /// The cluster to ask about each token; for [`Platform::Kubernetes`] alone, whose claims it is compared with.
    pub token_review: Option<TokenReviewConfig>,
    /// Its documents may lie at private addresses.
    pub in_cluster: bool,
    /// Its documents lie on this machine, also without TLS. For `dev`.
    pub danger_loopback: bool,
    /// Roots for its documents' TLS, in PEM; without one this machine's.
    pub ca_file: Option<PathBuf>,
}

/// The configured issuers are not ones to trust.
#[derive(Debug, thiserror::Error)]
pub enum OidcConfigError {
    /// The issuer is no https URL, or has a query (OpenID Connect Discovery 1.0 section 4.1).
    #[error("issuer `{0}`: `{1}` is not an https URL without query and fragment")]
    Issuer(Name, String),
    /// Its URL or its CA file.
    #[error("issuer `{0}`: {1}")]
    Fetch(Name, FetchError),
    /// Two issuers with one name would be one principal, two with one URL one trust.
    #[error("issuer `{0}` is configured twice, by name or by URL")]
    Twice(Name),
    /// Nothing else has claims that a cluster's answer could be compared with.
    #[error("issuer `{0}` has a token review, which is for Kubernetes alone")]
    Review(Name),
    /// Our own tokens do not prove an identity to us.
    #[error("issuer `{0}` is this broker itself: its tokens cannot be identities here")]
    Own(Name),
    /// Its tokens cannot say who somebody is.
    #[error("issuer `{0}`: `{field}` {1}", field = .1.field())]
    Platform(Name, PlatformFault),
    /// No token would be accepted.
    #[error("issuer `{0}` has an empty audience")]
    Audience(Name),
}

/// A token does not prove who the caller is. Nothing of the token is in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// Shape, header or signature.
    #[error(transparent)]
    Token(#[from] JwsError),
    /// A claim is missing, has the wrong type, or the token is not valid now.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// `iss` is missing or not configured; nothing is ever fetched because of a token's `iss`.
    #[error("the token's issuer is not among those in `[[trust.oidc]]`")]
    UnknownIssuer,
    /// `aud` does not contain ours.
    #[error("the token is not for this broker: request one with the configured `audience`")]
    Audience,
    /// `exp - iat` is above the issuer's limit.
    #[error("the token lives longer than `max_lifetime` of its issuer: request a shorter one")]
    Lifetime,
    /// It has `cnf`: whoever shows it must also prove a key, which a bearer does not.
    #[error("the token is bound to a key (`cnf`) and is no bearer identity")]
    Bound,
    /// It has a `leasehold` claim: a credential of a broker, whoever signed it.
    #[error("the token is a credential for a task and not an identity")]
    Credential,
    /// The platform's own rules.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The platform itself, asked about the token.
    #[error(transparent)]
    Review(#[from] ReviewError),
    /// `sub` is not the subject of a principal.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// The issuer's keys.
    #[error(transparent)]
    Keys(#[from] JwksError),
}

impl OidcError {
    /// Whether the same token may be accepted a little later.
    pub fn is_retriable(self) -> bool {
        self == Self::Keys(JwksError::Unavailable) || self == Self::Review(ReviewError::Unavailable)
    }
}

/// The configured issuers and their keys.
#[derive(Debug)]
pub struct OidcVerifier {
    /// By `iss`.
    issuers: BTreeMap<String, Trusted>,
}

#[derive(Debug)]
struct Trusted {
    config: OidcIssuer,
    keys: JwksCache,
    review: Option<TokenReviewer>,
}

/// Whom a token proves.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who it is.
    pub caller: VerifiedCaller,
    /// Until when the same token proves it again without being verified.
    pub until: Stamp,
}

impl OidcVerifier {
    /// Takes the configured issuers; fetches nothing yet. `own` are the `iss` of our own tokens; `jitter` is a random
    /// byte, so that brokers do not refresh all at once.
    ///
    /// # Errors
    /// [`OidcConfigError`] names the issuer and what is wrong with it.
    pub fn new(
        configured: Vec<OidcIssuer>,
        own: &[&str],
        jitter: u8,
    ) -> Result<Self, OidcConfigError> {
        let mut names = std::collections::BTreeSet::new();
        let mut issuers = BTreeMap::new();
        for config in configured {
            let name = config.name.clone();
            if own.contains(&config.issuer.as_str()) {
                return Err(OidcConfigError::Own(name));
            }
            if config.audience.is_empty() {
                return Err(OidcConfigError::Audience(name));
            }
            if config.token_review.is_some() && config.platform != Some(Platform::Kubernetes) {
                return Err(OidcConfigError::Review(name));
            }
            if let Some(platform) = config.platform {
                let checked = platform.check(&config.issuer, &config.audience);
                checked.map_err(|fault| OidcConfigError::Platform(name.clone(), fault))?;
            }
            let trusted = Trusted::new(config, jitter)?;
            let twice = issuers.insert(trusted.config.issuer.clone(), trusted).is_some();
            if twice || !names.insert(name.clone()) {
                return Err(OidcConfigError::Twice(name));
            }
        }
        Ok(Self { issuers })
    }

    /// Verifies an identity token, as it stands behind `Bearer`.
    ///
    /// # Errors
    /// [`OidcError`] names the rule that the token breaks.
    pub async fn verify(&self, token: &str, now: Stamp) -> Result<Verified, OidcError> {
        // `at+jwt`, `dpop+jwt` and the other explicit kinds are no identities (RFC 8725 section 3.12).
        let unverified = Unverified::parse(token, Typ::AbsentOr(&["JWT"]), FOREIGN_ALGORITHMS)?;
        let issuer = unverified.claimed_issuer().ok_or(OidcError::UnknownIssuer)?;
        if issuer == LEGACY_ISSUER {
            return Err(PlatformError::Legacy.into());
        }
        let trusted = self.issuers.get(&issuer).ok_or(OidcError::UnknownIssuer)?;
        let keys = trusted.keys.keys_with(unverified.kid(), now).await?;
        let caller = trusted.config.check(&unverified.verify(&keys)?, now)?;
        let until = match &trusted.review {
            Some(review) => review.confirm(token, caller.claims(), caller.expires, now).await?,
            None => now.plus(VERIFIED_AGE).min(caller.expires),
        };
        Ok(Verified { caller, until })
    }

    /// Whether an issuer with this `iss` is configured.
    pub(super) fn has_issuer(&self, issuer: &str) -> bool {
        self.issuers.contains_key(issuer)
    }

    /// Fetches whatever keys are due; called every second or so.
    pub async fn refresh_if_due(&self, now: Stamp) {
        let due = self.issuers.values().map(|trusted| trusted.keys.refresh_if_due(now));
        futures_util::future::join_all(due).await;
    }

    /// How old each issuer's keys are; `None` while there are none.
    pub fn ages(&self, now: Stamp) -> Vec<(Name, Option<Span>)> {
        let age = |trusted: &Trusted| (trusted.config.name.clone(), trusted.keys.age(now));
        self.issuers.values().map(age).collect()
    }
}

impl Trusted {
    fn new(config: OidcIssuer, jitter: u8) -> Result<Self, OidcConfigError> {
        let reach = match (config.danger_loopback, config.in_cluster) {
            (true, _) => Reach::Loopback,
            (false, true) => Reach::InCluster,
            (false, false) => Reach::Public,
        };
        let fetch = |error| OidcConfigError::Fetch(config.name.clone(), error);
        let origin = match &config.jwks {
            JwksSource::File(path) => Origin::File(path.clone()),
            JwksSource::Discovery => {
                let url = check_url(&config.issuer, reach).map_err(fetch)?;
                if url.query().is_some() {
                    let issuer = config.issuer.clone();
                    return Err(OidcConfigError::Issuer(config.name.clone(), issuer));
                }
                Origin::Discovery(Fetcher::new(reach, config.ca_file.as_deref()).map_err(fetch)?)
            }
        };
        let keys = JwksCache::new(config.issuer.clone(), origin, jitter);
        let review = config.token_review.as_ref().map(|review| {
            TokenReviewer::new(review, &config.audience, config.danger_loopback).map_err(fetch)
        });
        Ok(Self { review: review.transpose()?, config, keys })
    }
}

impl OidcIssuer {
    /// Checks claims that the issuer signed: `iss`, `sub`, `aud`, `exp` and `iat` are required.
    fn check(&self, claims: &Claims, now: Stamp) -> Result<VerifiedCaller, OidcError> {
        // The keys were chosen by `iss` before the signature was checked; it is the same text after.
        if claims.text("iss")? != self.issuer {
            return Err(OidcError::UnknownIssuer);
        }
        if !claims.audience()?.contains(&self.audience.as_str()) {
            return Err(OidcError::Audience);
        }
        let times = claims.times(now, Leeway::FOREIGN)?;
        if times.expires.since(times.issued) > self.max_lifetime {
            return Err(OidcError::Lifetime);
        }
        if claims.get("leasehold").is_some() {
            return Err(OidcError::Credential);
        }
        if claims.get("cnf").is_some() {
            return Err(OidcError::Bound);
        }
        let principal = Principal::oidc(&self.name, claims.text("sub")?)?;
        let attested = platform::read(self.platform, &self.issuer, claims)?;
        // Who share a subject and have nothing else attested are one instance, as with SPIFFE IDs (FORMATS.md).
        let instance = attested.instance.unwrap_or_else(|| principal.as_str().to_owned());
        let proof = Proof::Oidc { issuer: self.name.clone(), claims: attested.claims };
        Ok(VerifiedCaller { principal, instance, expires: times.expires, proof })
    }
}

#[cfg(test)]
mod tests;
