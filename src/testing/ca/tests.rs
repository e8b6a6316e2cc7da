//! Every defect is what its name says: the rules of a leaf refuse it, each by its own error.

use super::*;
use crate::broker::seams::Clock;
use crate::domain::time::Span;
use crate::spiffe::authority::{Authority, AuthorityError};
use crate::spiffe::id::{SpiffeIdError, TrustDomainError};
use crate::spiffe::leaf::{Leaf, LeafError};
use crate::testing::clock::TestClock;

const DOMAIN: &str = "prod.example";
const AGENT: &str = "spiffe://prod.example/agents/a";

fn refusal(defect: Defect) -> LeafError {
    use LeafError::*;
    match defect {
        Defect::NoUriSan | Defect::SpiffeIdAsCommonName => NoUriSan,
        Defect::TwoUriSans | Defect::HttpUriBesideSpiffeId => SeveralUriSans,
        Defect::HttpUriSan => SpiffeId(SpiffeIdError::Scheme),
        Defect::RootPath => SpiffeId(SpiffeIdError::RootPath),
        Defect::UpperCaseTrustDomain | Defect::Port => {
            SpiffeId(SpiffeIdError::TrustDomain(TrustDomainError))
        }
        Defect::DotSegment => SpiffeId(SpiffeIdError::DotSegment),
        Defect::EmptySegment => SpiffeId(SpiffeIdError::EmptySegment),
        Defect::NulInPath => SpiffeId(SpiffeIdError::Character),
        Defect::TooLongId => SpiffeId(SpiffeIdError::TooLong),
        Defect::CertificateAuthority => Authority,
        Defect::NoRevAvailOnAuthority => NoRevAvailOnAuthority,
        Defect::BrokenBasicConstraints
        | Defect::BrokenUriBesideSpiffeId
        | Defect::TwoSanExtensions => Malformed,
        Defect::NoKeyUsage => KeyUsageMissing,
        Defect::KeyUsageNotCritical => KeyUsageNotCritical,
        Defect::NoDigitalSignature => DigitalSignatureMissing,
        Defect::KeyCertSign => SignsCertificates,
        Defect::CrlSign => SignsRevocationLists,
        Defect::ClientAuthOnly | Defect::ServerAuthOnly | Defect::EmptyExtendedKeyUsage => {
            ExtendedKeyUsage
        }
        Defect::UnknownCriticalExtension => UnknownCriticalExtension,
        Defect::SanNotCritical => SanNotCritical,
        Defect::Expired => Expired,
        Defect::NotYetValid => NotYetValid,
    }
}

#[test]
fn class_13_every_defective_leaf_is_refused_by_its_own_rule() {
    let (root, now) = (TestAuthority::root(DOMAIN), TestClock::default().now());
    for defect in Defect::ALL {
        let issued = root.defective(defect, DOMAIN, now);
        assert_eq!(Leaf::check(issued.leaf(), now), Err(refusal(defect)), "{defect:?}");
    }
}

/// Every byte in a certificate's URI, behind the trust domain and in the path (go-spiffe's table of characters).
#[test]
fn class_13_of_256_bytes_a_certificate_s_uri_takes_those_of_a_spiffe_id() {
    let (root, now) = (TestAuthority::root(DOMAIN), TestClock::default().now());
    let accepts = |before: &[u8], byte: u8, after: &[u8]| {
        let issued = root.svid_of_bytes(&[before, &[byte], after].concat(), now);
        Leaf::check(issued.leaf(), now).is_ok()
    };
    for byte in 0..=u8::MAX {
        let in_domain = matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        let in_path = in_domain || byte.is_ascii_uppercase();
        // A slash ends the trust domain, or a segment.
        let in_domain = in_domain || byte == b'/';
        assert_eq!(accepts(b"spiffe://prod", byte, b"x/a"), in_domain, "{byte:#x}");
        assert_eq!(accepts(b"spiffe://prod/a", byte, b"b"), in_path || byte == b'/', "{byte:#x}");
    }
}

#[test]
fn a_good_leaf_names_its_workload() {
    let (root, now) = (TestAuthority::root(DOMAIN), TestClock::default().now());
    let issued = root.svid(AGENT, now, now);
    let leaf = Leaf::check(issued.leaf(), now).unwrap();
    assert_eq!(leaf.id().as_str(), AGENT);
    assert_eq!(leaf.expires(), now.plus(Span::from_seconds(1)));
}

#[test]
fn class_26_a_leaf_is_valid_from_not_before_through_the_last_microsecond_of_not_after() {
    let (root, now) = (TestAuthority::root(DOMAIN), TestClock::default().now());
    let end = now.plus(Span::from_seconds(60));
    let issued = root.svid(AGENT, now, end);
    let at = |instant| Leaf::check(issued.leaf(), instant).map(|_| ());
    assert_eq!(at(now.minus(Span::from_micros(1))), Err(LeafError::NotYetValid));
    assert_eq!(at(now), Ok(()));
    assert_eq!(at(end.plus(Span::from_micros(999_999))), Ok(()));
    assert_eq!(at(end.plus(Span::from_seconds(1))), Err(LeafError::Expired));
}

#[test]
fn class_15_no_truncation_and_no_flipped_byte_makes_the_reader_panic() {
    let (root, now) = (TestAuthority::root(DOMAIN), TestClock::default().now());
    let der = root.svid(AGENT, now, now).leaf().to_vec();
    for length in 0..der.len() {
        assert_eq!(Leaf::check(&der[..length], now), Err(LeafError::Malformed));
    }
    for position in 0..der.len() {
        let mut spoilt = der.clone();
        spoilt[position] ^= 0xff;
        // Signatures are the chain's business: a flip may leave a leaf that keeps every rule.
        let _ = Leaf::check(&spoilt, now);
    }
    let trailing = [der.as_slice(), &[0]].concat();
    assert_eq!(Leaf::check(&trailing, now), Err(LeafError::Malformed));
}

#[test]
fn class_08_a_leaf_is_no_authority() {
    let (root, now) = (TestAuthority::root(DOMAIN), TestClock::default().now());
    let leaf = root.svid(AGENT, now, now);
    assert_eq!(Authority::check(leaf.leaf()), Err(AuthorityError::NotAuthority));
    assert_eq!(Authority::check(b"junk"), Err(AuthorityError::Malformed));
    let marked = root.intermediate_with_no_rev_avail();
    assert_eq!(Authority::check(marked.der()), Err(AuthorityError::NoRevAvail));
    // `cA` is true and key usage is a leaf's.
    let defect = root.defective(Defect::CertificateAuthority, DOMAIN, now);
    assert_eq!(Authority::check(defect.leaf()), Err(AuthorityError::CertSignMissing));
    assert!(Authority::check(root.der()).unwrap().is_valid_at(now));
}

#[test]
fn an_authority_is_valid_within_its_time_only() {
    let now = TestClock::default().now();
    let minute = Span::from_seconds(60);
    let root = TestAuthority::root_valid(DOMAIN, now, now.plus(minute));
    let authority = Authority::check(root.der()).unwrap();
    assert!(!authority.is_valid_at(now.minus(minute)));
    assert!(authority.is_valid_at(now));
    assert!(!authority.is_valid_at(authority.expires()));
}
