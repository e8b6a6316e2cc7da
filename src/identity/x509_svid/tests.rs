//! Who vouches for whom, and until when.

use super::*;
use crate::broker::seams::Clock;
use crate::domain::time::Span;
use crate::testing::ca::{Defect, Issued, TestAuthority};
use crate::testing::clock::TestClock;
use crate::testing::trust::trusting;

const AGENT: &str = "spiffe://prod.example/agents/a";
const MINUTE: Span = Span::from_seconds(60);

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn untrusted(issued: &Issued, bundles: &TrustBundles, now: Stamp) -> webpki::Error {
    match verify(&issued.chain, bundles, now) {
        Err(X509SvidError::Untrusted(_, fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_svid_under_its_own_root_names_its_caller() {
    let (root, now) = (TestAuthority::root("root"), TestClock::default().now());
    let issued = root.svid(AGENT, now, now.plus(MINUTE));
    let caller = verify(&issued.chain, &trusting(&[("prod.example", &[&root])]), now).unwrap();
    assert_eq!(caller.principal().as_str(), AGENT);
    assert_eq!(caller.instance(), AGENT);
    assert_eq!(caller.expires(), now.plus(MINUTE).plus(Span::from_seconds(1)));
    let thumbprint = digest(&SHA256, issued.leaf());
    assert_eq!(caller.certificate_thumbprint().unwrap().as_slice(), thumbprint.as_ref());
}

#[test]
fn class_08_roots_of_one_trust_domain_do_not_vouch_for_another() {
    // One name for both roots, so that nothing but the choice of roots and the signature tells them apart.
    let (prod, test) = (TestAuthority::root("root"), TestAuthority::root("root"));
    let now = TestClock::default().now();
    let bundles = trusting(&[("prod.example", &[&prod]), ("test.example", &[&test])]);
    let swapped = test.svid(AGENT, now, now.plus(MINUTE));
    let invalid = webpki::Error::InvalidSignatureForPublicKey;
    assert_eq!(untrusted(&swapped, &bundles, now), invalid);
    let home = test.svid("spiffe://test.example/a", now, now.plus(MINUTE));
    assert!(verify(&home.chain, &bundles, now).is_ok());
}

#[test]
fn class_12_a_trust_domain_that_is_not_configured_is_refused() {
    let (root, now) = (TestAuthority::root("root"), TestClock::default().now());
    let bundles = trusting(&[("prod.example", &[&root])]);
    for name in ["other.example", "prod.example.", "leasehold.example"] {
        let issued = root.svid(&format!("spiffe://{name}/a"), now, now.plus(MINUTE));
        let refusal = TrustDomainError::Unknown(domain(name)).into();
        assert_eq!(verify(&issued.chain, &bundles, now).unwrap_err(), refusal);
    }
}

#[test]
fn an_empty_bundle_trusts_nothing() {
    let (root, now) = (TestAuthority::root("root"), TestClock::default().now());
    let issued = root.svid(AGENT, now, now.plus(MINUTE));
    let bundles = trusting(&[("prod.example", &[])]);
    assert_eq!(untrusted(&issued, &bundles, now), webpki::Error::UnknownIssuer);
}

#[test]
fn class_13_no_defective_leaf_names_a_caller() {
    let (root, now) = (TestAuthority::root("root"), TestClock::default().now());
    let bundles = trusting(&[("prod.example", &[&root])]);
    for defect in Defect::ALL {
        let issued = root.defective(defect, "prod.example", now);
        let refusal = verify(&issued.chain, &bundles, now).unwrap_err();
        assert!(matches!(refusal, X509SvidError::Leaf(_)), "{defect:?}: {refusal}");
    }
    assert_eq!(verify(&[], &bundles, now).unwrap_err(), X509SvidError::NoCertificate);
}

#[test]
fn class_15_a_chain_of_more_than_eight_certificates_is_refused_before_any_is_read() {
    let now = TestClock::default().now();
    let bundles = trusting(&[("prod.example", &[&TestAuthority::root("root")])]);
    let long = vec![CertificateDer::from(vec![0; 9]); MAX_CHAIN + 1];
    assert_eq!(verify(&long, &bundles, now).unwrap_err(), X509SvidError::ChainTooLong);
    let refusal = verify(&long[1..], &bundles, now).unwrap_err();
    assert_eq!(refusal, X509SvidError::Leaf(LeafError::Malformed));
}

#[test]
fn class_08_a_workload_does_not_vouch_for_another() {
    let (root, now) = (TestAuthority::root("root"), TestClock::default().now());
    let bundles = trusting(&[("prod.example", &[&root])]);
    let mallory = root.svid("spiffe://prod.example/mallory", now, now.plus(MINUTE));
    let forged = root.svid(AGENT, now, now.plus(MINUTE));
    let chain = [forged.leaf().clone(), mallory.leaf().clone()];
    let refusal = verify(&chain, &bundles, now).unwrap_err();
    assert_eq!(refusal, X509SvidError::Intermediate(AuthorityError::NotAuthority));
    let marked = root.intermediate_with_no_rev_avail();
    let below = marked.svid(AGENT, now, now.plus(MINUTE));
    let refusal = verify(&below.chain, &bundles, now).unwrap_err();
    assert_eq!(refusal, X509SvidError::Intermediate(AuthorityError::NoRevAvail));
}

#[test]
fn the_caller_expires_with_the_first_certificate_of_its_path() {
    let now = TestClock::default().now();
    let [soon, later] = [now.plus(MINUTE), now.plus(MINUTE.times(2))];
    let first_after = |stamp: Stamp| stamp.plus(Span::from_seconds(1));
    let expires = |root: &TestAuthority, issued: &Issued| {
        let bundles = trusting(&[("prod.example", &[root])]);
        verify(&issued.chain, &bundles, now).unwrap().expires()
    };
    let root = TestAuthority::root("root");
    let intermediate = root.intermediate("intermediate", now, soon);
    assert_eq!(expires(&root, &intermediate.svid(AGENT, now, later)), first_after(soon));
    let brief = TestAuthority::root_valid("brief", now, soon);
    assert_eq!(expires(&brief, &brief.svid(AGENT, now, later)), first_after(soon));
    // An unneeded certificate changes nothing.
    let mut chain = root.svid(AGENT, now, later).chain;
    chain.push(intermediate.der().clone());
    let bundles = trusting(&[("prod.example", &[&root])]);
    assert_eq!(verify(&chain, &bundles, now).unwrap().expires(), first_after(later));
}

#[test]
fn expired_roots_and_intermediates_vouch_for_nobody() {
    let now = TestClock::default().now();
    let past = now.minus(MINUTE);
    let root = TestAuthority::root_valid("root", past.minus(MINUTE), past);
    let issued = root.svid(AGENT, now, now.plus(MINUTE));
    let bundles = trusting(&[("prod.example", &[&root])]);
    assert_eq!(untrusted(&issued, &bundles, now), webpki::Error::UnknownIssuer);
    let root = TestAuthority::root("root");
    let issued = root.intermediate("old", past.minus(MINUTE), past).svid(AGENT, past, now);
    let bundles = trusting(&[("prod.example", &[&root])]);
    assert!(matches!(untrusted(&issued, &bundles, now), webpki::Error::CertExpired { .. }));
}

/// The chain verifier does not compare URIs: what it cannot judge it must not overlook (RUSTSEC-2026-0098).
#[test]
fn class_13_a_chain_with_a_uri_name_constraint_is_refused_whatever_it_allows() {
    let (root, now) = (TestAuthority::root("root"), TestClock::default().now());
    let bundles = trusting(&[("prod.example", &[&root])]);
    for host in ["prod.example", "other.example"] {
        let constrained = root.intermediate_for_uris_of(host);
        let issued = constrained.svid(AGENT, now, now.plus(MINUTE));
        assert_eq!(untrusted(&issued, &bundles, now), webpki::Error::NameConstraintViolation);
    }
}

#[test]
fn class_08_an_authority_is_no_caller_and_its_own_chain_is_none() {
    let (root, now) = (TestAuthority::root("root"), TestClock::default().now());
    let bundles = trusting(&[("prod.example", &[&root])]);
    let intermediate = root.intermediate("intermediate", now, now.plus(MINUTE));
    for authority in [&root, &intermediate] {
        let refusal = verify(std::slice::from_ref(authority.der()), &bundles, now).unwrap_err();
        assert_eq!(refusal, X509SvidError::Leaf(LeafError::Authority));
    }
}
