//! Documents that are refused, fetches that are counted, and keys that end with their age.

use serde_json::{Value, json};

use super::*;
use crate::fetch::Reach;
use crate::jose::SigningKey;
use crate::testing::ca::TestAuthority;
use crate::testing::issuer::{Answer, TestIssuer};

const NOW: Stamp = Stamp::ZERO;

fn at(seconds: u64) -> Stamp {
    Stamp::from_seconds(seconds)
}

fn cache(issuer: &TestIssuer) -> JwksCache {
    let fetcher = Fetcher::new(Reach::Loopback, None).unwrap();
    JwksCache::new(issuer.url.clone(), Origin::Discovery(fetcher), 0)
}

/// Whether a new cache takes the issuer's documents.
async fn accepts(issuer: &TestIssuer) -> bool {
    match cache(issuer).keys_with(issuer.key.kid(), NOW).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error, JwksError::Unavailable);
            false
        }
    }
}

fn file_cache(path: &Path) -> JwksCache {
    JwksCache::new("https://issuer.example".into(), Origin::File(path.to_owned()), 0)
}

fn new_key() -> SigningKey {
    SigningKey::generate().unwrap().0
}

fn document(keys: &[&SigningKey]) -> Value {
    KeySet::of(keys.iter().map(|key| key.verifying_key().clone())).unwrap().to_document()
}

#[tokio::test]
async fn class_22_a_discovery_document_is_for_exactly_its_issuer() {
    let issuer = TestIssuer::start().await;
    assert!(accepts(&issuer).await);
    let upper = issuer.url.replace("http", "HTTP");
    for other in [
        json!(format!("{}/", issuer.url)),
        json!(upper),
        json!("https://evil.example"),
        json!(null),
    ] {
        let mut discovery = issuer.discovery();
        discovery["issuer"] = other;
        issuer.set_discovery(Answer::of(discovery));
        assert!(!accepts(&issuer).await);
    }
    assert_eq!(issuer.fetches(), 1, "the keys of another issuer were fetched");
}

#[tokio::test]
async fn class_22_a_malformed_discovery_document_is_refused() {
    let issuer = TestIssuer::start().await;
    let good = issuer.discovery().to_string();
    let twice = good.replacen('{', r#"{"jwks_uri":"https://evil.example/jwks","#, 1);
    for document in
        [twice, format!("[{good}]"), json!({"issuer": issuer.url}).to_string(), String::new()]
    {
        issuer.set_discovery(Answer::of(document));
        assert!(!accepts(&issuer).await);
    }
}

#[tokio::test]
async fn class_22_a_jwks_uri_that_leads_elsewhere_is_not_fetched() {
    let issuer = TestIssuer::start().await;
    for uri in
        ["http://169.254.169.254/latest", "http://10.0.0.1/jwks", "file:///etc/passwd", "/jwks"]
    {
        let mut discovery = issuer.discovery();
        discovery["jwks_uri"] = json!(uri);
        issuer.set_discovery(Answer::of(discovery.clone()));
        let fetcher = Fetcher::new(Reach::Loopback, None).unwrap();
        let refused = fetcher.get(uri).await.unwrap_err();
        assert!(matches!(refused, FetchError::Url(_) | FetchError::Address(_)), "{refused}");
        assert!(!accepts(&issuer).await, "{uri}");
    }
}

#[tokio::test]
async fn class_22_redirects_are_not_followed() {
    let issuer = TestIssuer::start().await;
    issuer.set("/moved", Answer::of(document(&[&issuer.key])));
    for target in [format!("{}/moved", issuer.url), "http://169.254.169.254/latest".into()] {
        issuer.set_jwks(Answer::status(302).with("location", &target));
        assert!(!accepts(&issuer).await);
    }
    assert_eq!(issuer.fetches_of("/moved"), 0);
}

#[tokio::test]
async fn class_22_documents_of_another_status_than_200_are_refused() {
    let issuer = TestIssuer::start().await;
    for status in [203, 206, 401, 404, 500] {
        let good = Answer::of(document(&[&issuer.key]));
        issuer.set_jwks(Answer { status, ..good });
        assert!(!accepts(&issuer).await, "{status}");
    }
}

#[tokio::test]
async fn class_22_a_name_that_resolves_to_this_network_is_not_connected_to() {
    let issuer = TestIssuer::start().await;
    let url = issuer.url.replace("http://127.0.0.1", "https://localhost");
    for reach in [Reach::Public, Reach::InCluster] {
        let root = TestAuthority::root("any");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), root.pem()).unwrap();
        let fetcher = Fetcher::new(reach, Some(file.path())).unwrap();
        let refused = fetcher.get(&format!("{url}/jwks")).await.unwrap_err().to_string();
        assert!(refused.contains("address inside this network"), "{refused}");
    }
}

#[tokio::test]
async fn class_22_long_and_compressed_documents_are_refused() {
    let issuer = TestIssuer::start().await;
    let good = document(&[&issuer.key]);
    let mut long = good.clone();
    long["pad"] = json!("x".repeat(MAX_SET_BYTES));
    let fetcher = Fetcher::new(Reach::Loopback, None).unwrap();
    issuer.set_jwks(Answer::of(long));
    let refused = fetcher.get(&format!("{}/jwks", issuer.url)).await.unwrap_err();
    assert!(matches!(refused, FetchError::TooLarge(_)), "{refused}");
    assert!(!accepts(&issuer).await);
    issuer.set_jwks(Answer::of(good.clone()).with("content-encoding", "gzip"));
    assert!(!accepts(&issuer).await);
    issuer.set_jwks(Answer::of(good));
    assert!(accepts(&issuer).await);
}

#[tokio::test]
async fn class_22_ten_thousand_keys_are_refused() {
    let issuer = TestIssuer::start().await;
    let mut keys = document(&[&issuer.key]);
    keys["keys"].as_array_mut().unwrap().extend(vec![json!({"kty": "x"}); 10_000]);
    issuer.set_jwks(Answer::of(keys));
    assert!(!accepts(&issuer).await);
}

#[tokio::test]
async fn class_22_a_flood_of_unknown_kids_causes_one_fetch_per_interval() {
    let issuer = TestIssuer::start().await;
    let cache = cache(&issuer);
    cache.keys_with(issuer.key.kid(), at(0)).await.unwrap();
    let flood = async |seconds: u64, name: &str| {
        for i in 0..50 {
            let refused = cache.keys_with(&format!("{name}{i}"), at(seconds)).await.unwrap_err();
            assert_eq!(refused, JwksError::UnknownKid);
        }
        issuer.fetches()
    };
    assert_eq!(flood(9, "a").await, 1);
    assert_eq!(flood(10, "b").await, 2);
    assert_eq!(flood(19, "c").await, 2);
    assert_eq!(flood(20, "d").await, 3);
    // The two that fetches were made for cause no other for a while.
    for kid in ["b0", "d0"] {
        assert_eq!(cache.keys_with(kid, at(31)).await.unwrap_err(), JwksError::UnknownKid);
    }
    assert_eq!(issuer.fetches(), 3);
    assert!(cache.keys_with(issuer.key.kid(), at(31)).await.is_ok());
}

#[tokio::test]
async fn class_22_only_kids_that_a_fetch_did_not_bring_are_remembered() {
    let issuer = TestIssuer::start().await;
    let cache = cache(&issuer);
    for i in 0..300 {
        let _ = cache.keys_with(&format!("k{i}"), at(11 * i)).await;
    }
    assert!(cache.state.lock().unknown.len() <= 30, "those of five minutes");
    let full = &mut *cache.state.lock();
    for i in 0..2 * MAX_UNKNOWN_KIDS {
        full.remember_unknown(&format!("m{i}"), at(4000));
    }
    assert_eq!(full.unknown.len(), MAX_UNKNOWN_KIDS);
}

#[tokio::test]
async fn a_new_key_is_found_by_asking() {
    let issuer = TestIssuer::start().await;
    let cache = cache(&issuer);
    cache.keys_with(issuer.key.kid(), at(0)).await.unwrap();
    let next = new_key();
    issuer.publish(&[&issuer.key, &next]);
    assert!(cache.keys_with(next.kid(), at(9)).await.is_err());
    assert!(cache.keys_with(next.kid(), at(10)).await.is_ok());
}

#[tokio::test]
async fn class_22_calls_at_one_time_share_one_fetch() {
    let issuer = TestIssuer::start().await;
    let cache = cache(&issuer);
    let calls = (0..20).map(|_| cache.keys_with(issuer.key.kid(), at(100)));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(issuer.fetches(), 1);
    issuer.set_discovery(Answer::status(500));
    let before = issuer.fetches_of("/.well-known/openid-configuration");
    let calls = (0..20).map(|_| cache.keys_with(issuer.key.kid(), at(900)));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(JwksError::Unavailable))));
    assert_eq!(issuer.fetches_of("/.well-known/openid-configuration"), before + 1);
}

#[tokio::test]
async fn class_22_a_key_that_was_removed_stops_verifying_within_its_age() {
    let issuer = TestIssuer::start().await;
    let cache = cache(&issuer);
    let kid = issuer.key.kid();
    cache.keys_with(kid, at(0)).await.unwrap();
    issuer.publish(&[&new_key()]);
    assert!(cache.keys_with(kid, at(299)).await.is_ok());
    assert_eq!(cache.keys_with(kid, at(300)).await.unwrap_err(), JwksError::UnknownKid);
}

#[tokio::test]
async fn class_22_keys_are_used_while_refreshes_fail_but_not_beyond_their_age() {
    let issuer = TestIssuer::start().await;
    let cache = cache(&issuer);
    let kid = issuer.key.kid();
    cache.refresh_if_due(at(0)).await;
    issuer.set_jwks(Answer::status(503));
    cache.refresh_if_due(at(224)).await;
    assert_eq!(issuer.fetches(), 1, "not due before 75 %");
    for (seconds, fetches) in [(225, 2), (254, 2), (255, 3), (285, 4)] {
        cache.refresh_if_due(at(seconds)).await;
        assert_eq!(issuer.fetches(), fetches, "at {seconds} s");
        assert!(cache.keys_with(kid, at(seconds)).await.is_ok());
    }
    assert!(cache.keys_with(kid, at(299)).await.is_ok());
    assert_eq!(cache.keys_with(kid, at(300)).await.unwrap_err(), JwksError::Unavailable);
    issuer.publish(&[&issuer.key]);
    cache.refresh_if_due(at(330)).await;
    assert!(cache.keys_with(kid, at(330)).await.is_ok());
    assert_eq!(cache.age(at(333)), Some(Span::from_seconds(3)));
}

#[tokio::test]
async fn an_empty_set_verifies_nothing() {
    let issuer = TestIssuer::start().await;
    let cache = cache(&issuer);
    let kid = issuer.key.kid();
    cache.keys_with(kid, at(0)).await.unwrap();
    issuer.publish(&[]);
    cache.refresh_if_due(at(225)).await;
    assert_eq!(cache.keys_with(kid, at(225)).await.unwrap_err(), JwksError::UnknownKid);
}

#[test]
fn the_age_that_a_server_names_is_bounded() {
    let used = |seconds: Option<u64>| usable_for(seconds.map(Span::from_seconds)).seconds();
    for (named, taken) in [
        (Some(0), 300),
        (Some(299), 300),
        (Some(3600), 3600),
        (Some(u64::MAX), 86_400),
        (None, 900),
    ] {
        assert_eq!(used(named), taken);
    }
}

#[test]
fn refreshes_are_spread_over_a_tenth_of_the_age_before_it_ends() {
    let due = |jitter| refresh_at(at(1000), Span::from_seconds(1000), jitter).seconds() - 1000;
    assert_eq!((due(0), due(255)), (750, 850));
    assert!((0..255).all(|jitter| due(jitter) <= due(jitter + 1)));
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let [one, two] = [new_key(), new_key()];
    let cache = file_cache(file.path());
    std::fs::write(file.path(), document(&[&one]).to_string()).unwrap();
    assert!(cache.keys_with(one.kid(), at(0)).await.is_ok());
    std::fs::write(file.path(), document(&[&two]).to_string()).unwrap();
    cache.refresh_if_due(at(4)).await;
    assert!(cache.keys_with(one.kid(), at(4)).await.is_ok());
    cache.refresh_if_due(at(5)).await;
    assert!(cache.keys_with(two.kid(), at(5)).await.is_ok());
    assert_eq!(cache.keys_with(one.kid(), at(5)).await.unwrap_err(), JwksError::UnknownKid);
}

#[tokio::test]
async fn a_file_that_is_gone_or_malformed_verifies_nothing_after_five_minutes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let key = new_key();
    let good = document(&[&key]).to_string();
    for bad in [
        None,
        Some(String::new()),
        Some(good.replace("EC", "oct")),
        Some(" ".repeat(MAX_SET_BYTES + 1)),
    ] {
        std::fs::write(&path, &good).unwrap();
        let cache = file_cache(&path);
        cache.refresh_if_due(at(0)).await;
        match bad {
            None => std::fs::remove_file(&path).unwrap(),
            Some(text) => std::fs::write(&path, text).unwrap(),
        }
        cache.refresh_if_due(at(5)).await;
        assert!(cache.keys_with(key.kid(), at(299)).await.is_ok());
        assert_eq!(cache.keys_with(key.kid(), at(300)).await.unwrap_err(), JwksError::Unavailable);
    }
}
