//! What is trusted when sources speak, repeat themselves, fall silent, or say nonsense.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::broker::seams::Clock as _;
use crate::identity::x509_svid::{self, X509SvidError};
use crate::jose::{KeySetError, SigningKey};
use crate::spiffe::authority::Authority;
use crate::testing::ca::TestAuthority;
use crate::testing::clock::TestClock;

const MINUTE: Span = Span::from_seconds(60);

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn start() -> Stamp {
    TestClock::default().now()
}

/// Trusts `prod.example` with a bound of an hour, and `lab.example` without one.
fn store() -> TrustStore {
    let trusted = [("prod.example", Some(MINUTE.times(60))), ("lab.example", None)];
    let trusted =
        trusted.map(|(name, max_age)| TrustedDomain { trust_domain: domain(name), max_age });
    TrustStore::new(&domain("leasehold.example"), trusted, start()).unwrap()
}

fn bundle(root: &TestAuthority) -> Bundle {
    Bundle::of_authorities(vec![Authority::check(root.der()).unwrap()])
}

fn refusal(store: &TrustStore, name: &str, now: Stamp) -> Option<TrustDomainError> {
    store.shared().load().get(&domain(name), now).err()
}

#[test]
fn class_12_our_own_trust_domain_and_doubled_ones_are_refused() {
    let trusted = |name| TrustedDomain { trust_domain: domain(name), max_age: None };
    let own = domain("leasehold.example");
    let refusal = TrustStore::new(&own, [trusted("leasehold.example")], start()).unwrap_err();
    assert_eq!(refusal, TrustBundlesError::Own(own.clone()));
    let twice = [trusted("prod.example"), trusted("prod.example")];
    let refusal = TrustStore::new(&own, twice, start()).unwrap_err();
    assert_eq!(refusal, TrustBundlesError::Twice(domain("prod.example")));
}

#[test]
fn a_domain_trusts_nothing_until_its_source_has_spoken() {
    let store = store();
    let prod = domain("prod.example");
    let missing = Some(TrustDomainError::Missing(prod.clone()));
    assert_eq!(refusal(&store, "prod.example", start()), missing);
    store.confirm(&prod, start());
    assert_eq!(refusal(&store, "prod.example", start()), missing, "confirmed nothing");
    assert_eq!(store.put(&prod, Bundle::default(), start()), Ok(true));
    assert_eq!(refusal(&store, "prod.example", start()), None);
    let lab = Some(TrustDomainError::Missing(domain("lab.example")));
    assert_eq!(refusal(&store, "lab.example", start()), lab, "of another domain");
    let unknown = TrustDomainError::Unknown(domain("other.example"));
    let put = store.put(&domain("other.example"), Bundle::default(), start());
    assert_eq!(put, Err(PutError::Domain(unknown.clone())));
    assert_eq!(refusal(&store, "other.example", start()), Some(unknown));
}

#[test]
fn class_07_a_bundle_that_nobody_confirms_ends_by_itself_at_its_bound_to_the_microsecond() {
    let (store, root, prod) = (store(), TestAuthority::root("root"), domain("prod.example"));
    let chain =
        root.svid("spiffe://prod.example/a", start(), start().plus(MINUTE.times(180))).chain;
    let verify = |now| x509_svid::verify(&chain, &store.shared().load(), now);
    store.put(&prod, bundle(&root), start()).unwrap();
    let bound = start().plus(MINUTE.times(60));
    verify(bound.minus(Span::from_micros(1))).unwrap();
    let stale = X509SvidError::TrustDomain(TrustDomainError::Stale(prod.clone()));
    assert!(stale.is_retriable());
    assert_eq!(verify(bound).unwrap_err(), stale);
    // The source says that it is still so, or gives the same again: an hour more, from when it was asked.
    store.confirm(&prod, start().plus(MINUTE));
    verify(bound).unwrap();
    assert_eq!(verify(bound.plus(MINUTE)).unwrap_err(), stale);
    assert_eq!(store.put(&prod, bundle(&root), start().plus(MINUTE.times(2))), Ok(false));
    verify(bound.plus(MINUTE)).unwrap();
    // An answer that was overtaken makes it no older.
    store.confirm(&prod, start());
    verify(bound.plus(MINUTE)).unwrap();
    assert_eq!(verify(bound.plus(MINUTE.times(2))).unwrap_err(), stale);
}

#[test]
fn a_bundle_without_bound_does_not_grow_old() {
    let store = store();
    store.put(&domain("lab.example"), Bundle::default(), start()).unwrap();
    assert_eq!(refusal(&store, "lab.example", start().plus(MINUTE.times(10_000_000))), None);
}

#[test]
fn class_07_a_new_bundle_replaces_the_whole_former_one() {
    let (store, prod) = (store(), domain("prod.example"));
    let [one, two] = ["one", "two"].map(TestAuthority::root);
    let key = SigningKey::generate().unwrap().0;
    let jwk = key.verifying_key().to_jwk();
    let held = || Arc::clone(store.shared().load().get(&prod, start()).unwrap());
    store.put(&prod, bundle(&one).with_jwt_keys(vec![jwk]), start()).unwrap();
    let first = held();
    assert!(first.jwt_keys().get(key.verifying_key().kid()).is_some());
    store.confirm(&prod, start().plus(MINUTE));
    assert!(Arc::ptr_eq(&first, &held()), "unchanged");
    store.put(&prod, bundle(&two), start()).unwrap();
    assert_eq!(*held().source(), bundle(&two));
    assert_eq!(held().jwt_keys().iter().count(), 0);
    store.put(&prod, Bundle::default(), start()).unwrap();
    assert_eq!(held().roots_at(start()).0.len(), 0);
}

#[test]
fn a_bundle_of_which_nothing_can_be_used_leaves_the_former_one() {
    let (store, prod) = (store(), domain("prod.example"));
    let root = TestAuthority::root("root");
    store.put(&prod, bundle(&root), start()).unwrap();
    let jwks = (0..=crate::jose::MAX_KEYS).map(|n| {
        let mut jwk = SigningKey::generate().unwrap().0.verifying_key().to_jwk();
        jwk.insert("kid".to_owned(), json!(n.to_string()));
        jwk
    });
    let many = bundle(&root).with_jwt_keys(jwks.collect());
    let refused = PutError::Bundle(TrustBundleError::JwtKeys(KeySetError::TooMany));
    assert_eq!(store.put(&prod, many, start().plus(MINUTE)), Err(refused));
    let bundles = store.shared().load_full();
    assert_eq!(*bundles.get(&prod, start()).unwrap().source(), bundle(&root));
    let late = start().plus(MINUTE.times(60));
    assert_eq!(refusal(&store, "prod.example", late), Some(TrustDomainError::Stale(prod)));
}

#[test]
fn class_11_jwt_keys_that_nothing_may_be_verified_with_are_left_out_and_the_rest_is_used() {
    let (store, prod) = (store(), domain("prod.example"));
    let good = SigningKey::generate().unwrap().0;
    let changed = |member: &str, value: Value| {
        let mut jwk = SigningKey::generate().unwrap().0.verifying_key().to_jwk();
        jwk.insert(member.to_owned(), value);
        jwk
    };
    let jwks = vec![
        good.verifying_key().to_jwk(),
        changed("d", json!("AAAA")),
        changed("crv", json!("P-521")),
        changed("alg", json!("HS256")),
        changed("x", json!("AAAA")),
    ];
    store.put(&prod, Bundle::default().with_jwt_keys(jwks), start()).unwrap();
    let held = Arc::clone(store.shared().load().get(&prod, start()).unwrap());
    let kids: Vec<_> = held.jwt_keys().iter().map(|key| key.kid().to_owned()).collect();
    assert_eq!(kids, [good.verifying_key().kid()]);
    assert_eq!(held.refused().len(), 4);
}

#[test]
fn ages_count_from_the_last_confirmation_and_before_it_from_the_start() {
    let store = store();
    let later = start().plus(MINUTE.times(3));
    store.put(&domain("prod.example"), Bundle::default(), start().plus(MINUTE)).unwrap();
    let ages = store.ages(later);
    let expected = [("lab.example", 3), ("prod.example", 2)];
    assert_eq!(ages, expected.map(|(name, minutes)| (domain(name), MINUTE.times(minutes))));
    let metrics = metrics::install().unwrap();
    store.look(later);
    let line = "leasehold_trust_bundle_age_seconds{trust_domain=\"lab.example\"} 180";
    assert!(metrics.render().contains(line), "{}", metrics.render());
    metrics::trust_bundle_age("lab.example", Duration::ZERO);
}
