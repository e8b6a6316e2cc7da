//! The same request acts once and is answered as the first time; another body under its id is refused.

use leasehold::broker::access::Rpc;
use leasehold::broker::request::{Deadline, Idempotency, TaskSpec};
use leasehold::domain::scope::Scope;
use leasehold::domain::time::Span;
use leasehold::testing::world::{CI_TOO, request};

use super::endings::unchanged;
use super::scene::{Held, Scene, agent_of, reason, spec, token};
use super::stores::over_every_store;

over_every_store! {
    a_replayed_begin_is_the_first_task_as_it_was_then,
    a_replayed_delegate_is_the_first_child,
    a_replayed_command_answers_the_first_result_though_the_task_went_on,
    a_command_that_found_it_so_already_does_not_act_when_it_is_replayed,
    a_replayed_issue_is_the_same_credential_while_it_lives,
    a_replayed_renewal_is_the_same_credential_while_it_lives,
    a_replayed_issue_is_the_first_credential_though_the_lease_was_renewed,
    a_request_is_known_as_long_as_its_lease_and_a_new_one_after_that,
    class_06_a_replayed_issue_of_a_dead_credential_is_refused,
    class_23_another_body_under_a_request_id_is_refused,
    another_caller_s_request_of_the_same_id_is_another_request,
}

/// The same id, with a body.
fn id(body: &str) -> Idempotency {
    request(0xffff, body)
}

async fn a_replayed_begin_is_the_first_task_as_it_was_then(scene: Scene) {
    let first = scene.a.begin(&scene.ci, &id("x"), spec(&agent_of(0))).await.unwrap().task;
    scene.a.advance(&scene.ci, &scene.world.id(), first.id, unchanged(1)).await.unwrap();
    for broker in [&scene.b, &scene.a] {
        let again = broker.begin(&scene.ci, &id("x"), spec(&agent_of(0))).await.unwrap().task;
        assert_eq!((again.id, again.epoch), (first.id, first.epoch));
    }
    let page = scene.a.list_tasks(&scene.operator, 0, "", None).await.unwrap();
    assert_eq!(page.tasks.len(), 1);
}

async fn a_replayed_delegate_is_the_first_child(scene: Scene) {
    let root = scene.begin(spec(&agent_of(0))).await.task.id;
    let child = spec(&agent_of(1));
    let first = scene.a.delegate(&scene.ci, &id("x"), root, 1, child.clone()).await.unwrap().task;
    // The parent's epoch has moved on, and the child is over.
    scene.a.advance(&scene.ci, &scene.world.id(), root, unchanged(1)).await.unwrap();
    for broker in [&scene.b, &scene.a] {
        let again = broker.delegate(&scene.ci, &id("x"), root, 1, child.clone()).await.unwrap();
        assert_eq!(again.task.id, first.id);
    }
    let page = scene.a.list_tasks(&scene.operator, 0, "", None).await.unwrap();
    assert_eq!(page.tasks.len(), 2);
}

async fn a_replayed_command_answers_the_first_result_though_the_task_went_on(scene: Scene) {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let advanced = scene.a.advance(&scene.ci, &id("x"), task, unchanged(1)).await.unwrap().0.task;
    let suspending = request(0xfffe, "");
    let text = String::new;
    scene.a.suspend(&scene.ci, &suspending, task, text()).await.unwrap();
    scene.a.resume(&scene.ci, &request(0xfffd, ""), task, 3).await.unwrap();
    for broker in [&scene.b, &scene.a] {
        let again = broker.advance(&scene.ci, &id("x"), task, unchanged(1)).await.unwrap().0.task;
        assert_eq!(again.epoch, advanced.epoch);
        broker.suspend(&scene.ci, &suspending, task, text()).await.unwrap();
        assert_eq!(scene.state(task).await, leasehold::domain::task::State::Active);
    }
    let ending = request(0xfffc, "");
    let end = |rpc| scene.b.end(&scene.ci, &ending, rpc, task, text());
    let first = end(Rpc::CompleteTask).await.unwrap().0.task;
    assert_eq!(end(Rpc::CompleteTask).await.unwrap().0.task, first);
    let again = scene.a.end(&scene.ci, &scene.world.id(), Rpc::CompleteTask, task, text()).await;
    assert_eq!(again.unwrap().0.task, first);
    assert_eq!(reason(scene.end(Rpc::FailTask, task).await), "TASK_ENDED");
    // What was answered while it lived is still answered so.
    let again = scene.b.advance(&scene.ci, &id("x"), task, unchanged(1)).await.unwrap().0.task;
    assert_eq!((again.id, again.epoch), (task, advanced.epoch));
}

async fn a_command_that_found_it_so_already_does_not_act_when_it_is_replayed(scene: Scene) {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let text = String::new;
    scene.a.suspend(&scene.ci, &scene.world.id(), task, text()).await.unwrap();
    scene.b.suspend(&scene.ci, &id("x"), task, text()).await.unwrap();
    scene.a.resume(&scene.ci, &scene.world.id(), task, 2).await.unwrap();
    for broker in [&scene.b, &scene.a] {
        broker.suspend(&scene.ci, &id("x"), task, text()).await.unwrap();
        assert_eq!(scene.state(task).await, leasehold::domain::task::State::Active);
    }
}

fn same(one: &Held, other: &Held) {
    let facts = |held: &Held| (held.lease, held.jti, held.issued, held.expires);
    assert_eq!(facts(one), facts(other));
}

async fn a_replayed_issue_is_the_same_credential_while_it_lives(scene: Scene) {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let agent = scene.world.caller(&agent_of(0));
    let first = Held::of(&scene.a.issue(&agent, &id("x"), token(task)).await.unwrap(), None);
    for broker in [&scene.b, &scene.a] {
        scene.forward(50).await;
        let again = broker.issue(&agent, &id("x"), token(task)).await.unwrap();
        same(&first, &Held::of(&again, None));
        assert!(scene.is_active(broker, &Held::of(&again, None)).await);
    }
    let leases = scene.a.list_leases(&agent, task, 0, "").await.unwrap().leases;
    assert_eq!(leases.len(), 1);
    scene.forward(200).await;
    let late = scene.b.issue(&agent, &id("x"), token(task)).await;
    assert_eq!(reason(late), "LEASE_REVOKED");
}

async fn a_replayed_renewal_is_the_same_credential_while_it_lives(scene: Scene) {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let agent = scene.world.caller(&agent_of(0));
    let held = scene.issue(&agent, task).await.unwrap();
    scene.forward(10).await;
    let first = scene.a.renew(&agent, &id("x"), held.lease, None, None).await.unwrap();
    let first = Held::of(&first, None);
    let again = scene.b.renew(&agent, &id("x"), held.lease, None, None).await.unwrap();
    same(&first, &Held::of(&again, None));
    scene.a.release(&agent, &scene.world.id(), held.lease).await.unwrap();
    let dead = scene.b.renew(&agent, &id("x"), held.lease, None, None).await;
    assert_eq!(reason(dead), "LEASE_REVOKED");
}

async fn a_replayed_issue_is_the_first_credential_though_the_lease_was_renewed(scene: Scene) {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let agent = scene.world.caller(&agent_of(0));
    let first = Held::of(&scene.a.issue(&agent, &id("x"), token(task)).await.unwrap(), None);
    let lease = first.lease;
    let mut renewals = Vec::new();
    for number in 0..3 {
        scene.forward(40).await;
        let by = request(0xffa0 + number, "renewal");
        let renewed = scene.a.renew(&agent, &by, lease, None, None).await.unwrap();
        renewals.push((by, Held::of(&renewed, None)));
        let again = scene.b.issue(&agent, &id("x"), token(task)).await.unwrap();
        same(&first, &Held::of(&again, None));
        for (by, renewed) in &renewals {
            let again = scene.b.renew(&agent, by, lease, None, None).await.unwrap();
            same(renewed, &Held::of(&again, None));
        }
    }
    let now = scene.b.get_lease(&agent, lease).await.unwrap().lease;
    assert_eq!(now.draft.jti, renewals[2].1.jti, "asking again changed nothing");
    // The first one's time is over, whether or not the lease still says what it was.
    scene.forward(200).await;
    let dead = scene.b.issue(&agent, &id("x"), token(task)).await;
    assert_eq!(reason(dead), "LEASE_REVOKED");
    scene.a.renew(&agent, &request(0xffb0, "renewal"), lease, None, None).await.unwrap();
    let dead = scene.b.issue(&agent, &id("x"), token(task)).await;
    assert_eq!(reason(dead), "LEASE_REVOKED");
    let other = scene.b.issue(&agent, &id("y"), token(task)).await;
    assert_eq!(reason(other), "REQUEST_ID_REUSED");
}

/// The record is the answer, and is kept for an hour after the credential expired.
async fn a_request_is_known_as_long_as_its_lease_and_a_new_one_after_that(scene: Scene) {
    let spec =
        TaskSpec { deadline: Deadline::After(Span::from_seconds(7_200)), ..spec(&agent_of(0)) };
    let task = scene.begin(spec).await.task.id;
    let agent = scene.world.caller(&agent_of(0));
    scene.a.issue(&agent, &id("x"), token(task)).await.unwrap();
    scene.forward(3_890).await;
    let dead = scene.b.issue(&agent, &id("x"), token(task)).await;
    assert_eq!(reason(dead), "LEASE_REVOKED");
    scene.forward(20).await;
    // What refuses a new request of the task refuses this one.
    let late = scene.b.issue(&agent, &id("x"), token(task)).await;
    assert_eq!(reason(late), "CEILING_REACHED");
}

async fn class_06_a_replayed_issue_of_a_dead_credential_is_refused(scene: Scene) {
    let agent = scene.world.caller(&agent_of(0));
    for ending in 0..4u64 {
        let task = scene.begin(spec(&agent_of(0))).await.task.id;
        let id = request(0xfff0 + ending, "");
        let held = scene.a.issue(&agent, &id, token(task)).await.unwrap();
        let (fresh, lease, text) = (scene.world.id(), held.lease.lease.draft.id, String::new());
        match ending {
            0 => drop(scene.a.release(&agent, &fresh, lease).await.unwrap()),
            1 => drop(scene.end(Rpc::CompleteTask, task).await.unwrap()),
            2 => drop(scene.a.advance(&scene.ci, &fresh, task, unchanged(1)).await.unwrap()),
            _ => {
                let class = Scope::parse("class:finance").unwrap();
                scene.a.quarantine(&scene.operator, &fresh, class, text).await.unwrap();
            }
        }
        for broker in [&scene.b, &scene.a] {
            super::scene::refused(broker.issue(&agent, &id, token(task)).await);
        }
    }
}

async fn class_23_another_body_under_a_request_id_is_refused(scene: Scene) {
    let agent = scene.world.caller(&agent_of(0));
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let lease = scene.issue(&agent, task).await.unwrap().lease;
    let text = String::new;
    let class = || Scope::parse("class:research").unwrap();
    let (a, ci, operator) = (&scene.a, &scene.ci, &scene.operator);
    for (number, verb) in [
        Rpc::BeginTask,
        Rpc::DelegateTask,
        Rpc::AdvanceTask,
        Rpc::IssueCredential,
        Rpc::ReleaseCredential,
        Rpc::RevokeLease,
        Rpc::Quarantine,
        Rpc::LiftQuarantine,
        Rpc::SuspendTask,
        Rpc::ResumeTask,
        Rpc::CompleteTask,
    ]
    .into_iter()
    .enumerate()
    {
        let number = 0xff00 + u64::try_from(number).unwrap();
        let mut answers = Vec::new();
        for body in ["x", "y"] {
            let id = request(number, body);
            answers.push(match verb {
                Rpc::BeginTask => a.begin(ci, &id, spec(&agent_of(0))).await.map(drop),
                Rpc::DelegateTask => {
                    a.delegate(ci, &id, task, 1, spec(&agent_of(1))).await.map(drop)
                }
                Rpc::AdvanceTask => a.advance(ci, &id, task, unchanged(1)).await.map(drop),
                Rpc::IssueCredential => a.issue(&agent, &id, token(task)).await.map(drop),
                Rpc::ReleaseCredential => a.release(&agent, &id, lease).await.map(drop),
                Rpc::RevokeLease => a.revoke_lease(operator, &id, lease, text()).await.map(drop),
                Rpc::Quarantine => a.quarantine(operator, &id, class(), text()).await.map(drop),
                Rpc::LiftQuarantine => {
                    a.lift_quarantine(operator, &id, class(), text()).await.map(drop)
                }
                Rpc::SuspendTask => a.suspend(ci, &id, task, text()).await.map(drop),
                Rpc::ResumeTask => a.resume(ci, &id, task, 3).await.map(drop),
                _ => a.end(ci, &id, verb, task, text()).await.map(drop),
            });
        }
        assert_eq!(reason(answers.pop().unwrap()), "REQUEST_ID_REUSED", "{verb:?}");
        answers.pop().unwrap().unwrap();
    }
}

async fn another_caller_s_request_of_the_same_id_is_another_request(scene: Scene) {
    let colleague = scene.world.caller(CI_TOO);
    let one = scene.a.begin(&scene.ci, &id("x"), spec(&agent_of(0))).await.unwrap().task.id;
    let two = scene.a.begin(&colleague, &id("y"), spec(&agent_of(0))).await.unwrap().task.id;
    assert_ne!(one, two);
    scene.a.advance(&scene.ci, &id("z"), one, unchanged(1)).await.unwrap_err();
    scene.a.advance(&colleague, &request(0xfffa, ""), one, unchanged(1)).await.unwrap();
}
