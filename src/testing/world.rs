//! Brokers over one store, and everybody who calls them: a world without sockets.
//!
//! ```text
//!  orchestrators  ci (two principals), cd          operator   ops
//!  agents         finance, research, batch         verifiers  ledger, search
//! ```
//!
//! Callers prove themselves as they do to a real broker: with an X.509-SVID, or with a token of the issuer `k8s`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::ca::TestAuthority;
use super::clock::TestClock;
use super::entropy::SeededEntropy;
use super::store_contract::{Fixture, constants};
use super::{keys, model, trust};
use crate::broker::access::Caller;
use crate::broker::request::Idempotency;
use crate::broker::seams::Clock;
use crate::broker::{Broker, DpopSettings, Limits, ListSettings, Parts, Settings};
use crate::domain::feed::{Drift, InstanceId, Terms};
use crate::domain::id::{Partition, PartitionCount};
use crate::domain::platform::Platform;
use crate::domain::principal::{Name, SpiffePattern};
use crate::domain::role::{AgentClass, Pattern, Role, RoleEntry};
use crate::domain::task::OnSilence;
use crate::domain::tier::{ProofRequirement, Tier};
use crate::domain::time::{Span, Stamp};
use crate::feed::{self, Feed};
use crate::identity::oidc::{JwksSource, OidcIssuer, OidcVerifier};
use crate::identity::trust_bundle::TrustBundles;
use crate::identity::x509_svid;
use crate::jose::dpop::HttpsUri;
use crate::jose::{KeySet, SigningKey};
use crate::keys::SharedKeys;
use crate::policy::grant::GrantPolicy;
use crate::store::{Store, Upkeep};

/// A principal of the orchestrator entry `ci`.
pub const CI: &str = "spiffe://prod.example/ci/one";
/// Another principal of the same entry.
pub const CI_TOO: &str = "spiffe://prod.example/ci/two";
/// A principal of another orchestrator entry.
pub const CD: &str = "spiffe://prod.example/cd/one";
/// An agent of class `finance`; more are `spiffe://prod.example/agents/finance/*`.
pub const FINANCE: &str = "spiffe://prod.example/agents/finance/one";
/// An agent of class `research`, in another trust domain.
pub const RESEARCH: &str = "spiffe://lab.example/agents/research/one";
/// An agent of class `batch`, with a token of the issuer `k8s`.
pub const BATCH: &str = "oidc:k8s:system:serviceaccount:prod:batch";
/// A principal of two agent classes at once.
pub const TWOFOLD: &str = "spiffe://prod.example/agents/finance/twofold";
/// An operator.
pub const OPERATOR: &str = "spiffe://prod.example/ops/one";
/// The verifier of [`LEDGER_AUDIENCE`].
pub const LEDGER: &str = "spiffe://prod.example/api/ledger";
/// What most tokens are for.
pub const LEDGER_AUDIENCE: &str = "https://ledger.example";
/// The verifier of [`SEARCH_AUDIENCE`].
pub const SEARCH: &str = "spiffe://prod.example/api/search";
/// The other audience.
pub const SEARCH_AUDIENCE: &str = "https://search.example";
/// A workload that no role entry matches.
pub const STRANGER: &str = "spiffe://prod.example/elsewhere";

const ISSUER: &str = "https://k8s.example";
const ISSUER_AUDIENCE: &str = "leasehold";
/// Longer than any test.
const POD_TOKEN_LIFE: Span = Span::from_seconds(80_000);
const ENDED_TASK_RETENTION: Span = Span::from_seconds(3_600);

/// A store, the clock of the brokers over it, and the authorities that everybody's identity comes from.
pub struct World {
    /// What brokers go by; a store that has no clock of its own goes by it, too.
    pub clock: Arc<TestClock>,
    /// The store.
    pub store: Fixture,
    keys: SharedKeys,
    entropy: Arc<SeededEntropy>,
    roots: [TestAuthority; 2],
    bundles: TrustBundles,
    issuer: Issuer,
    callers: Mutex<BTreeMap<String, Caller>>,
    requests: AtomicU64,
}

/// The issuer `k8s`.
struct Issuer {
    key: SigningKey,
    verifier: OidcVerifier,
    _folder: TempDir,
}

impl World {
    /// Over a store in memory, whose clock is the brokers'.
    pub async fn on_model() -> Self {
        let clock = Arc::new(TestClock::default());
        let store = Arc::new(model::ModelStore::new(clock.clone(), constants()));
        Self::over(Fixture::of(store, ()), clock).await
    }

    /// Over a store.
    pub async fn over(store: Fixture, clock: Arc<TestClock>) -> Self {
        let now = clock.now();
        let roots = ["prod", "lab"].map(TestAuthority::root);
        let [prod, lab] = &roots;
        let bundles = trust::trusting(&[("prod.example", &[prod]), ("lab.example", &[lab])]);
        Self {
            keys: Arc::new(ArcSwap::from_pointee(keys::keys(now).await)),
            entropy: Arc::new(SeededEntropy::new(now.micros())),
            clock,
            store,
            roots,
            bundles,
            issuer: Issuer::new(),
            callers: Mutex::default(),
            requests: AtomicU64::new(0),
        }
    }

    /// One more broker over the store, with a cache of its own.
    pub fn broker(&self) -> Broker {
        self.broker_at(self.clock.clone())
    }

    /// One more broker, which goes by another clock.
    pub fn broker_at(&self, clock: Arc<dyn Clock>) -> Broker {
        self.broker_of(clock, self.store.store.clone(), self.store.upkeep.clone())
    }

    /// One more broker, which goes by another clock and reaches the store in another way.
    pub fn broker_of(
        &self,
        clock: Arc<dyn Clock>,
        store: Arc<dyn Store>,
        upkeep: Arc<dyn Upkeep>,
    ) -> Broker {
        let feed = self.feed_at(clock.clone());
        Broker::new(Parts { store, upkeep, clock, feed, ..self.parts() }, settings())
    }

    /// One more broker, whose configuration says something else.
    pub fn broker_that(&self, says: impl FnOnce(&mut Settings)) -> Broker {
        let mut changed = settings();
        says(&mut changed);
        Broker::new(self.parts(), changed)
    }

    /// What every broker is made of, for one that differs in some of it.
    pub fn parts(&self) -> Parts {
        Parts {
            store: self.store.store.clone(),
            upkeep: self.store.upkeep.clone(),
            feed: self.feed(),
            policy: Arc::new(GrantPolicy),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
        }
    }

    /// A feed of one more broker, which nobody runs.
    pub fn feed(&self) -> Arc<Feed> {
        self.feed_at(self.clock.clone())
    }

    /// The same, by another clock.
    pub fn feed_at(&self, clock: Arc<dyn Clock>) -> Arc<Feed> {
        let number = u128::from(self.requests.fetch_add(1, Ordering::Relaxed));
        let constants = self.store.upkeep.constants();
        let instance = InstanceId::new(number);
        let name = format!("broker-{number}");
        let settings = feed::Settings {
            identity: feed::Identity { instance, name, address: String::new() },
            terms: Terms { drift: Drift::DEFAULT, delta_max: constants.delta_max },
            partitions: constants.partitions,
            store: self.store.feed.identity(),
            first: self.store.feed.first(),
            streams: 1_024,
            cadence: Span::from_millis(200),
        };
        let (store, feed) = (self.store.store.clone(), self.store.feed.clone());
        let parts = feed::Parts { store, feed, clock };
        Feed::new(parts, settings, CancellationToken::new())
    }

    /// A caller by its SPIFFE ID, with the same certificate each time; it lives longer than any test.
    pub fn caller(&self, spiffe_id: &str) -> Caller {
        if let Some(known) = self.callers.lock().get(spiffe_id) {
            return known.clone();
        }
        let caller = self.caller_until(spiffe_id, Stamp::from_seconds(4_000_000_000));
        self.callers.lock().insert(spiffe_id.to_owned(), caller.clone());
        caller
    }

    /// A caller with a new certificate that expires then.
    pub fn caller_until(&self, spiffe_id: &str, expires: Stamp) -> Caller {
        self.try_caller(spiffe_id, expires).unwrap()
    }

    /// The same, where the role entries may refuse it.
    ///
    /// # Errors
    /// As [`Caller::new`].
    pub fn try_caller(
        &self,
        spiffe_id: &str,
        expires: Stamp,
    ) -> Result<Caller, crate::domain::refusal::Refusal> {
        let [prod, lab] = &self.roots;
        let root = if spiffe_id.starts_with("spiffe://lab.example/") { lab } else { prod };
        let last = expires.minus(Span::from_seconds(1));
        let issued = root.svid(spiffe_id, Stamp::from_seconds(1_000_000_000), last);
        let verified = x509_svid::verify(&issued.chain, &self.bundles, self.clock.now()).unwrap();
        Caller::new(verified, &settings().roles)
    }

    /// The agent [`BATCH`] in one of its pods.
    pub async fn pod(&self, uid: &str) -> Caller {
        let now = self.clock.now();
        let subject = BATCH.strip_prefix("oidc:k8s:").unwrap();
        let token = self.issuer.key.sign(
            "JWT",
            &json!({
                "iss": ISSUER, "sub": subject, "aud": ISSUER_AUDIENCE, "iat": now.seconds(),
                "nbf": now.seconds(), "exp": now.plus(POD_TOKEN_LIFE).seconds(), "jti": "1",
                "kubernetes.io": {
                    "namespace": "prod", "serviceaccount": {"name": "batch", "uid": "batch-1"},
                    "pod": {"name": uid, "uid": uid},
                },
            }),
        );
        let token = token.unwrap();
        let verified = self.issuer.verifier.verify(token.expose_text(), now).await.unwrap();
        Caller::new(verified.caller, &settings().roles).unwrap()
    }

    /// The next request, unlike every other.
    pub fn id(&self) -> Idempotency {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        request(number, "request")
    }

    /// A request of a caller whose root task will lie in a partition.
    pub fn id_in(&self, partition: Partition, caller: &Caller) -> Idempotency {
        let principal = caller.identity().principal().as_str();
        let lies = |id: &Idempotency| {
            Partition::of_root(principal, &id.request_id(), self.partitions()) == partition
        };
        std::iter::repeat_with(|| self.id()).find(lies).unwrap()
    }

    fn partitions(&self) -> PartitionCount {
        self.store.upkeep.constants().partitions
    }
}

/// Request number so and so, with a body.
pub fn request(number: u64, body: &str) -> Idempotency {
    let id = format!("00000000-0000-4000-8000-{number:012x}");
    Idempotency::new(&id, "test", body.as_bytes()).unwrap()
}

/// What the brokers' configuration says.
pub fn settings() -> Settings {
    let keys = keys::settings();
    Settings {
        issuer: keys.base_url,
        trust_domain: keys.trust_domain.to_string(),
        store_kind: "test",
        tiers: tiers(),
        roles: roles(),
        dpop: DpopSettings {
            targets: vec![HttpsUri::parse("https://leasehold.example:7700").unwrap()],
            is_nonce_required: false,
        },
        lists: ListSettings::default(),
        limits: Limits {
            depth: 8,
            fan_out: 64,
            instances: 1_024,
            ended_task_retention: ENDED_TASK_RETENTION,
            requests_per_second: NonZeroU32::MAX,
            shown_tokens_per_second: NonZeroU32::MAX,
            shown_tokens_per_second_per_address: NonZeroU32::MAX,
        },
    }
}

fn tiers() -> Vec<Tier> {
    let standard = Tier {
        name: name("standard"),
        ttl_seconds: 300,
        ceiling_seconds: 3_600,
        min_ttl_seconds: 10,
        freshness: Span::from_seconds(5),
        proof: ProofRequirement::Required,
        on_silence: OnSilence::Suspend,
    };
    let critical = Tier {
        name: name("critical"),
        ttl_seconds: 60,
        ceiling_seconds: 600,
        freshness: Span::from_seconds(1),
        on_silence: OnSilence::Fail,
        ..standard.clone()
    };
    let relaxed =
        Tier { name: name("relaxed"), proof: ProofRequirement::Optional, ..standard.clone() };
    let long = Tier { name: name("long"), ttl_seconds: 3_600, ..standard.clone() };
    vec![standard, critical, relaxed, long]
}

fn roles() -> Vec<RoleEntry> {
    let spiffe = |text: &str| Pattern::Spiffe(SpiffePattern::parse(text).unwrap());
    let class = |class: &str| {
        let tiers = ["standard", "critical", "relaxed", "long"].map(name).to_vec();
        Role::Agent(AgentClass { name: name(class), owner: "payments".to_owned(), tiers })
    };
    let verifier = |audience: &str| Role::Verifier(vec![audience.to_owned()]);
    let batch = Pattern::Oidc {
        issuer: name("k8s"),
        subject: BATCH.strip_prefix("oidc:k8s:").map(str::to_owned),
        claims: BTreeMap::new(),
    };
    let entries = [
        (spiffe("spiffe://prod.example/ci/*"), Role::Orchestrator(name("ci"))),
        (spiffe("spiffe://prod.example/cd/*"), Role::Orchestrator(name("cd"))),
        (spiffe("spiffe://prod.example/agents/finance/*"), class("finance")),
        (spiffe("spiffe://lab.example/agents/research/*"), class("research")),
        (spiffe(TWOFOLD), class("research")),
        (batch, class("batch")),
        (spiffe("spiffe://prod.example/ops/*"), Role::Operator),
        (spiffe(LEDGER), verifier(LEDGER_AUDIENCE)),
        (spiffe(SEARCH), verifier(SEARCH_AUDIENCE)),
    ];
    entries.map(|(pattern, role)| RoleEntry { pattern, role }).to_vec()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

impl Issuer {
    fn new() -> Self {
        let (key, _) = SigningKey::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        let published = KeySet::of([key.verifying_key().clone()]).unwrap().to_document();
        std::fs::write(&file, published.to_string()).unwrap();
        let issuer = OidcIssuer {
            name: name("k8s"),
            issuer: ISSUER.to_owned(),
            audience: ISSUER_AUDIENCE.to_owned(),
            jwks: JwksSource::File(file),
            max_lifetime: POD_TOKEN_LIFE,
            platform: Some(Platform::Kubernetes),
            token_review: None,
            in_cluster: false,
            danger_loopback: false,
            ca_file: None,
        };
        let verifier = OidcVerifier::new(vec![issuer], &[], 0).unwrap();
        Self { key, verifier, _folder: folder }
    }
}
