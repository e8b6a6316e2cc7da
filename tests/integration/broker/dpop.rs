//! Tokens that are bound to the key of a DPoP proof, and proofs that are good once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leasehold::broker::Broker;
use leasehold::broker::access::Caller;
use leasehold::broker::request::{
    CredentialRequest, IssueRequest, RenewalProof, ShownProof, TokenProof,
};
use leasehold::broker::seams::Clock;
use leasehold::domain::id::TaskId;
use leasehold::domain::refusal::Refusal;
use leasehold::domain::time::{Span, Stamp};
use leasehold::jose::dpop::{HttpsUri, Statement, prove};
use leasehold::jose::{SigningKey, base64url};
use leasehold::testing::world::request;

use super::scene::{Held, Scene, agent_of, reason, spec, token};
use super::stores::over_every_store;

const ISSUE: &str = "/leasehold.v1.CredentialService/IssueCredential";
const RENEW: &str = "/leasehold.v1.CredentialService/RenewCredential";
const ROUNDS: usize = 8;

over_every_store!(
    class_23_of_two_requests_that_show_one_proof_together_exactly_one_is_answered,
    class_23_a_proof_that_was_shown_is_good_for_no_other_request,
    class_23_a_proof_goes_with_no_other_body_under_the_id_of_a_request_that_was_refused,
    the_same_request_may_show_its_proof_again_or_a_new_one_of_the_same_key,
    class_26_a_proof_is_refused_when_its_time_is_over,
);

/// Somebody with a key to make proofs with.
struct Client {
    key: SigningKey,
    made: AtomicU64,
}

impl Client {
    fn new() -> Self {
        Self { key: SigningKey::generate().unwrap().0, made: AtomicU64::new(0) }
    }

    fn jkt(&self) -> [u8; 32] {
        self.key.verifying_key().public_key().thumbprint()
    }

    /// A new proof, made now.
    fn proof(&self, scene: &Scene, path: &'static str) -> ShownProof {
        self.proof_at(scene.world.clock.now(), path, None)
    }

    fn proof_at(&self, issued: Stamp, path: &'static str, nonce: Option<&str>) -> ShownProof {
        let uri = HttpsUri::parse(&format!("https://leasehold.example:7700{path}")).unwrap();
        let jti = format!("proof-{}", self.made.fetch_add(1, Ordering::Relaxed));
        let (method, token) = ("POST", None);
        let statement = Statement { method, uri: &uri, jti: &jti, issued, token, nonce };
        let jwt = prove(&self.key, statement).unwrap().expose_text().to_owned();
        ShownProof { jwt, path }
    }
}

fn bound(task: TaskId, proof: &ShownProof) -> IssueRequest {
    let credential = CredentialRequest::AccessToken(TokenProof::Dpop(proof.clone()));
    IssueRequest { credential, ..token(task) }
}

/// A task, its agent, and a token bound to the client's key.
async fn held(scene: &Scene, client: &Client) -> (TaskId, Caller, Held) {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let agent = scene.world.caller(&agent_of(0));
    let request = bound(task, &client.proof(scene, ISSUE));
    let held = scene.issue_at(&scene.a, &agent, request).await.unwrap();
    (task, agent, held)
}

async fn renewed(
    (scene, broker): (&Scene, &Broker),
    agent: &Caller,
    held: &Held,
    proof: Option<RenewalProof>,
) -> Result<Held, leasehold::broker::error::BrokerError> {
    let renewed = broker.renew(agent, &scene.world.id(), held.lease, None, proof).await?;
    Ok(Held::of(&renewed, None))
}

/// Two tasks, which lie anywhere in the store, at two brokers, at once.
async fn class_23_of_two_requests_that_show_one_proof_together_exactly_one_is_answered(
    scene: Scene,
) {
    let client = Client::new();
    let scene = Arc::new(scene);
    let agent = scene.world.caller(&agent_of(0));
    for round in 0..ROUNDS {
        let proof = client.proof(&scene, ISSUE);
        let mut racing = tokio::task::JoinSet::new();
        for n in 0..2 {
            let task = scene.begin(spec(&agent_of(0))).await.task.id;
            let (scene, agent, request) = (scene.clone(), agent.clone(), bound(task, &proof));
            racing.spawn(async move {
                let broker = if n == 0 { &scene.a } else { &scene.b };
                broker.issue(&agent, &scene.world.id(), request).await.map(drop)
            });
        }
        let (done, refused): (Vec<_>, Vec<_>) =
            racing.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((done.len(), refused.len()), (1, 1), "round {round}: {refused:?}");
        let refused = refused.into_iter().next().unwrap();
        assert_eq!(reason(refused), "PROOF_REPLAYED");
    }
}

async fn class_23_a_proof_that_was_shown_is_good_for_no_other_request(scene: Scene) {
    let client = Client::new();
    let (task, agent, _) = held(&scene, &client).await;
    let other = scene.begin(spec(&agent_of(0))).await.task.id;
    let proof = client.proof(&scene, ISSUE);
    scene.issue_at(&scene.a, &agent, bound(task, &proof)).await.unwrap();
    for (broker, task) in [(&scene.a, task), (&scene.b, task), (&scene.b, other)] {
        let again = scene.issue_at(broker, &agent, bound(task, &proof)).await;
        assert_eq!(reason(again), "PROOF_REPLAYED");
    }
    scene.issue_at(&scene.b, &agent, bound(other, &client.proof(&scene, ISSUE))).await.unwrap();
}

async fn the_same_request_may_show_its_proof_again_or_a_new_one_of_the_same_key(scene: Scene) {
    let client = Client::new();
    let (task, agent, _) = held(&scene, &client).await;
    let (id, proof) = (request(0xd901, "dpop"), client.proof(&scene, ISSUE));
    let first = scene.a.issue(&agent, &id, bound(task, &proof)).await.unwrap();
    let first = Held::of(&first, None);
    for proof in [proof, client.proof(&scene, ISSUE)] {
        let again = scene.b.issue(&agent, &id, bound(task, &proof)).await.unwrap();
        let again = Held::of(&again, None);
        assert_eq!((again.jti, again.lease), (first.jti, first.lease));
    }
    let thief = Client::new().proof(&scene, ISSUE);
    let stolen = scene.b.issue(&agent, &id, bound(task, &thief)).await;
    assert_eq!(reason(stolen), "PROOF_INVALID", "the first answer is bound to another key");
}

/// A request that was refused has no answer that would hold its id: the proof itself knows what it was shown for.
async fn class_23_a_proof_goes_with_no_other_body_under_the_id_of_a_request_that_was_refused(
    scene: Scene,
) {
    let client = Client::new();
    let (task, agent, _) = held(&scene, &client).await;
    let proof = client.proof(&scene, ISSUE);
    let nowhere =
        IssueRequest { audience: "https://nowhere.example".to_owned(), ..bound(task, &proof) };
    let refused = scene.a.issue(&agent, &request(0xd902, "nowhere"), nowhere.clone()).await;
    assert_eq!(reason(refused), "TARGET_NOT_ALLOWED");
    let other = scene.b.issue(&agent, &request(0xd902, "other"), bound(task, &proof)).await;
    assert_eq!(reason(other), "PROOF_REPLAYED");
    let same = scene.b.issue(&agent, &request(0xd902, "nowhere"), nowhere).await;
    assert_eq!(reason(same), "TARGET_NOT_ALLOWED");
}

async fn class_26_a_proof_is_refused_when_its_time_is_over(scene: Scene) {
    let client = Client::new();
    let (task, agent, _) = held(&scene, &client).await;
    let proof = client.proof(&scene, ISSUE);
    scene.forward(59).await;
    scene.issue_at(&scene.a, &agent, bound(task, &proof)).await.unwrap();
    scene.forward(2).await;
    for partition in scene.world.store.upkeep.constants().partitions.all() {
        scene.world.store.upkeep.prune(partition, scene.world.clock.now()).await.unwrap();
    }
    let late = scene.issue_at(&scene.b, &agent, bound(task, &proof)).await;
    assert_eq!(reason(late), "PROOF_INVALID", "what was forgotten is too old");
    let future = scene.world.clock.now().plus(Span::from_seconds(62));
    let early = bound(task, &client.proof_at(future, ISSUE, None));
    assert_eq!(reason(scene.issue_at(&scene.a, &agent, early).await), "PROOF_INVALID");
}

/// A broker whose own clock stands still would take the proof for a new one; the store does not.
#[tokio::test]
async fn class_26_the_stores_clock_says_when_a_proof_is_too_old_whatever_a_brokers_says() {
    let scene = Scene::on_model().await;
    let client = Client::new();
    let (task, agent, _) = held(&scene, &client).await;
    let proof = client.proof(&scene, ISSUE);
    let behind = leasehold::testing::clock::TestClock::at(scene.world.clock.now());
    let slow = scene.world.broker_at(Arc::new(behind));
    scene.issue_at(&scene.a, &agent, bound(task, &proof)).await.unwrap();
    scene.forward(61).await;
    for partition in scene.world.store.upkeep.constants().partitions.all() {
        scene.world.store.upkeep.prune(partition, scene.world.clock.now()).await.unwrap();
    }
    assert_eq!(reason(scene.issue_at(&slow, &agent, bound(task, &proof)).await), "PROOF_INVALID");
}

#[tokio::test]
async fn class_08_a_lease_is_renewed_by_the_key_that_it_is_bound_to_and_no_other() {
    let scene = Scene::on_model().await;
    let client = Client::new();
    let (task, agent, held) = held(&scene, &client).await;
    let with = |client: &Client, path| Some(RenewalProof::Dpop(client.proof(&scene, path)));
    let renew = async |proof| renewed((&scene, &scene.b), &agent, &held, proof).await;
    assert_eq!(reason(renew(None).await), "PROOF_INVALID");
    assert_eq!(reason(renew(with(&Client::new(), RENEW)).await), "PROOF_INVALID");
    let csr = RenewalProof::Csr(super::scene::new_csr());
    assert_eq!(reason(renew(Some(csr)).await), "REQUEST_INVALID");
    let for_issue = ShownProof { path: RENEW, ..client.proof(&scene, ISSUE) };
    assert_eq!(reason(renew(Some(RenewalProof::Dpop(for_issue))).await), "PROOF_INVALID");

    let proof = client.proof(&scene, RENEW);
    let next = renew(Some(RenewalProof::Dpop(proof.clone()))).await.unwrap();
    assert!(scene.is_active(&scene.a, &next).await);
    assert_eq!(reason(renew(Some(RenewalProof::Dpop(proof))).await), "PROOF_REPLAYED");

    let unbound = scene.issue(&agent, task).await.unwrap();
    let proof = with(&client, RENEW);
    let refused = renewed((&scene, &scene.a), &agent, &unbound, proof).await;
    assert_eq!(reason(refused), "REQUEST_INVALID", "bound to a certificate");
}

#[tokio::test]
async fn a_token_says_which_key_it_is_bound_to_and_introspection_says_it_too() {
    let scene = Scene::on_model().await;
    let client = Client::new();
    let (_, agent, held) = held(&scene, &client).await;
    let lease = scene.a.get_lease(&agent, held.lease).await.unwrap().lease;
    assert_eq!((lease.draft.jkt, lease.draft.key_thumbprint), (Some(client.jkt()), None));
    let said = scene.b.introspect(&scene.ledger, held.presented()).await.unwrap().unwrap();
    let jkt = serde_json::json!({ "jkt": base64url::encode(client.jkt()) });
    assert_eq!((&said.claims["cnf"], &said.claims["token_type"]), (&jkt, &"DPoP".into()));
}

#[tokio::test]
async fn class_23_where_a_nonce_is_required_a_proof_without_one_gets_one_that_every_broker_takes() {
    let scene = Scene::on_model().await;
    let client = Client::new();
    let (task, agent, _) = held(&scene, &client).await;
    let [a, b] = [(); 2].map(|()| {
        scene.world.broker_that(|settings| {
            settings.dpop.is_nonce_required = true;
        })
    });
    let now = scene.world.clock.now();
    let shown = |nonce: Option<&str>| bound(task, &client.proof_at(now, ISSUE, nonce));
    let refused = super::scene::refused(scene.issue_at(&a, &agent, shown(None)).await);
    let Refusal::ProofNonceRequired { nonce } = refused else { panic!("{refused:?}") };
    let made_up = scene.issue_at(&a, &agent, shown(Some("bm9uY2U"))).await;
    assert_eq!(reason(made_up), "PROOF_NONCE_REQUIRED");
    scene.issue_at(&b, &agent, shown(Some(&nonce))).await.unwrap();
}

/// A nonce says that a proof is new, and is good for every proof of its time: it makes no old proof a new one.
#[tokio::test]
async fn class_23_a_nonce_that_is_used_again_makes_no_proof_new_and_ends_with_its_time() {
    let scene = Scene::on_model().await;
    let client = Client::new();
    let (task, agent, _) = held(&scene, &client).await;
    let [a, b] = [(); 2].map(|()| {
        scene.world.broker_that(|settings| {
            settings.dpop.is_nonce_required = true;
        })
    });
    let proof = |nonce: Option<&str>| client.proof_at(scene.world.clock.now(), ISSUE, nonce);
    let refused = scene.issue_at(&a, &agent, bound(task, &proof(None))).await;
    let Refusal::ProofNonceRequired { nonce } = super::scene::refused(refused) else { panic!() };
    let first = proof(Some(&nonce));
    scene.issue_at(&a, &agent, bound(task, &first)).await.unwrap();
    for broker in [&a, &b] {
        let again = scene.issue_at(broker, &agent, bound(task, &first)).await;
        assert_eq!(reason(again), "PROOF_REPLAYED");
        scene.issue_at(broker, &agent, bound(task, &proof(Some(&nonce)))).await.unwrap();
    }
    scene.forward(300).await;
    let late = scene.issue_at(&b, &agent, bound(task, &proof(Some(&nonce)))).await;
    let Refusal::ProofNonceRequired { nonce: next } = super::scene::refused(late) else { panic!() };
    assert_ne!(next, nonce);
}
