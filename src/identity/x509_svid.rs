//! Callers with a client certificate, an X.509-SVID. Nothing is remembered here: see [`super::peer`] for that.
//!
//! ```text
//!  chain ── leaf rules ──▶ SPIFFE ID ── its own trust domain's roots ──▶ chain ──▶ VerifiedCaller
//! ```

use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::trust_bundle::{TrustBundle, TrustBundles, TrustDomainError};
use super::{Proof, VerifiedCaller, Vouched};
use crate::domain::time::Stamp;
use crate::spiffe::authority::{Authority, AuthorityError};
use crate::spiffe::id::{SpiffeId, TrustDomain};
use crate::spiffe::leaf::{Leaf, LeafError};

/// The most certificates that a caller may show.
pub const MAX_CHAIN: usize = 8;

/// A certificate does not prove who is calling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum X509SvidError {
    /// No certificate at all.
    #[error("the caller showed no certificate")]
    NoCertificate,
    /// More than [`MAX_CHAIN`] certificates.
    #[error("the caller showed more than {MAX_CHAIN} certificates")]
    ChainTooLong,
    /// The leaf breaks a rule (X509-SVID section 5.2).
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// Another certificate of the chain is no authority's (X509-SVID section 4).
    #[error("a certificate above the leaf: {0}")]
    Intermediate(AuthorityError),
    /// Nothing of the leaf's trust domain is trusted now.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// The chain does not lead to a valid root of the leaf's own trust domain (X509-SVID section 5.1).
    #[error("the certificate does not lead to a root of trust domain `{0}`: {1}")]
    Untrusted(TrustDomain, webpki::Error),
    /// The leaf of a server names another one.
    #[error("the server's certificate is not that of `{0}`")]
    OtherServer(SpiffeId),
    /// A certificate of the chain has expired since it was verified.
    #[error("the certificate, or one above it, has expired; rotate it and connect again")]
    Expired,
}

impl X509SvidError {
    /// Whether the same certificate may be accepted a little later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::TrustDomain(error) if error.is_retriable())
    }
}

/// Verifies a chain, leaf first, against the roots of the leaf's own trust domain.
///
/// # Errors
/// [`X509SvidError`] names the first rule that it breaks.
pub fn verify(
    chain: &[CertificateDer<'_>],
    bundles: &TrustBundles,
    now: Stamp,
) -> Result<VerifiedCaller, X509SvidError> {
    verify_against(chain, bundles, now).map(|vouched| vouched.caller)
}

pub(super) fn verify_against(
    chain: &[CertificateDer<'_>],
    bundles: &TrustBundles,
    now: Stamp,
) -> Result<Vouched, X509SvidError> {
    let (first, intermediates, leaf) = check(chain, now)?;
    // INVARIANT (roots by trust domain): nothing but the leaf's own trust domain chooses its roots.
    let trust_domain = leaf.id().trust_domain().clone();
    let bundle = bundles.get(&trust_domain, now)?.clone();
    let usage = KeyUsage::client_auth();
    let path_expires = build_path(first, intermediates, &bundle, usage, now)
        .map_err(|fault| X509SvidError::Untrusted(trust_domain.clone(), fault))?;
    let mut thumbprint = [0; 32];
    thumbprint.copy_from_slice(digest(&SHA256, first).as_ref());
    let caller = VerifiedCaller {
        principal: leaf.id().principal().clone(),
        instance: leaf.id().to_string(),
        expires: leaf.expires().min(path_expires),
        proof: Proof::Certificate { thumbprint },
    };
    Ok(Vouched { caller, trust_domain, bundle })
}

/// Verifies the chain of a server that must be the one with this SPIFFE ID, against the roots of its trust domain.
///
/// # Errors
/// [`X509SvidError`] names the first rule that it breaks.
pub(super) fn verify_server(
    chain: &[CertificateDer<'_>],
    id: &SpiffeId,
    bundle: &TrustBundle,
    now: Stamp,
) -> Result<(), X509SvidError> {
    let (first, intermediates, leaf) = check(chain, now)?;
    if leaf.id() != id {
        return Err(X509SvidError::OtherServer(id.clone()));
    }
    build_path(first, intermediates, bundle, KeyUsage::server_auth(), now)
        .map(drop)
        .map_err(|fault| X509SvidError::Untrusted(id.trust_domain().clone(), fault))
}

/// Leaf, what stands above it, and what the leaf says; no signature is checked.
fn check<'c, 'd>(
    chain: &'c [CertificateDer<'d>],
    now: Stamp,
) -> Result<(&'c CertificateDer<'d>, &'c [CertificateDer<'d>], Leaf), X509SvidError> {
    let (first, intermediates) = chain.split_first().ok_or(X509SvidError::NoCertificate)?;
    if chain.len() > MAX_CHAIN {
        return Err(X509SvidError::ChainTooLong);
    }
    let leaf = Leaf::check(first, now)?;
    for der in intermediates {
        Authority::check(der).map_err(X509SvidError::Intermediate)?;
    }
    Ok((first, intermediates, leaf))
}

/// Builds a path to a root that is valid `now`, and answers when the first certificate above the leaf on it expires.
fn build_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    usage: KeyUsage,
    now: Stamp,
) -> Result<Stamp, webpki::Error> {
    let (anchors, expiries) = bundle.roots_at(now);
    let leaf = EndEntityCert::try_from(leaf)?;
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let path = leaf.verify_for_usage(
        algorithms.all,
        &anchors,
        intermediates,
        UnixTime::since_unix_epoch(std::time::Duration::from_micros(now.micros())),
        usage,
        None,
        None,
    )?;
    // Of two roots with one name and key, the later counts.
    let same = anchors.iter().zip(expiries).filter(|(anchor, _)| *anchor == path.anchor());
    let root = same.map(|(_, expires)| expires).max().ok_or(webpki::Error::UnknownIssuer)?;
    path.intermediate_certificates().try_fold(root, |earliest, certificate| {
        let authority = Authority::check(&certificate.der()).map_err(|_| webpki::Error::BadDer)?;
        Ok(earliest.min(authority.expires()))
    })
}

#[cfg(test)]
mod tests;
