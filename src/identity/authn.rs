//! Who makes a call: the client certificate of its connection, or the bearer token in its headers, never both.
//!
//! A bearer token is of one kind, and one function verifies it. Which one, the configuration decides:
//!
//! ```text
//!  `iss` is that of a `[[trust.oidc]]` ──▶ OIDC, whatever its `sub`
//!  else `sub` begins with `spiffe://`  ──▶ JWT-SVID, whatever its `iss`
//!  else                                ──▶ OIDC, which refuses it
//! ```
//!
//! Both read the token anew, so a token that lies about its kind meets the keys of a kind that did not sign it.
//!
//! Asked for every call anew, since a connection outlives certificates and bundles.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use moka::sync::Cache;
use ring::digest::{SHA256, digest};

use super::jwt_svid::{JwtSvidError, JwtSvidVerifier};
use super::oidc::{OidcError, OidcVerifier, Verified};
use super::peer::PeerSvid;
use super::trust_bundle::{SharedBundles, TrustBundles};
use super::x509_svid::X509SvidError;
use super::{VerifiedCaller, Vouched};
use crate::domain::time::Stamp;
use crate::jose::Claimed;

/// Tokens that are remembered as verified.
const MAX_VERIFIED: u64 = 10_000;

/// A call does not prove who makes it.
#[derive(Debug, thiserror::Error)]
pub enum AuthnError {
    /// Neither a certificate nor a token.
    #[error(
        "no identity: connect with an X.509-SVID, or send `authorization: Bearer` with a JWT-SVID or a token of a configured issuer"
    )]
    Missing,
    /// Two identities in one call: which one counts would be a guess.
    #[error("a client certificate and an `authorization` header together; send one of them")]
    Both,
    /// More than one `authorization` header.
    #[error("more than one `authorization` header; send one")]
    Several,
    /// The header is not of the form of RFC 6750 section 2.1.
    #[error("the `authorization` header is not `Bearer`, a space and a token")]
    NotBearer,
    /// The certificate.
    #[error("client certificate: {0}")]
    Certificate(#[from] X509SvidError),
    /// The token of an issuer.
    #[error("bearer token: {0}")]
    Token(#[from] OidcError),
    /// The JWT-SVID.
    #[error("bearer token: {0}")]
    JwtSvid(#[from] JwtSvidError),
}

impl AuthnError {
    /// Whether the same call may succeed a little later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Certificate(error) => error.is_retriable(),
            Self::Token(error) => error.is_retriable(),
            Self::JwtSvid(error) => error.is_retriable(),
            Self::Missing | Self::Both | Self::Several | Self::NotBearer => false,
        }
    }
}

/// Proves who calls.
#[derive(Debug)]
pub struct Authenticator {
    bundles: SharedBundles,
    jwt_svid: JwtSvidVerifier,
    oidc: OidcVerifier,
    /// By SHA-256 of the token.
    proved: Cache<[u8; 32], Proved>,
}

/// What a token proved.
#[derive(Clone, Debug)]
enum Proved {
    ByIssuer(Verified),
    ByTrustDomain(Arc<Vouched>),
}

impl Proved {
    fn caller(&self) -> &VerifiedCaller {
        match self {
            Self::ByIssuer(verified) => &verified.caller,
            Self::ByTrustDomain(vouched) => &vouched.caller,
        }
    }

    /// Whether it need not be verified again.
    fn holds(&self, bundles: &TrustBundles, now: Stamp) -> bool {
        match self {
            Self::ByIssuer(verified) => now < verified.until,
            Self::ByTrustDomain(vouched) => {
                now < vouched.caller.expires() && vouched.holds(bundles, now)
            }
        }
    }
}

impl Authenticator {
    /// Over the bundles as they are at each call, the rules of JWT-SVIDs, and the configured issuers.
    pub fn new(bundles: SharedBundles, jwt_svid: JwtSvidVerifier, oidc: OidcVerifier) -> Self {
        let proved = Cache::new(MAX_VERIFIED);
        Self { bundles, jwt_svid, oidc, proved }
    }

    /// The issuers, whose keys somebody must refresh.
    pub fn issuers(&self) -> &OidcVerifier {
        &self.oidc
    }

    /// Who makes a call, of its connection's certificate and its headers.
    ///
    /// # Errors
    /// [`AuthnError`] says what is missing or wrong. A bad certificate or token is never taken for none.
    pub async fn authenticate(
        &self,
        svid: Option<&PeerSvid>,
        headers: &HeaderMap,
        now: Stamp,
    ) -> Result<VerifiedCaller, AuthnError> {
        let mut authorization = headers.get_all(AUTHORIZATION).iter();
        let header = authorization.next();
        if authorization.next().is_some() {
            return Err(AuthnError::Several);
        }
        match (svid, header) {
            (None, None) => Err(AuthnError::Missing),
            (Some(_), Some(_)) => Err(AuthnError::Both),
            (Some(svid), None) => Ok(svid.recheck(&self.bundles.load(), now)?),
            (None, Some(header)) => self.bearer(bearer_of(header.as_bytes())?, now).await,
        }
    }

    async fn bearer(&self, token: &str, now: Stamp) -> Result<VerifiedCaller, AuthnError> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let known = self.proved.get(&hash);
        if let Some(known) = known.filter(|known| known.holds(&self.bundles.load(), now)) {
            return Ok(known.caller().clone());
        }
        let proved = if self.is_jwt_svid(token) {
            let vouched = self.jwt_svid.verify_against(token, &self.bundles.load(), now)?;
            Proved::ByTrustDomain(Arc::new(vouched))
        } else {
            Proved::ByIssuer(self.oidc.verify(token, now).await?)
        };
        let caller = proved.caller().clone();
        self.proved.insert(hash, proved);
        Ok(caller)
    }

    // INVARIANT (one kind by configuration): a configured issuer's tokens are never JWT-SVIDs, so no token is both.
    fn is_jwt_svid(&self, token: &str) -> bool {
        let Some(claimed) = Claimed::of(token) else { return false };
        let is_of_an_issuer = claimed.issuer().is_some_and(|issuer| self.oidc.has_issuer(issuer));
        !is_of_an_issuer
            && claimed.subject().is_some_and(|subject| subject.starts_with("spiffe://"))
    }
}

fn bearer_of(header: &[u8]) -> Result<&str, AuthnError> {
    let text = std::str::from_utf8(header).map_err(|_| AuthnError::NotBearer)?;
    let (scheme, token) = text.split_once(' ').ok_or(AuthnError::NotBearer)?;
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !scheme.eq_ignore_ascii_case("bearer") || !is_token {
        return Err(AuthnError::NotBearer);
    }
    Ok(token)
}

#[cfg(test)]
mod tests;
