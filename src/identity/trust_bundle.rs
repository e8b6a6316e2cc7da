//! The roots of every trusted trust domain, as one snapshot. Roots of two domains are never put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use crate::domain::time::Stamp;
use crate::spiffe::authority::{Authority, AuthorityError};
use crate::spiffe::bundle::Bundle;
use crate::spiffe::id::TrustDomain;

/// The snapshot that everyone reads and one task swaps.
pub type SharedBundles = Arc<ArcSwap<TrustBundles>>;

/// What each trust domain's certificates must lead to. A domain that is not in here is not trusted.
#[derive(Clone, Debug, Default)]
pub struct TrustBundles {
    domains: BTreeMap<TrustDomain, Arc<TrustBundle>>,
}

/// The roots of one trust domain. Without any, it trusts nothing.
#[derive(Debug)]
pub struct TrustBundle {
    roots: Vec<(Authority, TrustAnchor<'static>)>,
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
    /// Binds bundles to the trust domains that configuration, and nothing else, names for them.
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
            if domains.insert(domain.clone(), Arc::new(bundle)).is_some() {
                return Err(TrustBundlesError::Twice(domain));
            }
        }
        Ok(Self { domains })
    }

    /// The bundle of a trust domain, if it is trusted at all.
    pub fn get(&self, domain: &TrustDomain) -> Option<&Arc<TrustBundle>> {
        self.domains.get(domain)
    }

    /// The same snapshot with another bundle for a domain that is in it.
    #[must_use]
    pub(super) fn with(mut self, domain: &TrustDomain, bundle: TrustBundle) -> Self {
        if let Some(held) = self.domains.get_mut(domain) {
            *held = Arc::new(bundle);
        }
        self
    }

    /// The snapshot behind a pointer that can be swapped.
    pub fn shared(self) -> SharedBundles {
        Arc::new(ArcSwap::from_pointee(self))
    }
}

impl TrustBundle {
    /// The roots of a bundle.
    ///
    /// # Errors
    /// [`AuthorityError::Malformed`] if the chain verifier cannot use one of them.
    pub fn of(bundle: &Bundle) -> Result<Self, AuthorityError> {
        let roots = bundle.authorities().iter().map(|authority| {
            let der = CertificateDer::from(authority.der());
            let anchor = webpki::anchor_from_trusted_cert(&der);
            Ok((authority.clone(), anchor.map_err(|_| AuthorityError::Malformed)?.to_owned()))
        });
        Ok(Self { roots: roots.collect::<Result<_, _>>()? })
    }

    /// The roots that are valid at `now`, at which chain building would not look, each with its expiry.
    pub(super) fn roots_at(&self, now: Stamp) -> (Vec<TrustAnchor<'static>>, Vec<Stamp>) {
        let valid = self.roots.iter().filter(|(authority, _)| authority.is_valid_at(now));
        valid.map(|(authority, anchor)| (anchor.clone(), authority.expires())).unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_12_our_own_trust_domain_and_doubled_ones_are_refused() {
        let own = TrustDomain::parse("leasehold.example").unwrap();
        let other = TrustDomain::parse("prod.example").unwrap();
        let empty = || TrustBundle::of(&Bundle::default()).unwrap();
        let refusal = TrustBundles::new(&own, [(own.clone(), empty())]).unwrap_err();
        assert_eq!(refusal, TrustBundlesError::Own(own.clone()));
        let twice = [(other.clone(), empty()), (other.clone(), empty())];
        let refusal = TrustBundles::new(&own, twice).unwrap_err();
        assert_eq!(refusal, TrustBundlesError::Twice(other));
    }
}
