//! Renewing is a new credential after fresh proof, never an extension: who may not, when not, and how far.

use leasehold::broker::request::{
    CredentialRequest, IssueRequest, RenewalProof, TaskSpec, TokenProof,
};
use leasehold::domain::clamp::Clamp;
use leasehold::domain::grant::Grant;
use leasehold::domain::refusal::Refusal;
use leasehold::domain::time::Span;
use leasehold::testing::world::BATCH;

use super::endings::unchanged;
use super::scene::{Held, Scene, agent_of, new_csr, reason, refused, spec, token};
use super::stores::over_stores_with_our_clock;

over_stores_with_our_clock! {
    a_renewed_credential_is_a_new_one_under_the_same_lease,
    class_04_nothing_is_renewed_at_or_after_its_expiry,
    class_04_renewals_end_at_the_ceiling_from_first_issue,
    class_04_the_ceiling_survives_release_and_issuing_anew,
    class_04_a_ceiling_that_is_reached_stays_so_as_long_as_the_task_lives,
    class_06_a_lease_of_an_earlier_epoch_is_not_renewed,
}

/// A root task, its agent, and a token of it.
async fn held(scene: &Scene) -> (leasehold::broker::access::Caller, Held) {
    let agent = scene.world.caller(&agent_of(0));
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let held = scene.issue(&agent, task).await.unwrap();
    (agent, held)
}

async fn a_renewed_credential_is_a_new_one_under_the_same_lease(scene: Scene) {
    let (agent, first) = held(&scene).await;
    scene.forward(100).await;
    let renewed = scene.renew_at(&scene.b, &agent, &first).await.unwrap();
    assert_eq!(renewed.lease, first.lease);
    assert_ne!(renewed.jti, first.jti);
    assert_eq!((renewed.issued, renewed.expires), (first.issued + 100, first.expires + 100));
    assert_eq!(scene.a.get_lease(&agent, first.lease).await.unwrap().lease.draft.renewals, 1);
    // The predecessor lives to its own end.
    assert!(scene.is_active(&scene.a, &first).await);
    scene.forward(200).await;
    assert!(!scene.is_active(&scene.a, &first).await);
    assert!(scene.is_active(&scene.a, &renewed).await);
}

#[tokio::test]
async fn class_08_another_principal_does_not_renew() {
    let scene = Scene::on_model().await;
    let (_, held) = held(&scene).await;
    let other = scene.world.caller(&agent_of(1));
    assert_eq!(reason(scene.renew_at(&scene.a, &other, &held).await), "NOT_FOUND");
    assert_eq!(reason(scene.a.release(&other, &scene.world.id(), held.lease).await), "NOT_FOUND");
    assert!(scene.is_active(&scene.a, &held).await);
}

#[tokio::test]
async fn class_08_another_instance_of_the_same_principal_does_not_renew() {
    let scene = Scene::on_model().await;
    let [one, other] = [scene.world.pod("one").await, scene.world.pod("other").await];
    let task = scene.begin(spec(BATCH)).await.task.id;
    let level = scene.held_level(task, one.clone()).await;
    for broker in [&scene.a, &scene.b] {
        for held in &level.held {
            let renewed = scene.renew_at(broker, &other, held).await;
            assert_eq!(reason(renewed), "INSTANCE_MISMATCH");
        }
    }
    let released = scene.a.release(&other, &scene.world.id(), level.held[0].lease).await;
    assert_eq!(reason(released), "INSTANCE_MISMATCH");
    scene.must_go_on(&level).await;
}

/// A lease may be bound to the certificate that took the place of the first, and the token dies with the certificate.
#[tokio::test]
async fn class_08_a_token_is_bound_anew_to_a_rotated_certificate_and_never_outlives_it() {
    let scene = Scene::on_model().await;
    let (_, held) = held(&scene).await;
    let expires = scene.a.now().plus(Span::from_seconds(120));
    let rotated = scene.world.caller_until(&agent_of(0), expires);
    let renewed = scene.renew_at(&scene.a, &rotated, &held).await.unwrap();
    assert_eq!(renewed.expires, expires.seconds());
    let lease = scene.a.get_lease(&rotated, held.lease).await.unwrap().lease;
    assert_eq!(lease.clamp, Clamp::CallerCredential);
    assert_eq!(lease.draft.key_thumbprint, rotated.identity().certificate_thumbprint());
}

#[tokio::test]
async fn class_08_a_lease_is_renewed_in_the_way_that_it_was_bound() {
    let scene = Scene::on_model().await;
    let (agent, held) = held(&scene).await;
    let csr = Some(RenewalProof::Csr(new_csr()));
    let renewed = scene.a.renew(&agent, &scene.world.id(), held.lease, None, csr).await;
    assert_eq!(reason(renewed), "REQUEST_INVALID");
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let credential = CredentialRequest::AccessToken(TokenProof::Csr(new_csr()));
    let request = IssueRequest { credential, ..token(task) };
    let held = scene.issue_at(&scene.a, &agent, request).await.unwrap();
    let renewed = scene.a.renew(&agent, &scene.world.id(), held.lease, None, None).await;
    assert_eq!(reason(renewed), "REQUEST_INVALID");
}

async fn class_04_nothing_is_renewed_at_or_after_its_expiry(scene: Scene) {
    let (agent, held) = held(&scene).await;
    scene.forward(299).await;
    let renewed = scene.renew_at(&scene.b, &agent, &held).await.unwrap();
    scene.forward(300).await;
    assert_eq!(reason(scene.renew_at(&scene.b, &agent, &renewed).await), "LEASE_REVOKED");
    scene.forward(1).await;
    assert_eq!(reason(scene.renew_at(&scene.a, &agent, &renewed).await), "LEASE_REVOKED");
    assert!(!scene.is_active(&scene.a, &renewed).await);
}

/// A task that lives for longer than the tier's ceiling, its agent, and a token of it.
async fn long(scene: &Scene) -> (leasehold::broker::access::Caller, IssueRequest, Held) {
    let deadline = leasehold::broker::request::Deadline::After(Span::from_seconds(40_000));
    let long = TaskSpec { deadline, ..spec(&agent_of(0)) };
    let task = scene.begin(long).await.task.id;
    let agent = scene.world.caller(&agent_of(0));
    let held = scene.issue(&agent, task).await.unwrap();
    (agent, token(task), held)
}

async fn class_04_renewals_end_at_the_ceiling_from_first_issue(scene: Scene) {
    let (agent, request, first) = long(&scene).await;
    let ceiling = first.issued + 3_600;
    let mut last = first.clone();
    for _ in 0..14 {
        scene.forward(250).await;
        last = scene.renew_at(&scene.b, &agent, &last).await.unwrap();
        assert!(last.expires <= ceiling);
    }
    assert_eq!(last.expires, ceiling);
    let lease = scene.a.get_lease(&agent, first.lease).await.unwrap().lease;
    assert_eq!((lease.clamp, lease.ceiling_seconds()), (Clamp::LeaseCeiling, ceiling));
    // Within the tier's minimum of the ceiling, and within a second of it.
    for seconds in [91, 8] {
        scene.forward(seconds).await;
        let renewed = scene.renew_at(&scene.b, &agent, &last).await;
        assert_eq!(refused(renewed), Refusal::CeilingReached);
        let issued = scene.issue_at(&scene.b, &agent, request.clone()).await;
        assert_eq!(refused(issued), Refusal::CeilingReached);
    }
}

async fn class_04_the_ceiling_survives_release_and_issuing_anew(scene: Scene) {
    let (agent, request, first) = long(&scene).await;
    let ceiling = first.issued + 3_600;
    scene.a.release(&agent, &scene.world.id(), first.lease).await.unwrap();
    scene.forward(3_500).await;
    let again = scene.issue_at(&scene.b, &agent, request.clone()).await.unwrap();
    assert_eq!(again.expires, ceiling);
    // An advance does not lift it either.
    scene.a.advance(&scene.ci, &scene.world.id(), request.task, unchanged(1)).await.unwrap();
    let next = scene.issue_at(&scene.b, &agent, request.clone()).await.unwrap();
    assert_eq!(next.expires, ceiling);
    scene.forward(101).await;
    scene.a.sweep().await.unwrap();
    assert_eq!(refused(scene.issue_at(&scene.b, &agent, request).await), Refusal::CeilingReached);
}

async fn class_04_a_ceiling_that_is_reached_stays_so_as_long_as_the_task_lives(scene: Scene) {
    let (agent, request, _) = long(&scene).await;
    for _ in 0..10 {
        scene.forward(3_700).await;
        scene.a.sweep().await.unwrap();
        let issued = scene.issue_at(&scene.b, &agent, request.clone()).await;
        assert_eq!(refused(issued), Refusal::CeilingReached);
    }
}

async fn class_06_a_lease_of_an_earlier_epoch_is_not_renewed(scene: Scene) {
    let (agent, held) = held(&scene).await;
    let task = scene.a.get_lease(&agent, held.lease).await.unwrap().lease.draft.path.own().task;
    scene.a.advance(&scene.ci, &scene.world.id(), task, unchanged(1)).await.unwrap();
    for broker in [&scene.b, &scene.a] {
        assert_eq!(reason(scene.renew_at(broker, &agent, &held).await), "LEASE_REVOKED");
    }
}

/// A narrower grant is a new epoch, so the wider lease is not renewed; what is issued anew fits.
#[tokio::test]
async fn class_06_a_lease_of_a_wider_grant_is_not_renewed() {
    let scene = Scene::on_model().await;
    let (agent, held) = held(&scene).await;
    let task = scene.a.get_lease(&agent, held.lease).await.unwrap().lease.draft.path.own().task;
    let narrow =
        r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read"]}]"#;
    let grant = Grant::parse(narrow).unwrap();
    let narrowing =
        leasehold::broker::AdvanceRequest { grant: Some(grant.clone()), ..unchanged(1) };
    scene.a.advance(&scene.ci, &scene.world.id(), task, narrowing).await.unwrap();
    assert_eq!(reason(scene.renew_at(&scene.b, &agent, &held).await), "LEASE_REVOKED");
    let issued = scene.issue_at(&scene.b, &agent, token(task)).await.unwrap();
    assert_eq!(scene.a.get_lease(&agent, issued.lease).await.unwrap().lease.draft.grant, grant);
    let wide = IssueRequest { asked: Some(leasehold::testing::scenario::grant()), ..token(task) };
    assert_eq!(reason(scene.issue_at(&scene.b, &agent, wide).await), "POLICY_DENIED");
}
