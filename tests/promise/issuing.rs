//! How credentials come about: the real broker's `issue`, with its keys, over the world's store. Tokens are bound to the caller's
//! certificate, certificates are signed for the key of a CSR. Between its decision and its commit the world goes on.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use leasehold::broker::access::Caller;
use leasehold::broker::error::BrokerError;
use leasehold::broker::request::{CredentialRequest, IssueRequest, TokenProof};
use leasehold::broker::{Broker, Issued, Minted, Parts};
use leasehold::domain::lease::full_reach;
use leasehold::domain::principal::Principal;
use leasehold::domain::scope::Scope;
use leasehold::domain::time::Stamp;
use leasehold::jose::access_token;
use leasehold::proto::v1::GetTrustBundleResponse;
use leasehold::spiffe::authority::Authority;
use leasehold::spiffe::task_certificate::TaskCertificate;
use leasehold::store::{Commit, Listing, Outcome, Query, Snapshot, Store, StoreError};
use leasehold::testing::ca::csr;
use leasehold::testing::clock::TestClock;
use leasehold::testing::entropy::SeededEntropy;
use leasehold::testing::model::ModelStore;
use leasehold::testing::store_contract::{Fixture, constants};
use leasehold::testing::world::{LEDGER_AUDIENCE, World as Town, request, settings};
use leasehold::verifier::Trust;
use rcgen::KeyPair;

use super::clock::START_SECONDS;
use super::ending::{Credential, Shown};
use super::world::{Event, Off, World, at_once};

/// Longest lives of credentials, in seconds.
const TTLS: [u64; 3] = [3, 8, 20];
/// Of a hundred credentials, so many are certificates.
const CERTIFICATES: u64 = 30;

/// The broker's keys, and everybody's identity: the same in every world, since making them is slow and changes nothing.
struct Known {
    town: Town,
    trust: Trust,
    agents: Mutex<BTreeMap<usize, Caller>>,
    csrs: Mutex<BTreeMap<usize, Vec<u8>>>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let clock = Arc::new(TestClock::at(Stamp::from_seconds(START_SECONDS)));
    let store = Arc::new(ModelStore::new(clock.clone(), constants()));
    let town = at_once(Town::over(Fixture::of(store, ()), clock));
    let keys = town.parts().keys.load_full();
    let bundle = GetTrustBundleResponse {
        trust_domain: keys.settings().trust_domain.to_string(),
        spiffe_bundle: keys.bundle().to_document().to_string(),
        access_token_jwks: keys.verifying_keys().to_document().to_string(),
        issuer: keys.settings().base_url.clone(),
    };
    let trust = Trust::read(bundle, None).unwrap();
    Known { town, trust, agents: Mutex::default(), csrs: Mutex::default() }
});

/// What the broker says of its keys.
pub fn trust() -> Trust {
    KNOWN.trust.clone()
}

/// Whether the signature is the broker's and the credential in its time, and nothing else.
pub fn is_ours(shown: &Shown, now: Stamp) -> bool {
    let keys = KNOWN.town.parts().keys.load_full();
    match shown {
        Shown::Token { text, .. } => {
            let issuer = &keys.settings().base_url;
            access_token::verify(text, keys.verifying_keys(), issuer, now).is_ok()
        }
        Shown::Certificate(chain) => {
            let (leaf, above) = chain.split_first().unwrap();
            let above: Vec<_> = above.iter().map(|der| Authority::check(der).unwrap()).collect();
            let authorities = keys.authorities().chain(&above);
            let of = (&keys.settings().trust_domain, &keys.settings().task_extension);
            TaskCertificate::verify(leaf, authorities, of, now).is_ok()
        }
    }
}

/// What a quarantine of an agent is of.
pub fn agent_scope(n: usize) -> Scope {
    Scope::Principal(agent_name(n))
}

pub fn agent_name(n: usize) -> Principal {
    Principal::parse(&format!("spiffe://prod.example/agents/finance/{n}")).unwrap()
}

fn agent(n: usize) -> Caller {
    let expires = Stamp::from_seconds(START_SECONDS + 1_000_000);
    let mut agents = KNOWN.agents.lock().unwrap();
    let new = || KNOWN.town.caller_until(agent_name(n).as_str(), expires);
    agents.entry(n).or_insert_with(new).clone()
}

/// Of a key of the task's own.
fn csr_of(task: usize) -> Vec<u8> {
    let mut csrs = KNOWN.csrs.lock().unwrap();
    let new = || csr(&KeyPair::generate().unwrap()).der().to_vec();
    csrs.entry(task).or_insert_with(new).clone()
}

/// The broker that issues.
pub struct Issuer {
    broker: Arc<Broker>,
    /// Commits that did not stand.
    pub refused: Arc<AtomicU64>,
    asked: u64,
    issuing: BTreeMap<u64, Issuing>,
}

/// Somebody waits for a credential.
struct Issuing {
    task: usize,
    answer: Pin<Box<dyn Future<Output = Result<Issued, BrokerError>>>>,
}

impl Issuer {
    pub fn new(seed: u64, off: Off, store: Arc<ModelStore>, clock: Arc<TestClock>) -> Self {
        let refused = Arc::<AtomicU64>::default();
        let deliberate = Deliberate {
            store: store.clone(),
            is_guarded: off != Off::Guards,
            refused: refused.clone(),
        };
        let mut settings = settings();
        for tier in &mut settings.tiers {
            tier.min_ttl_seconds = 1;
        }
        let parts = Parts {
            store: Arc::new(deliberate),
            upkeep: store,
            clock,
            entropy: Arc::new(SeededEntropy::new(seed)),
            ..KNOWN.town.parts()
        };
        let broker = Arc::new(Broker::new(parts, settings));
        Self { broker, refused, asked: 0, issuing: BTreeMap::new() }
    }
}

/// The store of the broker that issues: what was decided is committed a while later.
struct Deliberate {
    store: Arc<ModelStore>,
    is_guarded: bool,
    refused: Arc<AtomicU64>,
}

#[async_trait]
impl Store for Deliberate {
    async fn commit(&self, mut commit: Commit) -> Result<Outcome, StoreError> {
        let mut was_asked = false;
        let pause = poll_fn(|_| match std::mem::replace(&mut was_asked, true) {
            false => Poll::Pending,
            true => Poll::Ready(()),
        });
        pause.await;
        if !self.is_guarded {
            commit.guards.clear();
            commit.unblocked.clear();
        }
        let outcome = self.store.commit(commit).await?;
        if matches!(outcome, Outcome::Stale(_) | Outcome::Denied(_)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(outcome)
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        self.store.read(query).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.store.list(listing).await
    }
}

impl World {
    /// An agent asks for a credential: the broker reads and decides now, and commits a while later under what it read.
    pub fn ask_for_credential(&mut self, t: usize) {
        if self.line(t).iter().any(|t| self.tasks[*t].is_over) {
            return;
        }
        let caller = agent(self.tasks[t].agent);
        let credential = match self.chance.percent(CERTIFICATES) {
            true => CredentialRequest::X509Svid(csr_of(t)),
            false => CredentialRequest::AccessToken(TokenProof::CallerCertificate),
        };
        let wanted = IssueRequest {
            task: self.tasks[t].id,
            expected_epoch: None,
            audience: LEDGER_AUDIENCE.to_owned(),
            asked: None,
            ttl_seconds: Some(TTLS[self.chance.below(TTLS.len())]),
            credential,
        };
        self.issuer.asked += 1;
        let (n, broker) = (self.issuer.asked, self.issuer.broker.clone());
        let answer =
            Box::pin(async move { broker.issue(&caller, &request(n, "issue"), wanted).await });
        self.issuer.issuing.insert(n, Issuing { task: t, answer });
        self.go_on(n);
    }

    /// What was decided arrives at the store.
    pub fn issue(&mut self, n: u64) {
        match self.now < self.store_away_until {
            true => drop(self.issuer.issuing.remove(&n)),
            false => self.go_on(n),
        }
    }

    fn go_on(&mut self, n: u64) {
        let issuing = self.issuer.issuing.get_mut(&n).unwrap();
        let Some(answer) = issuing.answer.as_mut().now_or_never() else {
            let delay = self.chance.delay() + self.chance.delay();
            return self.after(delay, Event::Issue(n));
        };
        let t = issuing.task;
        self.issuer.issuing.remove(&n);
        match answer {
            Ok(issued) => self.issued(t, issued),
            Err(BrokerError::Refused(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }

    /// It was committed at this very instant.
    fn issued(&mut self, t: usize, issued: Issued) {
        let lease = issued.lease.lease;
        let path = lease.draft.path;
        // INVARIANT: nothing is committed for a dead epoch or a blocked scope after RECORDED.
        let is_dead = path.hops().any(|hop| {
            let task = self.tasks.iter().find(|task| task.id == hop.task).unwrap();
            hop.counter < task.recorded_below
        });
        if is_dead || self.blocked.contains(&self.tasks[t].agent) {
            self.violation(None, format!("a credential was committed at {path:?} after RECORDED"));
        }
        let shown = match issued.credential {
            Minted::AccessToken(minted) => Shown::Token {
                text: minted.token.expose_text().to_owned(),
                certificate: lease.draft.key_thumbprint,
            },
            Minted::X509Svid(minted) => Shown::Certificate(minted.chain),
            Minted::JwtSvid(_) => panic!("nobody asked for one"),
        };
        let reach = full_reach(&lease.draft.reach, &lease.draft.tier, &lease.draft.signing_key);
        self.credentials.push(Credential {
            task: t,
            shown,
            path,
            lease: lease.draft.id,
            origin: lease.origin,
            reach,
            delta: lease.draft.freshness,
            expires: Stamp::from_seconds(lease.expires_seconds),
            was_accepted: false,
            fenced: None,
            bound: None,
        });
        self.report.issued += 1;
    }
}
