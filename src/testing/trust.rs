//! Trust bundles of test authorities.

use super::ca::TestAuthority;
use crate::domain::time::Span;
use crate::identity::jwt_svid::JwtSvidVerifier;
use crate::identity::trust_bundle::{TrustBundle, TrustBundles};
use crate::jose::SigningKey;
use crate::spiffe::authority::Authority;
use crate::spiffe::bundle::Bundle;
use crate::spiffe::id::TrustDomain;

/// The bundle of some roots and some keys of JWT-SVIDs, as its source gives it.
pub fn source_of(roots: &[&TestAuthority], keys: &[&SigningKey]) -> Bundle {
    let authorities = roots.iter().map(|root| Authority::check(root.der()).unwrap());
    let jwks = keys.iter().map(|key| key.verifying_key().to_jwk());
    Bundle::of_authorities(authorities.collect()).with_jwt_keys(jwks.collect())
}

/// The same, ready for use.
pub fn bundle_of(roots: &[&TestAuthority], keys: &[&SigningKey]) -> TrustBundle {
    TrustBundle::of(source_of(roots, keys)).unwrap()
}

/// The bundle of some roots.
pub fn bundle(roots: &[&TestAuthority]) -> TrustBundle {
    bundle_of(roots, &[])
}

/// What a broker of trust domain `leasehold.example` at `https://leasehold.example` takes for a JWT-SVID.
pub fn jwt_svids() -> JwtSvidVerifier {
    JwtSvidVerifier {
        own_trust_domain: TrustDomain::parse("leasehold.example").unwrap(),
        own_issuers: ["", "/spiffe", "/events"]
            .map(|path| format!("https://leasehold.example{path}"))
            .into(),
        audience: "https://leasehold.example".to_owned(),
        max_lifetime: Span::from_seconds(3_600),
    }
}

/// What a broker of trust domain `leasehold.example` trusts: these domains with these roots.
pub fn trusting(domains: &[(&str, &[&TestAuthority])]) -> TrustBundles {
    let bundles =
        domains.iter().map(|(name, roots)| (TrustDomain::parse(name).unwrap(), bundle(roots)));
    TrustBundles::new(&TrustDomain::parse("leasehold.example").unwrap(), bundles).unwrap()
}
