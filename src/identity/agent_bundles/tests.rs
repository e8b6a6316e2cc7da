//! What an agent says, and what is then trusted. Time is tokio's, which moves when nothing else does, and the broker's clock.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::Code;

use super::*;
use crate::domain::time::Span;
use crate::identity::trust_bundle::TrustDomainError;
use crate::identity::trust_store::TrustedDomain;
use crate::jose::SigningKey;
use crate::testing::ca::TestAuthority;
use crate::testing::clock::TestClock;
use crate::testing::entropy::SeededEntropy;
use crate::testing::workload_api::{Answer, FakeAgent, concatenated};
use crate::workload_api::{MAX_MESSAGE_BYTES, REFRESH};

const NO_KEYS: &[u8] = br#"{"keys":[]}"#;
const MAX_AGE: Span = Span::from_seconds(600);

struct Site {
    agent: FakeAgent,
    store: Arc<TrustStore>,
    clock: Arc<TestClock>,
    following: JoinHandle<()>,
}

impl Site {
    /// A broker that trusts `prod.example` and `lab.example` by what the agent says.
    fn new() -> Self {
        let (agent, clock) = (FakeAgent::start(), Arc::new(TestClock::default()));
        let domains = vec![domain("prod.example"), domain("lab.example")];
        let trusted = domains.iter().map(|trust_domain| TrustedDomain {
            trust_domain: trust_domain.clone(),
            max_age: Some(MAX_AGE),
        });
        let store = TrustStore::new(&domain("own.example"), trusted, clock.now()).unwrap();
        let store = Arc::new(store);
        let bundles = AgentBundles {
            api: agent.api(),
            domains,
            store: Arc::clone(&store),
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(1)),
        };
        let following = tokio::spawn(bundles.follow());
        Self { agent, store, clock, following }
    }

    /// How many roots and JWT keys of a domain count now.
    fn trusts(&self, name: &str) -> Result<[usize; 2], TrustDomainError> {
        let snapshot = self.store.shared().load_full();
        let bundle = snapshot.get(&domain(name), self.clock.now())?;
        let jwt_keys = bundle.jwt_keys().iter().count();
        Ok([bundle.source().authorities().len(), jwt_keys])
    }

    /// That it comes to trust so much; time passes meanwhile, though not the broker's.
    async fn comes_to_trust(&self, name: &str, wanted: [usize; 2]) {
        for _ in 0..10_000 {
            if self.trusts(name) == Ok(wanted) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("of {name} this is trusted: {:?}", self.trusts(name));
    }

    /// The whole state is asked for again at least once.
    async fn is_asked_again(&self) {
        let before = self.agent.calls();
        while self.agent.calls() < before + 2 {
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

/// A JWK set as SPIRE writes it: without `use`.
fn jwk_set(kids: &[&str]) -> Vec<u8> {
    let jwk = |kid: &&str| {
        let (key, _) = SigningKey::generate().unwrap();
        let mut jwk = key.verifying_key().to_jwk();
        jwk.insert("kid".to_owned(), json!(kid));
        jwk.remove("use");
        jwk
    };
    json!({ "keys": kids.iter().map(jwk).collect::<Vec<_>>() }).to_string().into_bytes()
}

#[tokio::test(start_paused = true)]
async fn bundles_of_both_kinds_are_taken_and_followed_when_they_change() {
    let (site, [one, two]) = (Site::new(), ["one", "two"].map(TestAuthority::root));
    site.agent.x509(&[("prod.example", &concatenated(&[&one]))]);
    site.agent.jwt(&[("prod.example", &jwk_set(&["a"]))]);
    site.comes_to_trust("prod.example", [1, 1]).await;
    site.agent.x509(&[("prod.example", &concatenated(&[&one, &two]))]);
    site.comes_to_trust("prod.example", [2, 1]).await;
    site.agent.jwt(&[("prod.example", &jwk_set(&["a", "b"]))]);
    site.comes_to_trust("prod.example", [2, 2]).await;
    let snapshot = site.store.shared().load_full();
    let bundle = snapshot.get(&domain("prod.example"), site.clock.now()).unwrap();
    let roots: Vec<_> = bundle.source().authorities().iter().map(Authority::der).collect();
    assert_eq!(roots, [one.der().as_ref(), two.der().as_ref()]);
    assert!(bundle.jwt_keys().get("b").is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_domain_is_trusted_before_both_its_halves_are_there() {
    let (site, root) = (Site::new(), TestAuthority::root("root"));
    site.agent.x509(&[("prod.example", &concatenated(&[&root]))]);
    sleep(Duration::from_secs(5)).await;
    let missing = TrustDomainError::Missing(domain("prod.example"));
    assert_eq!(site.trusts("prod.example"), Err(missing));
    // Whoever says nothing at all is asked again.
    sleep(Duration::from_secs(40)).await;
    assert!(site.agent.calls() >= 4, "asked {} times", site.agent.calls());
    site.agent.jwt(&[]);
    site.comes_to_trust("prod.example", [1, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn class_08_what_a_message_leaves_out_is_withdrawn_and_nothing_is_merged() {
    let (site, [one, two]) = (Site::new(), ["one", "two"].map(TestAuthority::root));
    let [both, first] = [concatenated(&[&one, &two]), concatenated(&[&one])];
    site.agent.x509(&[("prod.example", &both), ("lab.example", &first)]);
    site.agent.jwt(&[("prod.example", &jwk_set(&["a", "b"])), ("lab.example", NO_KEYS)]);
    site.comes_to_trust("prod.example", [2, 2]).await;
    site.comes_to_trust("lab.example", [1, 0]).await;
    site.agent.x509(&[("prod.example", &first)]);
    site.comes_to_trust("prod.example", [1, 2]).await;
    site.comes_to_trust("lab.example", [0, 0]).await;
    site.agent.jwt(&[]);
    site.comes_to_trust("prod.example", [1, 0]).await;
    site.agent.x509(&[("prod.example", &[])]);
    site.comes_to_trust("prod.example", [0, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn class_12_domains_that_nobody_configured_and_other_spellings_are_passed_over() {
    let (site, root) = (Site::new(), concatenated(&[&TestAuthority::root("root")]));
    let names = ["own.example", "other.example", "lab.example/", "LAB.example"];
    let state = names.map(|name| (name, root.as_slice()));
    site.agent.x509(&[&state[..], &[("prod.example", &root)]].concat());
    site.agent.jwt(&[]);
    site.comes_to_trust("prod.example", [1, 0]).await;
    site.comes_to_trust("lab.example", [0, 0]).await;
    for name in ["own.example", "other.example"] {
        assert_eq!(site.trusts(name), Err(TrustDomainError::Unknown(domain(name))));
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_bundle_leave_the_former_one_which_grows_old() {
    let (site, root) = (Site::new(), TestAuthority::root("root"));
    let good = concatenated(&[&root]);
    let too_many = good.repeat(MAX_KEYS + 1);
    let workload = root.server().chain[0].to_vec();
    site.agent.jwt(&[("prod.example", &jwk_set(&["a"]))]);
    site.agent.x509(&[("prod.example", &good)]);
    site.comes_to_trust("prod.example", [1, 1]).await;
    let trailing = [good.as_slice(), b"x"].concat();
    for bad in [b"garbage".as_slice(), &trailing, &good[..good.len() - 1], &too_many, &workload] {
        // The other domain's bundle comes with it, and is taken.
        site.agent.x509(&[("prod.example", bad), ("lab.example", &good)]);
        site.comes_to_trust("lab.example", [1, 0]).await;
        assert_eq!(site.trusts("prod.example"), Ok([1, 1]));
        site.agent.x509(&[("prod.example", bad)]);
        site.comes_to_trust("lab.example", [0, 0]).await;
    }
    for bad in [b"".as_slice(), b"[]", br#"{"keys":[{"kty":"EC"}]}"#, &jwk_set(&["a", "a"])] {
        site.agent.jwt(&[("prod.example", bad), ("lab.example", &jwk_set(&["b"]))]);
        site.comes_to_trust("lab.example", [0, 1]).await;
        assert_eq!(site.trusts("prod.example"), Ok([1, 1]));
        site.agent.jwt(&[("prod.example", bad)]);
        site.comes_to_trust("lab.example", [0, 0]).await;
    }
    site.clock.forward(MAX_AGE);
    site.is_asked_again().await;
    let stale = TrustDomainError::Stale(domain("prod.example"));
    assert_eq!(site.trusts("prod.example"), Err(stale));
    assert_eq!(site.trusts("lab.example"), Ok([0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_message_without_bound_is_not_read_and_the_agent_is_asked_again() {
    let (site, root) = (Site::new(), TestAuthority::root("root"));
    let roots = concatenated(&[&root]);
    site.agent.x509(&[("prod.example", &roots)]);
    site.agent.jwt(&[]);
    site.comes_to_trust("prod.example", [1, 0]).await;
    let before = site.agent.calls();
    site.agent.x509(&[("other.example", &vec![0; MAX_MESSAGE_BYTES])]);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(site.trusts("prod.example"), Ok([1, 0]));
    assert!(site.agent.calls() > before);
    site.agent.x509(&[("prod.example", &roots), ("lab.example", &roots)]);
    site.comes_to_trust("lab.example", [1, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_for_something_else_are_not_keys_of_jwt_svids() {
    let site = Site::new();
    let mut set: serde_json::Value = serde_json::from_slice(&jwk_set(&["a", "b", "c"])).unwrap();
    set["keys"][0]["use"] = json!("x509-svid");
    set["keys"][1]["use"] = json!("enc");
    site.agent.x509(&[]);
    site.agent.jwt(&[("prod.example", set.to_string().as_bytes())]);
    site.comes_to_trust("prod.example", [0, 1]).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_the_same_again_confirms_and_one_that_is_silent_does_not() {
    let (site, root) = (Site::new(), TestAuthority::root("root"));
    site.agent.x509(&[("prod.example", &concatenated(&[&root]))]);
    site.agent.jwt(&[]);
    site.comes_to_trust("prod.example", [1, 0]).await;
    let stale = Err(TrustDomainError::Stale(domain("prod.example")));
    for _ in 0..3 {
        site.clock.forward(MAX_AGE);
        assert_eq!(site.trusts("prod.example"), stale);
        site.comes_to_trust("prod.example", [1, 0]).await;
    }
    // One half is not enough.
    site.agent.jwt_answer(Answer::IsSilent);
    site.clock.forward(MAX_AGE);
    sleep(REFRESH.times(5).to_std()).await;
    assert_eq!(site.trusts("prod.example"), stale);
    site.agent.jwt(&[]);
    site.comes_to_trust("prod.example", [1, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_away_takes_nothing_back_until_the_bound_and_is_heard_when_it_returns() {
    let (mut site, [one, two]) = (Site::new(), ["one", "two"].map(TestAuthority::root));
    site.agent.x509(&[("prod.example", &concatenated(&[&one]))]);
    site.agent.jwt(&[]);
    site.comes_to_trust("prod.example", [1, 0]).await;
    site.agent.go_away();
    sleep(REFRESH.times(5).to_std()).await;
    site.clock.forward(Span::from_micros(MAX_AGE.micros() - 1));
    assert_eq!(site.trusts("prod.example"), Ok([1, 0]));
    site.clock.forward(Span::from_micros(1));
    let stale = TrustDomainError::Stale(domain("prod.example"));
    assert_eq!(site.trusts("prod.example"), Err(stale));
    site.agent.x509(&[("prod.example", &concatenated(&[&one, &two]))]);
    site.agent.go_on();
    site.comes_to_trust("prod.example", [2, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_to_which_we_are_nobody_any_more_withdraws_everything_and_is_asked_again() {
    let (site, root) = (Site::new(), TestAuthority::root("root"));
    let (roots, keys) = (concatenated(&[&root]), jwk_set(&["a"]));
    for code in [Code::PermissionDenied, Code::Unimplemented] {
        site.agent.x509(&[("prod.example", &roots)]);
        site.agent.jwt(&[("prod.example", &keys)]);
        site.comes_to_trust("prod.example", [1, 1]).await;
        site.agent.jwt_answer(Answer::Ends(code));
        site.comes_to_trust("prod.example", [1, 0]).await;
        site.agent.x509_answer(Answer::Ends(code));
        site.comes_to_trust("prod.example", [0, 0]).await;
    }
    let before = site.agent.calls();
    sleep(Duration::from_secs(600)).await;
    let asked = site.agent.calls() - before;
    assert!((2 * 600 / 30..=2 * 600 / 15 + 12).contains(&asked), "{asked} times in ten minutes");
    site.agent.x509(&[("prod.example", &roots)]);
    site.comes_to_trust("prod.example", [1, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_finds_the_question_wrong_is_not_asked_again() {
    let site = Site::new();
    site.agent.x509_answer(Answer::Ends(Code::InvalidArgument));
    site.agent.jwt_answer(Answer::Ends(Code::InvalidArgument));
    site.following.await.unwrap();
    assert_eq!(site.agent.calls(), 2);
}
