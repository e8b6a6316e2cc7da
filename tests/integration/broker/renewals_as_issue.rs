//! A renewal passes whatever an issue passes, as things are now and not as they were when the lease began.

use std::sync::Arc;

use async_trait::async_trait;
use leasehold::broker::access::Caller;
use leasehold::broker::request::{
    CredentialRequest, IssueRequest, RenewalProof, TaskSpec, TokenProof,
};
use leasehold::broker::{Broker, Parts, Settings};
use leasehold::domain::principal::Principal;
use leasehold::domain::role::{AgentClass, Role};
use leasehold::domain::task::Pin;
use leasehold::domain::tier::ProofRequirement;
use leasehold::domain::time::Stamp;
use leasehold::policy::{Action, Policy, PolicyError, Question, Verdict};
use leasehold::store::{Commit, Lane, Write};
use leasehold::testing::world::{RESEARCH, settings};
use parking_lot::Mutex;

use super::scene::{Held, ParseName, Scene, agent_of, new_csr, reason, spec, token};

/// A root task's agent, and a credential of it.
async fn held(scene: &Scene, tier: &str, credential: CredentialRequest) -> (Caller, Held) {
    let agent = scene.world.caller(&agent_of(0));
    let task = TaskSpec { tier: Some(tier.parse_name()), ..spec(&agent_of(0)) };
    let task = scene.begin(task).await.task.id;
    let request = IssueRequest { ttl_seconds: Some(300), credential, ..token(task) };
    let held = scene.issue_at(&scene.a, &agent, request).await.unwrap();
    (agent, held)
}

const BOUND: CredentialRequest = CredentialRequest::AccessToken(TokenProof::CallerCertificate);
const BEARER: CredentialRequest = CredentialRequest::AccessToken(TokenProof::Bearer);

/// A broker over the same store whose configuration says something else by now, and what it takes its caller for.
fn changed(scene: &Scene, caller: &Caller, change: impl FnOnce(&mut Settings)) -> (Broker, Caller) {
    let mut settings = settings();
    change(&mut settings);
    let caller = Caller::new(caller.identity().clone(), &settings.roles).unwrap();
    (Broker::new(scene.world.parts(), settings), caller)
}

fn class(settings: &mut Settings) -> &mut AgentClass {
    let mut classes = settings.roles.iter_mut().filter_map(|entry| match &mut entry.role {
        Role::Agent(class) if class.name.as_str() == "finance" => Some(class),
        _ => None,
    });
    classes.next().unwrap()
}

#[tokio::test]
async fn an_agent_whose_class_may_no_longer_use_the_tier_does_not_renew() {
    let scene = Scene::on_model().await;
    let (agent, held) = held(&scene, "standard", BOUND).await;
    let (broker, agent) = changed(&scene, &agent, |settings| class(settings).tiers.clear());
    assert_eq!(reason(scene.renew_at(&broker, &agent, &held).await), "POLICY_DENIED");
}

#[tokio::test]
async fn an_agent_that_is_of_another_class_by_now_does_not_renew() {
    let scene = Scene::on_model().await;
    let (agent, held) = held(&scene, "standard", BOUND).await;
    let (broker, agent) =
        changed(&scene, &agent, |settings| class(settings).name = "research".parse_name());
    assert_eq!(reason(scene.renew_at(&broker, &agent, &held).await), "NOT_FOUND");
}

#[tokio::test]
async fn an_agent_without_a_role_does_not_renew() {
    let scene = Scene::on_model().await;
    let (agent, held) = held(&scene, "standard", BOUND).await;
    let (broker, agent) = changed(&scene, &agent, |settings| settings.roles.clear());
    assert_eq!(reason(scene.renew_at(&broker, &agent, &held).await), "ROLE_MISSING");
}

#[tokio::test]
async fn a_bearer_token_is_not_renewed_once_its_tier_wants_proof() {
    let scene = Scene::on_model().await;
    let (agent, held) = held(&scene, "relaxed", BEARER).await;
    scene.renew_at(&scene.b, &agent, &held).await.unwrap();
    let (broker, agent) = changed(&scene, &agent, |settings| {
        settings.tiers.iter_mut().for_each(|tier| tier.proof = ProofRequirement::Required);
    });
    assert_eq!(reason(scene.renew_at(&broker, &agent, &held).await), "PROOF_INVALID");
}

#[tokio::test]
async fn class_04_a_renewal_lives_as_long_as_its_tier_gives_by_now() {
    let scene = Scene::on_model().await;
    let (agent, held) = held(&scene, "standard", BOUND).await;
    let (broker, agent) = changed(&scene, &agent, |settings| {
        settings.tiers.iter_mut().for_each(|tier| tier.ttl_seconds = 20);
    });
    let renewed = scene.renew_at(&broker, &agent, &held).await.unwrap();
    assert_eq!(renewed.expires - renewed.issued, 20);
}

#[tokio::test]
async fn class_16_a_renewed_certificate_is_kept_for_lists_if_it_is_long_now() {
    let scene = Scene::on_model().await;
    let csr = new_csr();
    let (agent, held) = held(&scene, "long", CredentialRequest::X509Svid(csr.clone())).await;
    let renew = async |ttl| {
        let id = scene.world.id();
        let proof = Some(RenewalProof::Csr(csr.clone()));
        scene.b.renew(&agent, &id, held.lease, ttl, proof).await
    };
    let partition = held.lease.partition();
    let kept = async || {
        let kept = scene.world.store.upkeep.certificates(partition, Stamp::ZERO, 9).await;
        kept.unwrap().into_iter().map(|certificate| certificate.draft.jti).collect::<Vec<_>>()
    };
    let before = kept().await;
    renew(Some(900)).await.unwrap();
    assert_eq!(kept().await, before);
    let longer = renew(Some(901)).await.unwrap().lease.lease.draft.jti;
    assert_eq!(kept().await, [before, vec![longer]].concat());
}

/// The agents of the task above grew so many that no token has room for their names; and that is said before anything is
/// written.
#[tokio::test]
async fn a_renewal_that_would_not_fit_is_refused_before_its_commit() {
    let scene = Scene::on_model().await;
    let wide = TaskSpec { instances: 200, ..spec("spiffe://prod.example/agents/finance/*") };
    let root = scene.begin(wide).await.task.id;
    let child = scene.delegate(root, spec(RESEARCH)).await.unwrap().task.id;
    let agent = scene.world.caller(RESEARCH);
    let held = scene.issue(&agent, child).await.unwrap();
    let mut crowded = scene.a.get_task(&scene.ci, root).await.unwrap().task;
    crowded.pins = (0..200).map(|n| pin(&agent_of(n))).collect();
    let mut commit = Commit::new(root.partition(), Lane::Ordinary);
    commit.writes = vec![Write::Task { due: crowded.deadline, task: Box::new(crowded) }];
    scene.world.store.store.commit(commit).await.unwrap();
    let before = scene.a.get_lease(&agent, held.lease).await.unwrap().lease;
    let renewed = scene.renew_at(&scene.b, &agent, &held).await;
    assert_eq!(reason(renewed), "AUTHORIZATION_DETAILS_INVALID");
    assert_eq!(scene.a.get_lease(&agent, held.lease).await.unwrap().lease, before);
    assert!(scene.is_active(&scene.a, &held).await);
}

fn pin(agent: &str) -> Pin {
    Pin { principal: Principal::parse(agent).unwrap(), instance: agent.to_owned() }
}

/// Allows everything, and remembers what it was asked.
#[derive(Default)]
struct Remembering(Mutex<Vec<(Action, String)>>);

#[async_trait]
impl Policy for Remembering {
    async fn ask(&self, question: &Question<'_>) -> Result<Verdict, PolicyError> {
        let Question { action, .. } = *question;
        let rest = Question { action: Action::Issue, now: Stamp::ZERO, ..question.clone() };
        self.0.lock().push((action, format!("{rest:?}")));
        Ok(Verdict::Allow)
    }

    fn version(&self) -> String {
        "test/1".to_owned()
    }
}

#[tokio::test]
async fn policy_is_asked_at_a_renewal_what_it_was_asked_at_the_issue() {
    let scene = Scene::on_model().await;
    let policy = Arc::new(Remembering::default());
    let parts = Parts { policy: policy.clone(), ..scene.world.parts() };
    let broker = Broker::new(parts, settings());
    let (agent, task) = (scene.world.caller(&agent_of(0)), spec(&agent_of(0)));
    // Pinned before, so that the task is the same at both.
    let task = scene.begin(task).await.task.id;
    scene.issue(&agent, task).await.unwrap();
    let held = scene.issue_at(&broker, &agent, token(task)).await.unwrap();
    scene.renew_at(&broker, &agent, &held).await.unwrap();
    let asked = policy.0.lock().clone();
    let [(Action::Issue, issue), (Action::Renew, renew)] = &asked[..] else {
        panic!("asked otherwise: {asked:?}");
    };
    assert_eq!(issue, renew);
}
