//! What every trusted trust domain vouches with, as one snapshot. Nothing of two domains is ever put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use crate::domain::time::{INFINITY, Stamp};
use crate::jose::json::Object;
use crate::jose::{JwkError, KeySet, KeySetError, VerifyingKey};
use crate::spiffe::authority::AuthorityError;
use crate::spiffe::bundle::Bundle;
use crate::spiffe::id::TrustDomain;

/// The snapshot that everyone reads and [`super::trust_store::TrustStore`] swaps.
pub type SharedBundles = Arc<ArcSwap<TrustBundles>>;

/// What each trust domain's identities must lead to. A domain that is not in here is not trusted.
#[derive(Clone, Debug, Default)]
pub struct TrustBundles {
    domains: BTreeMap<TrustDomain, Held>,
}

/// What is held of one trust domain.
#[derive(Clone, Debug)]
struct Held {
    /// `None` until its source has given one.
    bundle: Option<Arc<TrustBundle>>,
    /// From then on it counts no more, unless its source confirms it before.
    usable_until: Stamp,
}

/// The roots and JWT keys of one trust domain, ready for use. Without any, it trusts nothing.
#[derive(Debug)]
pub struct TrustBundle {
    source: Bundle,
    anchors: Vec<TrustAnchor<'static>>,
    jwt_keys: KeySet,
    refused: Vec<JwkError>,
}

/// Nothing of a trust domain is trusted at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustDomainError {
    /// The configuration does not name it.
    #[error("trust domain `{0}` is not trusted here; add it under `[[trust.spiffe]]`")]
    Unknown(TrustDomain),
    /// Its source has not given a bundle since the broker started.
    #[error(
        "the broker has no bundle of trust domain `{0}` yet; try again, and see the broker's log"
    )]
    Missing(TrustDomain),
    /// Its source has not confirmed the bundle for `max_age`.
    #[error(
        "the broker's bundle of trust domain `{0}` is older than its `max_age` and counts no more; try again, and see the broker's log"
    )]
    Stale(TrustDomain),
}

impl TrustDomainError {
    /// Whether the same caller may be recognised a little later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Missing(_) | Self::Stale(_) => true,
        }
    }
}

/// A set of trust domains cannot be trusted together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustBundlesError {
    /// Our own trust domain is trusted: who got a credential here could ask for more with it (DESIGN.md section 3).
    #[error("`{0}` is this broker's own trust domain and cannot be one that it trusts")]
    Own(TrustDomain),
    /// One trust domain with two bundles, which would be merged roots.
    #[error("trust domain `{0}` has two bundles; give it one")]
    Twice(TrustDomain),
}

impl TrustBundles {
    /// Trusts these domains, and nothing of them until a bundle comes.
    pub(super) fn awaiting(domains: impl IntoIterator<Item = TrustDomain>) -> Self {
        let held = Held { bundle: None, usable_until: Stamp::ZERO };
        Self { domains: domains.into_iter().map(|domain| (domain, held.clone())).collect() }
    }

    /// Binds bundles, which never grow old, to the trust domains that configuration, and nothing else, names for them.
    ///
    /// # Errors
    /// [`TrustBundlesError`] if `own` is among them or one is there twice.
    pub fn new(
        own: &TrustDomain,
        bundles: impl IntoIterator<Item = (TrustDomain, TrustBundle)>,
    ) -> Result<Self, TrustBundlesError> {
        let mut domains = BTreeMap::new();
        for (domain, bundle) in bundles {
            if domain == *own {
                return Err(TrustBundlesError::Own(domain));
            }
            let held = Held { bundle: Some(Arc::new(bundle)), usable_until: INFINITY };
            if domains.insert(domain.clone(), held).is_some() {
                return Err(TrustBundlesError::Twice(domain));
            }
        }
        Ok(Self { domains })
    }

    /// The bundle of a trust domain, if anything of it is to be trusted `now`.
    ///
    /// # Errors
    /// [`TrustDomainError`] says why not.
    // INVARIANT (no old bundle): asked with the present at every use, so a bundle ends by itself, whoever should refresh it.
    pub fn get(
        &self,
        domain: &TrustDomain,
        now: Stamp,
    ) -> Result<&Arc<TrustBundle>, TrustDomainError> {
        let held = self.domains.get(domain);
        let held = held.ok_or_else(|| TrustDomainError::Unknown(domain.clone()))?;
        match &held.bundle {
            None => Err(TrustDomainError::Missing(domain.clone())),
            Some(_) if now >= held.usable_until => Err(TrustDomainError::Stale(domain.clone())),
            Some(bundle) => Ok(bundle),
        }
    }

    /// The bundle that was last given, of whatever age.
    pub(super) fn last(&self, domain: &TrustDomain) -> Option<&Arc<TrustBundle>> {
        self.domains.get(domain)?.bundle.as_ref()
    }

    /// The same snapshot with another bundle for a domain that is in it.
    #[must_use]
    pub(super) fn with(
        mut self,
        domain: &TrustDomain,
        bundle: Arc<TrustBundle>,
        usable_until: Stamp,
    ) -> Self {
        if let Some(held) = self.domains.get_mut(domain) {
            *held = Held { bundle: Some(bundle), usable_until };
        }
        self
    }

    /// The snapshot behind a pointer that can be swapped.
    pub fn shared(self) -> SharedBundles {
        Arc::new(ArcSwap::from_pointee(self))
    }
}

/// A bundle cannot be used to verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustBundleError {
    /// The chain verifier cannot use one of its authorities.
    #[error("a certificate in it: {0}")]
    Authority(#[from] AuthorityError),
    /// Its JWT keys make no set.
    #[error("its JWT keys: {0}")]
    JwtKeys(#[from] KeySetError),
}

impl TrustBundle {
    /// Makes a bundle ready for use. JWT keys that nothing may be verified with are left out.
    ///
    /// # Errors
    /// [`TrustBundleError`] if nothing of the bundle may be used.
    pub fn of(source: Bundle) -> Result<Self, TrustBundleError> {
        let anchor = |der: &[u8]| {
            let der = CertificateDer::from(der);
            let anchor = webpki::anchor_from_trusted_cert(&der);
            anchor.map(|anchor| anchor.to_owned()).map_err(|_| AuthorityError::Malformed)
        };
        let anchors = source.authorities().iter().map(|authority| anchor(authority.der()));
        let anchors = anchors.collect::<Result<_, _>>()?;
        let (mut keys, mut refused) = (Vec::new(), Vec::new());
        for jwk in source.jwt_keys() {
            match jwt_key(jwk) {
                Ok(key) => keys.push(key),
                Err(reason) => refused.push(reason),
            }
        }
        let jwt_keys = KeySet::of(keys)?;
        Ok(Self { source, anchors, jwt_keys, refused })
    }

    /// The bundle as its source gave it.
    pub fn source(&self) -> &Bundle {
        &self.source
    }

    /// The keys that JWT-SVIDs of the trust domain are signed with.
    pub fn jwt_keys(&self) -> &KeySet {
        &self.jwt_keys
    }

    /// Why JWT keys were left out.
    pub(super) fn refused(&self) -> &[JwkError] {
        &self.refused
    }

    /// The roots that are valid at `now`, at which chain building would not look, each with its expiry.
    pub(super) fn roots_at(&self, now: Stamp) -> (Vec<TrustAnchor<'static>>, Vec<Stamp>) {
        let roots = self.source.authorities().iter().zip(&self.anchors);
        let valid = roots.filter(|(authority, _)| authority.is_valid_at(now));
        valid.map(|(authority, anchor)| (anchor.clone(), authority.expires())).unzip()
    }
}

/// In a bundle `use` says that the key is for JWT-SVIDs, where a JWK set says that it is for signatures (JWT-SVID section 5.1).
fn jwt_key(jwk: &Object) -> Result<VerifyingKey, JwkError> {
    let mut jwk = jwk.clone();
    jwk.remove("use");
    VerifyingKey::from_jwk(&jwk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_12_our_own_trust_domain_and_doubled_ones_are_refused() {
        let own = TrustDomain::parse("leasehold.example").unwrap();
        let other = TrustDomain::parse("prod.example").unwrap();
        let empty = || TrustBundle::of(Bundle::default()).unwrap();
        let refusal = TrustBundles::new(&own, [(own.clone(), empty())]).unwrap_err();
        assert_eq!(refusal, TrustBundlesError::Own(own.clone()));
        let twice = [(other.clone(), empty()), (other.clone(), empty())];
        let refusal = TrustBundles::new(&own, twice).unwrap_err();
        assert_eq!(refusal, TrustBundlesError::Twice(other));
    }
}
