//! Endpoints that answer, fall silent, lie, or are somebody else.

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::identity::trust_bundle::TrustDomainError;
use crate::identity::trust_store::TrustedDomain;
use crate::spiffe::authority::Authority;
use crate::testing::bundle_endpoint::TestBundleEndpoint;
use crate::testing::ca::{Issued, TestAuthority};
use crate::testing::clock::TestClock;
use crate::testing::issuer::Answer;

const SERVER: &str = "spiffe://prod.example/spire/server";
const SECOND: Span = Span::from_seconds(1);
const MINUTE: Span = Span::from_seconds(60);

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

/// `prod.example`, whose bundle comes from an endpoint, and `infra.example`, whose bundle comes from elsewhere.
struct Site {
    clock: Arc<TestClock>,
    root: TestAuthority,
    folder: TempDir,
    trust: Arc<TrustStore>,
}

impl Site {
    fn new() -> Self {
        let (clock, root) = (Arc::new(TestClock::default()), TestAuthority::root("root"));
        let trusted = [("prod.example", Some(MINUTE.times(60))), ("infra.example", None)];
        let trusted =
            trusted.map(|(name, max_age)| TrustedDomain { trust_domain: domain(name), max_age });
        let trust = TrustStore::new(&domain("leasehold.example"), trusted, clock.now()).unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("root.pem"), root.pem()).unwrap();
        Self { clock, root, folder, trust: Arc::new(trust) }
    }

    async fn endpoint(&self, shows: &Issued) -> TestBundleEndpoint {
        let endpoint = TestBundleEndpoint::start(shows, self.clock.clone()).await;
        endpoint.says(Answer::of(document(&self.root)));
        endpoint
    }

    fn svid(&self, id: &str) -> Issued {
        self.root.svid(id, self.clock.now(), self.clock.now().plus(MINUTE.times(600)))
    }

    fn web(&self) -> EndpointProfile {
        EndpointProfile::HttpsWeb { ca_file: Some(self.folder.path().join("root.pem")) }
    }

    fn spiffe(&self, id: &str, is_self_serving: bool) -> EndpointProfile {
        let bootstrap_file = is_self_serving.then(|| self.folder.path().join("root.pem"));
        EndpointProfile::HttpsSpiffe { spiffe_id: SpiffeId::parse(id).unwrap(), bootstrap_file }
    }

    fn config(&self, url: &str, profile: EndpointProfile) -> BundleEndpoint {
        BundleEndpoint {
            trust_domain: domain("prod.example"),
            url: url.to_owned(),
            profile,
            max_age: MINUTE.times(60),
            in_cluster: false,
            danger_loopback: true,
        }
    }

    fn fetching(&self, endpoint: &TestBundleEndpoint, profile: EndpointProfile) -> BundleEndpoints {
        let configured = vec![self.config(&endpoint.url, profile)];
        let clock: Arc<dyn Clock> = self.clock.clone();
        // Jitter 255 is the whole interval.
        BundleEndpoints::new(self.trust.clone(), configured, &clock, 255).unwrap()
    }

    async fn tick(&self, endpoints: &BundleEndpoints) {
        endpoints.refresh_if_due(self.clock.now()).await;
    }

    fn held(&self) -> Result<Arc<TrustBundle>, TrustDomainError> {
        let bundles = self.trust.shared().load_full();
        bundles.get(&domain("prod.example"), self.clock.now()).map(Arc::clone)
    }

    fn trusts(&self, root: &TestAuthority) -> bool {
        self.held().is_ok_and(|held| *held.source() == bundle(root))
    }
}

fn bundle(root: &TestAuthority) -> Bundle {
    Bundle::of_authorities(vec![Authority::check(root.der()).unwrap()])
}

fn document(root: &TestAuthority) -> String {
    bundle(root).to_document().to_string()
}

#[test]
fn the_interval_is_the_hint_within_bounds_and_two_failures_fit_into_the_age() {
    let day = MINUTE.times(24 * 60);
    for (hint, max_age, full) in [
        (None, day, MINUTE.times(5)),
        (Some(MINUTE.times(10)), day, MINUTE.times(10)),
        (Some(Span::ZERO), day, MIN_INTERVAL),
        (Some(Span::from_seconds(9)), day, MIN_INTERVAL),
        (Some(day.times(365)), day, MAX_INTERVAL),
        (None, MINUTE.times(3), MINUTE),
        (Some(Span::from_seconds(u64::MAX)), MINUTE.times(60), MINUTE.times(20)),
    ] {
        assert_eq!(interval(hint, max_age, 255), full, "{hint:?} {max_age:?}");
        assert_eq!(interval(hint, max_age, 0), Span::from_micros(full.micros() / 10 * 9));
    }
}

#[tokio::test]
async fn a_bundle_is_fetched_at_once_then_at_every_interval_to_the_second() {
    let site = Site::new();
    let endpoint = site.endpoint(&site.root.server()).await;
    let endpoints = site.fetching(&endpoint, site.web());
    assert_eq!(site.held().unwrap_err(), TrustDomainError::Missing(domain("prod.example")));
    site.tick(&endpoints).await;
    assert!(site.trusts(&site.root));
    site.clock.forward(Span::from_seconds(299));
    site.tick(&endpoints).await;
    assert_eq!(endpoint.fetches(), 1);
    let next = TestAuthority::root("next");
    endpoint.says(Answer::of(bundle(&next).with_sequence(1, 60).to_document()));
    site.clock.forward(SECOND);
    site.tick(&endpoints).await;
    assert_eq!(endpoint.fetches(), 2);
    assert_eq!(site.held().unwrap().source().authorities(), bundle(&next).authorities());
    // From now on the bundle hints at a minute.
    site.clock.forward(Span::from_seconds(59));
    site.tick(&endpoints).await;
    assert_eq!(endpoint.fetches(), 2);
    site.clock.forward(SECOND);
    site.tick(&endpoints).await;
    assert_eq!(endpoint.fetches(), 3);
}

#[tokio::test]
async fn class_22_a_failed_fetch_waits_for_the_next_interval_and_the_bundle_ends_at_its_age() {
    let site = Site::new();
    let endpoint = site.endpoint(&site.root.server()).await;
    let endpoints = site.fetching(&endpoint, site.web());
    site.tick(&endpoints).await;
    endpoint.says(Answer::status(503));
    site.clock.forward(MINUTE.times(5));
    for _ in 0..60 {
        site.tick(&endpoints).await;
        site.clock.forward(SECOND);
    }
    assert_eq!(endpoint.fetches(), 2, "one failure in a minute, not sixty");
    assert!(site.trusts(&site.root), "for as long as it may");
    site.clock.forward(Span::from_seconds(53 * 60 + 59));
    assert!(site.trusts(&site.root));
    site.clock.forward(SECOND);
    assert_eq!(site.held().unwrap_err(), TrustDomainError::Stale(domain("prod.example")));
    site.tick(&endpoints).await;
    assert_eq!(site.held().unwrap_err(), TrustDomainError::Stale(domain("prod.example")));
    endpoint.says(Answer::of(document(&site.root)));
    site.clock.forward(MINUTE.times(5));
    site.tick(&endpoints).await;
    assert!(site.trusts(&site.root));
}

#[tokio::test]
async fn class_22_what_is_no_bundle_is_not_taken_over() {
    let site = Site::new();
    let endpoint = site.endpoint(&site.root.server()).await;
    let endpoints = site.fetching(&endpoint, site.web());
    site.tick(&endpoints).await;
    let other = document(&TestAuthority::root("other"));
    let leaf = site.svid("spiffe://prod.example/a");
    let root = json!({"kty": "EC", "use": "x509-svid", "kid": "x", "x5c": ["AAAA"]});
    let answers = [
        Answer::status(503),
        Answer { status: 302, ..Answer::of(&other) }.with("location", &endpoint.url),
        Answer::of(&other).with("content-encoding", "gzip"),
        Answer::of("not json"),
        Answer::of("{}"),
        Answer::of(r#"{"keys":[],"keys":[]}"#),
        Answer::of(json!({"keys": [root]})),
        Answer::of(leaf.chain_pem()),
        Answer::of(site.root.pem()),
        Answer::of(json!({"trust_domains": {"prod.example": {"keys": []}}})),
        Answer::of(format!("{}{other}", " ".repeat(600 * 1024))),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        endpoint.says(answer);
        site.clock.forward(MINUTE.times(5));
        site.tick(&endpoints).await;
        assert_eq!(endpoint.fetches(), n + 2, "answer {n}");
        assert!(site.trusts(&site.root), "answer {n}");
    }
}

#[tokio::test]
async fn class_07_an_emptied_bundle_is_taken_over_and_trusts_nothing() {
    let site = Site::new();
    let endpoint = site.endpoint(&site.root.server()).await;
    let endpoints = site.fetching(&endpoint, site.web());
    site.tick(&endpoints).await;
    endpoint.says(Answer::of(r#"{"keys":[]}"#));
    site.clock.forward(MINUTE.times(5));
    site.tick(&endpoints).await;
    assert_eq!(*site.held().unwrap().source(), Bundle::default());
}

/// Keys that vouched before would be keys that their owner withdrew.
#[tokio::test]
async fn class_07_an_endpoint_that_withdrew_its_own_roots_is_not_known_by_them_any_more() {
    let site = Site::new();
    let endpoint = site.endpoint(&site.svid(SERVER)).await;
    let endpoints = site.fetching(&endpoint, site.spiffe(SERVER, true));
    site.tick(&endpoints).await;
    assert!(site.trusts(&site.root));
    endpoint.says(Answer::of(r#"{"keys":[]}"#));
    site.clock.forward(MINUTE.times(5));
    site.tick(&endpoints).await;
    endpoint.says(Answer::of(document(&site.root)));
    site.clock.forward(MINUTE.times(5));
    site.tick(&endpoints).await;
    assert_eq!(endpoint.fetches(), 2, "the former roots, and those to begin with, were believed");
    assert_eq!(*site.held().unwrap().source(), Bundle::default());
}

#[tokio::test]
async fn class_12_a_server_of_another_spiffe_id_or_of_the_web_is_not_asked() {
    let site = Site::new();
    let stranger = TestAuthority::root("stranger");
    let now = site.clock.now();
    for (who, shows, is_asked) in [
        ("itself", site.svid(SERVER), true),
        ("another workload", site.svid("spiffe://prod.example/agents/a"), false),
        ("below it", site.svid("spiffe://prod.example/spire/server/x"), false),
        ("a name of the web", site.root.server(), false),
        ("by another root", stranger.svid(SERVER, now, now.plus(MINUTE.times(600))), false),
        ("expired", site.root.svid(SERVER, now.minus(MINUTE), now.minus(SECOND)), false),
    ] {
        let endpoint = site.endpoint(&shows).await;
        site.tick(&site.fetching(&endpoint, site.spiffe(SERVER, true))).await;
        assert_eq!(endpoint.fetches() == 1, is_asked, "{who}");
    }
    // In the web's profile a SPIFFE ID is no name.
    let endpoint = site.endpoint(&site.svid(SERVER)).await;
    site.tick(&site.fetching(&endpoint, site.web())).await;
    assert_eq!(endpoint.fetches(), 0);
}

#[tokio::test]
async fn class_08_the_bundle_to_begin_with_makes_no_caller_trusted_and_is_replaced_by_what_is_fetched()
 {
    let site = Site::new();
    let next = TestAuthority::root("next");
    let endpoint = site.endpoint(&site.svid(SERVER)).await;
    endpoint.says(Answer::status(503));
    let endpoints = site.fetching(&endpoint, site.spiffe(SERVER, true));
    site.tick(&endpoints).await;
    assert_eq!(endpoint.fetches(), 1);
    assert_eq!(site.held().unwrap_err(), TrustDomainError::Missing(domain("prod.example")));
    endpoint.says(Answer::of(document(&next)));
    site.clock.forward(MINUTE.times(5));
    site.tick(&endpoints).await;
    assert!(site.trusts(&next));
    // The server still shows what led to the former root.
    site.clock.forward(MINUTE.times(5));
    site.tick(&endpoints).await;
    assert_eq!(endpoint.fetches(), 2);
}

#[tokio::test]
async fn an_endpoint_is_known_again_by_its_last_bundle_though_that_is_too_old_for_callers() {
    let site = Site::new();
    let endpoint = site.endpoint(&site.svid(SERVER)).await;
    let endpoints = site.fetching(&endpoint, site.spiffe(SERVER, true));
    site.tick(&endpoints).await;
    site.clock.forward(MINUTE.times(60));
    assert_eq!(site.held().unwrap_err(), TrustDomainError::Stale(domain("prod.example")));
    site.tick(&endpoints).await;
    assert!(site.trusts(&site.root));
}

#[tokio::test]
async fn class_12_an_endpoint_of_another_trust_domain_waits_for_that_domain_s_bundle_and_no_interval()
 {
    let site = Site::new();
    let infra = TestAuthority::root("infra");
    let (id, now) = ("spiffe://infra.example/server", site.clock.now());
    let endpoint = site.endpoint(&infra.svid(id, now, now.plus(MINUTE.times(600)))).await;
    let endpoints = site.fetching(&endpoint, site.spiffe(id, false));
    site.tick(&endpoints).await;
    assert_eq!(endpoint.fetches(), 0);
    site.trust.put(&domain("infra.example"), bundle(&infra), now).unwrap();
    site.clock.forward(SECOND);
    site.tick(&endpoints).await;
    assert!(site.trusts(&site.root));
    let refused = site.trust.shared().load_full();
    let infra_bundle = refused.get(&domain("infra.example"), now).unwrap();
    assert_eq!(*infra_bundle.source(), bundle(&infra), "nothing was merged");
}

#[tokio::test]
async fn class_22_addresses_and_urls_that_may_not_be_fetched_are_refused_at_the_start() {
    let site = Site::new();
    let clock: Arc<dyn Clock> = site.clock.clone();
    for (url, danger_loopback) in [
        ("http://prod.example/bundle", false),
        ("http://127.0.0.1:1/", true),
        ("https://me@prod.example/", false),
        ("https://169.254.169.254/latest", false),
        ("https://10.0.0.1/", false),
        ("https://127.0.0.1:1/", false),
        ("prod.example", false),
    ] {
        let config = BundleEndpoint { danger_loopback, ..site.config(url, site.web()) };
        let refused = BundleEndpoints::new(site.trust.clone(), vec![config], &clock, 0);
        assert!(matches!(refused, Err(EndpointError::Fetch(..))), "{url}");
    }
    let missing = EndpointProfile::HttpsSpiffe {
        spiffe_id: SpiffeId::parse(SERVER).unwrap(),
        bootstrap_file: Some("missing.pem".into()),
    };
    let config = site.config("https://127.0.0.1:1/", missing);
    let refused = BundleEndpoints::new(site.trust.clone(), vec![config], &clock, 0);
    assert!(matches!(refused, Err(EndpointError::Bootstrap(_))));
}
