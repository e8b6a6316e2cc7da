//! Trust bundles of test authorities.

use super::ca::TestAuthority;
use crate::identity::trust_bundle::{TrustBundle, TrustBundles};
use crate::spiffe::authority::Authority;
use crate::spiffe::bundle::Bundle;
use crate::spiffe::id::TrustDomain;

/// The bundle of some roots.
pub fn bundle(roots: &[&TestAuthority]) -> TrustBundle {
    let authorities = roots.iter().map(|root| Authority::check(root.der()).unwrap());
    TrustBundle::of(Bundle::of_authorities(authorities.collect())).unwrap()
}

/// What a broker of trust domain `leasehold.example` trusts: these domains with these roots.
pub fn trusting(domains: &[(&str, &[&TestAuthority])]) -> TrustBundles {
    let bundles =
        domains.iter().map(|(name, roots)| (TrustDomain::parse(name).unwrap(), bundle(roots)));
    TrustBundles::new(&TrustDomain::parse("leasehold.example").unwrap(), bundles).unwrap()
}
