//! What bounds a credential's life, a task's instances, and a child.

use arc_swap::ArcSwap;
use leasehold::broker::access::{Caller, Rpc};
use leasehold::broker::request::{
    CredentialRequest, Deadline, IssueRequest, RenewalProof, TaskSpec, TokenProof,
};
use leasehold::broker::{AdvanceRequest, Broker, Parts};
use leasehold::domain::clamp::Clamp;
use leasehold::domain::grant::Grant;
use leasehold::domain::id::{Partition, TaskId};
use leasehold::domain::refusal::Refusal;
use leasehold::domain::task::Agent;
use leasehold::domain::time::Span;
use leasehold::keys::{AuthorityFiles, AuthoritySource, SharedKeys};
use leasehold::store::{Entries, Query, RecordKey};
use leasehold::testing::ca::TestAuthority;
use leasehold::testing::keys::{self, keys_of};
use leasehold::testing::world::{BATCH, SEARCH_AUDIENCE, settings};

use super::endings::unchanged;
use super::scene::{ParseName, Scene, agent_of, new_csr, reason, refused, spec, token};

/// The limit that won, and how many seconds it left.
async fn clamped(scene: &Scene, agent: &Caller, request: IssueRequest) -> (Clamp, u64) {
    let held = scene.issue_at(&scene.b, agent, request).await.unwrap();
    let lease = scene.a.get_lease(agent, held.lease).await.unwrap().lease;
    (lease.clamp, held.expires - held.issued)
}

fn grant(json: &str) -> Grant {
    Grant::parse(json).unwrap()
}

fn briefly(seconds: u64) -> Grant {
    grant(&format!(
        r#"[{{"type":"resource_access","audience":"https://ledger.example","actions":["read"],"max_ttl_seconds":{seconds}}}]"#
    ))
}

async fn begin(scene: &Scene, spec: TaskSpec) -> IssueRequest {
    token(scene.begin(spec).await.task.id)
}

#[tokio::test]
async fn class_04_each_limit_wins_where_it_is_the_smallest_and_is_named() {
    let scene = Scene::on_model().await;
    let standard = || spec(&agent_of(0));
    let agent = scene.world.caller(&agent_of(0));
    let plain = begin(&scene, standard()).await;
    assert_eq!(clamped(&scene, &agent, plain.clone()).await, (Clamp::Tier, 300));
    for (asked, won) in [
        (60, (Clamp::Requested, 60)),
        (300, (Clamp::Requested, 300)),
        (301, (Clamp::Tier, 300)),
        (u64::MAX, (Clamp::Tier, 300)),
    ] {
        let request = IssueRequest { ttl_seconds: Some(asked), ..plain.clone() };
        assert_eq!(clamped(&scene, &agent, request).await, won);
    }
    let narrow = begin(&scene, TaskSpec { grant: briefly(120), ..standard() }).await;
    assert_eq!(clamped(&scene, &agent, narrow).await, (Clamp::Grant, 120));
    let deadline = Deadline::After(Span::from_seconds(200));
    let short = begin(&scene, TaskSpec { deadline, ..standard() }).await;
    assert_eq!(clamped(&scene, &agent, short.clone()).await, (Clamp::TaskDeadline, 200));
    let below = scene.delegate(short.task, standard()).await.unwrap().task.id;
    assert_eq!(clamped(&scene, &agent, token(below)).await, (Clamp::TaskDeadline, 200));
    let expiring = scene.a.now().plus(Span::from_seconds(90));
    let expiring = scene.world.caller_until(&agent_of(0), expiring);
    let again = begin(&scene, standard()).await;
    assert_eq!(clamped(&scene, &expiring, again).await, (Clamp::CallerCredential, 90));
}

#[tokio::test]
async fn class_04_no_token_outlives_the_key_that_signed_it() {
    let scene = Scene::on_model().await;
    let agent = scene.world.caller(&agent_of(0));
    let now = scene.a.now();
    let ends = scene.a.keys().access_token_key(now).unwrap().life().expires();
    scene.forward(ends.since(now).seconds() - 70).await;
    let request = begin(&scene, spec(&agent_of(0))).await;
    assert_eq!(clamped(&scene, &agent, request).await, (Clamp::SigningKey, 70));
}

/// A broker whose authority is an operator's own.
async fn broker_of(scene: &Scene, root: &TestAuthority, lower: &TestAuthority) -> Broker {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let authority = AuthoritySource::Files(AuthorityFiles {
        root: write("root.pem", &root.pem()),
        intermediate: Some(write("lower.pem", &lower.pem())),
        key: write("lower.key", &lower.key().serialize_pem()),
    });
    let keys = keys_of(scene.a.now(), keys::Settings { authority, ..keys::settings() }).await;
    let keys = SharedKeys::new(ArcSwap::from_pointee(keys));
    Broker::new(Parts { keys, ..scene.world.parts() }, settings())
}

/// A token that comes with a certificate ends with the certificate's authority, which here ends before the key of tokens; one
/// that comes without does not.
#[tokio::test]
async fn class_04_no_token_that_comes_with_a_certificate_outlives_the_authority_of_that() {
    let scene = Scene::on_model().await;
    let agent = scene.world.caller(&agent_of(0));
    let now = scene.a.now();
    let last = now.plus(Span::from_seconds(69));
    let root = TestAuthority::root("root");
    let lower = root.intermediate("lower", now.minus(Span::from_seconds(3_600)), last);
    let broker = broker_of(&scene, &root, &lower).await;
    let plain = begin(&scene, spec(&agent_of(0))).await;
    let beside = CredentialRequest::AccessToken(TokenProof::Csr(new_csr()));
    for (credential, won) in [
        (plain.credential.clone(), (Clamp::Tier, 300)),
        (beside, (Clamp::SigningKey, 70)),
        (CredentialRequest::X509Svid(new_csr()), (Clamp::SigningKey, 70)),
    ] {
        let request = IssueRequest { credential, ..plain.clone() };
        let held = scene.issue_at(&broker, &agent, request).await.unwrap();
        let lease = scene.a.get_lease(&agent, held.lease).await.unwrap().lease;
        assert_eq!((lease.clamp, held.expires - held.issued), won);
        let renewed = scene.renew_at(&broker, &agent, &held).await.unwrap();
        assert_eq!(renewed.expires - renewed.issued, won.1, "nor does the next one");
    }
}

#[tokio::test]
async fn class_04_each_audience_has_a_ceiling_of_its_own() {
    let scene = Scene::on_model().await;
    let agent = scene.world.caller(&agent_of(0));
    let deadline = Deadline::After(Span::from_seconds(7_200));
    let grant = grant(
        r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read"]},
            {"type":"resource_access","audience":"https://search.example","actions":["read"]}]"#,
    );
    let ledger = begin(&scene, TaskSpec { deadline, grant, ..spec(&agent_of(0)) }).await;
    let search = IssueRequest { audience: SEARCH_AUDIENCE.to_owned(), ..ledger.clone() };
    assert_eq!(clamped(&scene, &agent, ledger.clone()).await, (Clamp::Tier, 300));
    scene.forward(3_400).await;
    assert_eq!(clamped(&scene, &agent, ledger).await, (Clamp::LeaseCeiling, 200));
    assert_eq!(clamped(&scene, &agent, search).await, (Clamp::Tier, 300));
}

#[tokio::test]
async fn class_04_less_than_the_tier_s_minimum_is_refused_by_the_limit_s_name() {
    let scene = Scene::on_model().await;
    let agent = scene.world.caller(&agent_of(0));
    let plain = begin(&scene, spec(&agent_of(0))).await;
    let zero = IssueRequest { ttl_seconds: Some(0), ..plain.clone() };
    assert_eq!(reason(scene.issue_at(&scene.a, &agent, zero).await), "REQUEST_INVALID");
    let mut refusals = Vec::new();
    for ttl in [1, 9] {
        let request = IssueRequest { ttl_seconds: Some(ttl), ..plain.clone() };
        refusals.push((refused(scene.issue_at(&scene.a, &agent, request).await), ttl));
    }
    for (refusal, seconds) in refusals {
        let clamp = Clamp::Requested;
        assert_eq!(refusal, Refusal::TtlBelowMinimum { clamp, seconds, minimum: 10 });
    }
    let expires = scene.a.now().plus(Span::from_seconds(5));
    let expiring = scene.world.caller_until(&agent_of(0), expires);
    let refusal = refused(scene.issue_at(&scene.a, &expiring, plain).await);
    let clamp = Clamp::CallerCredential;
    assert_eq!(refusal, Refusal::TtlBelowMinimum { clamp, seconds: 5, minimum: 10 });
}

#[tokio::test]
async fn class_16_an_authority_that_may_sign_no_list_signs_no_certificate_that_needs_one() {
    let scene = Scene::on_model().await;
    let root = TestAuthority::root("root");
    let broker = broker_of(&scene, &root, &root.intermediate_without_lists()).await;
    let agent = scene.world.caller(&agent_of(0));
    let long = TaskSpec { tier: Some("long".parse_name()), ..spec(&agent_of(0)) };
    let request = begin(&scene, long).await;
    assert_eq!(clamped(&scene, &agent, request.clone()).await, (Clamp::Tier, 3_600));
    let credential = CredentialRequest::X509Svid(new_csr());
    let certificate = IssueRequest { credential, ..request.clone() };
    let credential = CredentialRequest::AccessToken(TokenProof::Csr(new_csr()));
    for wanted in [certificate.clone(), IssueRequest { credential, ..request.clone() }] {
        let refusal = refused(scene.issue_at(&broker, &agent, wanted).await);
        assert!(refusal.to_string().contains("`cRLSign`"), "{refusal}");
    }
    let key_id = broker.keys().authority(scene.a.now()).unwrap().key_id().to_owned();
    assert!(broker.revocation_list(&key_id).await.unwrap().is_none());
    let records = vec![RecordKey::RevocationList];
    let query = Query::new(Partition::ZERO, records, Entries::None);
    let found = scene.world.store.store.read(query).await.unwrap().records;
    assert!(found.into_iter().flatten().next().is_none(), "no number was taken for it");
    // A tier is long, and the authority's list is not tried in vain.
    broker.refresh_revocation_lists().await.unwrap();
    let shorter = IssueRequest { ttl_seconds: Some(900), ..certificate.clone() };
    scene.issue_at(&broker, &agent, shorter).await.unwrap();
    assert_eq!(clamped(&scene, &agent, certificate).await, (Clamp::Tier, 3_600));
    let leases = scene.a.list_leases(&agent, request.task, 0, "").await.unwrap().leases;
    assert_eq!(leases.len(), 3, "none of what was refused");
}

#[tokio::test]
async fn class_08_a_key_that_was_proved_for_one_task_is_no_key_of_another_of_the_tree() {
    let scene = Scene::on_model().await;
    let tree = scene.tree().await;
    let csr = new_csr();
    let x509 = |level: usize| {
        let credential = CredentialRequest::X509Svid(csr.clone());
        IssueRequest { credential, ..token(tree[level].task) }
    };
    scene.issue_at(&scene.a, &tree[1].agent, x509(1)).await.unwrap();
    scene.issue_at(&scene.b, &tree[1].agent, x509(1)).await.unwrap();
    let beside_a_token = CredentialRequest::AccessToken(TokenProof::Csr(csr.clone()));
    for request in [x509(2), IssueRequest { credential: beside_a_token, ..x509(2) }] {
        let other = scene.issue_at(&scene.b, &tree[2].agent, request).await;
        assert_eq!(reason(other), "PROOF_INVALID");
    }
    let [_, certificate] = &tree[2].held[..] else { panic!("a token and a certificate") };
    let id = scene.world.id();
    let renewed = scene
        .b
        .renew(&tree[2].agent, &id, certificate.lease, None, Some(RenewalProof::Csr(csr)))
        .await;
    assert_eq!(reason(renewed), "PROOF_INVALID");
}

#[tokio::test]
async fn a_tier_that_wants_proof_gives_no_bearer_token() {
    let scene = Scene::on_model().await;
    let agent = scene.world.caller(&agent_of(0));
    let bearer = CredentialRequest::AccessToken(TokenProof::Bearer);
    let strict = begin(&scene, spec(&agent_of(0))).await;
    let request = IssueRequest { credential: bearer.clone(), ..strict };
    assert_eq!(reason(scene.issue_at(&scene.a, &agent, request).await), "PROOF_INVALID");
    let relaxed = TaskSpec { tier: Some("relaxed".parse_name()), ..spec(&agent_of(0)) };
    let request = IssueRequest { credential: bearer, ..begin(&scene, relaxed).await };
    scene.issue_at(&scene.a, &agent, request).await.unwrap();
}

#[tokio::test]
async fn a_task_is_pinned_to_as_many_instances_as_it_says() {
    let scene = Scene::on_model().await;
    let pod = |uid| scene.world.pod(uid);
    let (one, two, three) = (pod("one").await, pod("two").await, pod("three").await);
    let task = scene.begin(TaskSpec { instances: 2, ..spec(BATCH) }).await.task.id;
    let request =
        || IssueRequest { credential: CredentialRequest::X509Svid(new_csr()), ..token(task) };
    scene.issue_at(&scene.a, &one, request()).await.unwrap();
    // Broker `b` knows the task with one instance only.
    scene.issue_at(&scene.b, &one, request()).await.unwrap();
    scene.issue_at(&scene.a, &two, request()).await.unwrap();
    for broker in [&scene.b, &scene.a] {
        let third = scene.issue_at(broker, &three, request()).await;
        assert_eq!(reason(third), "INSTANCE_MISMATCH");
        scene.issue_at(broker, &two, request()).await.unwrap();
    }
    // Whoever holds no task may not begin children below it either.
    let spec = spec(&agent_of(1));
    let delegated = scene.a.delegate(&three, &scene.world.id(), task, 1, spec).await;
    assert_eq!(reason(delegated), "INSTANCE_MISMATCH");
    // A handover makes room.
    let agent = Some(Agent::parse(BATCH).unwrap());
    let handover = AdvanceRequest { agent, ..unchanged(1) };
    scene.a.advance(&scene.ci, &scene.world.id(), task, handover).await.unwrap();
    scene.issue_at(&scene.b, &three, request()).await.unwrap();
}

#[tokio::test]
async fn class_05_a_child_ends_with_its_parent_s_deadline_and_is_as_fresh() {
    let scene = Scene::on_model().await;
    let deadline = Deadline::After(Span::from_seconds(100));
    let tier = Some("critical".parse_name());
    let parent = scene.begin(TaskSpec { deadline, tier, ..spec(&agent_of(0)) }).await.task;
    for deadline in [Deadline::Parent, Deadline::After(Span::from_seconds(9_000))] {
        let child = TaskSpec { deadline, ..spec(&agent_of(1)) };
        let child = scene.delegate(parent.id, child).await.unwrap().task;
        assert_eq!(child.deadline, parent.deadline);
        assert_eq!(child.freshness, parent.freshness);
        assert_eq!(child.orchestrator, parent.orchestrator);
        let held = scene.issue(&scene.world.caller(&agent_of(1)), child.id).await.unwrap();
        assert!(held.expires <= parent.deadline.seconds());
    }
}

#[tokio::test]
async fn class_21_nothing_widens_on_the_way_down() {
    let scene = Scene::on_model().await;
    let parent = scene.begin(TaskSpec { grant: briefly(60), ..spec(&agent_of(0)) }).await.task.id;
    let ledger = |actions: &str, more: &str| {
        grant(&format!(
            r#"[{{"type":"resource_access","audience":"https://ledger.example","actions":{actions}{more}}}]"#
        ))
    };
    let search = format!(
        r#"[{{"type":"resource_access","audience":"{SEARCH_AUDIENCE}","actions":["read"],"max_ttl_seconds":60}}]"#
    );
    let brief = r#","max_ttl_seconds":60"#;
    for wider in [
        ledger(r#"["read","write"]"#, brief),
        ledger(r#"["write"]"#, brief),
        ledger(r#"["read"]"#, ""),
        ledger(r#"["read"]"#, r#","max_ttl_seconds":61"#),
        ledger(r#"["read"]"#, r#","max_ttl_seconds":60,"data_class":["pii"]"#),
        grant(&search),
    ] {
        let child = TaskSpec { grant: wider, ..spec(&agent_of(1)) };
        assert_eq!(reason(scene.delegate(parent, child).await), "GRANT_WIDENS");
    }
    let child = TaskSpec { grant: briefly(30), ..spec(&agent_of(1)) };
    let child = scene.delegate(parent, child).await.unwrap().task.id;
    let advance = |grant| AdvanceRequest { grant: Some(grant), ..unchanged(1) };
    let widened = advance(briefly(61));
    let widened = scene.a.advance(&scene.ci, &scene.world.id(), child, widened).await;
    assert_eq!(reason(widened), "GRANT_WIDENS");
    let within = advance(briefly(60));
    scene.a.advance(&scene.ci, &scene.world.id(), child, within).await.unwrap();
    // Children cannot be kept where they might be left with more than their parent.
    let keeping = AdvanceRequest { keep_children: true, ..advance(briefly(10)) };
    let kept = scene.a.advance(&scene.ci, &scene.world.id(), parent, keeping).await;
    assert_eq!(reason(kept), "REQUEST_INVALID");
}

#[tokio::test]
async fn class_21_a_parent_s_agent_does_not_speak_for_the_child() {
    let scene = Scene::on_model().await;
    let tree = scene.tree().await;
    assert_eq!(reason(scene.issue(&tree[0].agent, tree[1].task).await), "NOT_FOUND");
    assert_eq!(reason(scene.issue(&tree[1].agent, tree[0].task).await), "NOT_FOUND");
    let renewed = scene.renew_at(&scene.a, &tree[0].agent, &tree[1].held[0]).await;
    assert_eq!(reason(renewed), "NOT_FOUND");
    // Who acts is what the tasks say, not what anybody sends.
    let lease = scene.a.get_lease(&scene.operator, tree[2].held[0].lease).await.unwrap().lease;
    let actors: Vec<_> = lease.draft.actors.iter().map(|actor| actor.as_str()).collect();
    assert_eq!(actors, [agent_of(2), agent_of(1), agent_of(0)]);
    assert_eq!(lease.draft.subject.as_str(), agent_of(0));
}

#[tokio::test]
async fn class_21_trees_grow_eight_deep_and_no_deeper() {
    let scene = Scene::on_model().await;
    let root = scene.begin(spec(&agent_of(0))).await.task;
    assert_eq!(root.depth(), 0, "the root is no level");
    let mut task = root;
    for depth in 1..=8 {
        task = scene.delegate(task.id, spec(&agent_of(depth))).await.unwrap().task;
        assert_eq!(task.depth(), depth);
    }
    assert_eq!(reason(scene.delegate(task.id, spec(&agent_of(9))).await), "REQUEST_INVALID");
    // Nine tasks in a line fit into credentials of both kinds.
    let deepest = scene.held_level(task.id, scene.world.caller(&agent_of(8))).await;
    scene.must_go_on(&deepest).await;
}

#[tokio::test]
async fn class_21_a_task_has_sixty_four_living_children_and_no_more() {
    let scene = Scene::on_model().await;
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let mut last = task;
    for _ in 0..64 {
        last = scene.delegate(task, spec(&agent_of(1))).await.unwrap().task.id;
    }
    assert_eq!(reason(scene.delegate(task, spec(&agent_of(1))).await), "REQUEST_INVALID");
    scene.end(Rpc::CompleteTask, last).await.unwrap();
    scene.delegate(task, spec(&agent_of(1))).await.unwrap();
    assert_eq!(reason(scene.delegate(task, spec(&agent_of(1))).await), "REQUEST_INVALID");
}

#[tokio::test]
async fn class_06_nothing_is_delegated_below_a_task_that_is_not_active_or_in_another_epoch() {
    let scene = Scene::on_model().await;
    let tree = scene.tree().await;
    let delegate = |parent, epoch| delegated_at_b(&scene, parent, epoch);
    assert_eq!(delegate(tree[2].task, 2).await, "EPOCH_STALE");
    let (root, id) = (tree[0].task, scene.world.id());
    scene.a.suspend(&scene.ci, &id, root, String::new()).await.unwrap();
    assert_eq!(delegate(tree[2].task, 1).await, "TASK_SUSPENDED");
    assert_eq!(delegate(root, 2).await, "TASK_SUSPENDED");
    scene.end(Rpc::CompleteTask, root).await.unwrap();
    assert_eq!(delegate(tree[2].task, 1).await, "TASK_ENDED");
    assert_eq!(delegate(root, 2).await, "TASK_ENDED");
}

async fn delegated_at_b(scene: &Scene, parent: TaskId, epoch: u64) -> &'static str {
    let id = scene.world.id();
    reason(scene.b.delegate(&scene.ci, &id, parent, epoch, spec(&agent_of(1))).await)
}
