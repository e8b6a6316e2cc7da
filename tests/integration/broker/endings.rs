//! After an ending has answered, everything about the task is refused, here, below, and on every broker.

use leasehold::broker::AdvanceRequest;
use leasehold::broker::access::Rpc;
use leasehold::broker::request::{Deadline, TaskSpec};
use leasehold::domain::task::State;
use leasehold::domain::time::Span;
use leasehold::store::{Entries, Query};

use super::scene::{Level, ParseName, Scene, agent_of, reason, spec, stranger};
use super::stores::over_every_store;

over_every_store! {
    class_06_after_complete_nothing_lives_at_or_below_the_task,
    class_06_after_fail_nothing_lives_at_or_below_the_task,
    class_06_after_cancel_nothing_lives_at_or_below_the_task,
    class_06_after_cancel_by_an_operator_nothing_lives_at_or_below_the_task,
    class_06_after_revoke_task_nothing_lives_at_or_below_the_task,
    class_05_a_tree_ends_with_its_root,
    class_06_after_the_deadline_nothing_lives_at_or_below_the_task,
    class_06_after_silence_suspends_nothing_lives_until_resumed,
    class_06_after_silence_fails_nothing_lives_at_or_below_the_task,
    class_06_after_suspend_nothing_lives_until_resumed_and_the_old_never,
    class_06_after_advance_the_old_epoch_and_the_children_are_dead,
    class_06_children_that_are_kept_outlive_an_advance_and_end_with_the_next,
    class_06_after_a_handover_the_former_agent_has_nothing,
    class_06_after_release_the_lease_is_dead_and_others_live,
    class_06_after_revoke_lease_the_lease_is_dead_and_others_live,
    class_06_after_the_token_was_shown_for_revocation_its_lease_is_dead,
    class_05_the_root_s_end_reaches_the_leaf_though_the_middle_has_ended_and_is_dropped,
}

/// A tree, and another one in the same partition, of the same agents.
async fn trees(scene: &Scene) -> (Vec<Level>, Vec<Level>) {
    let tree = scene.tree().await;
    let partition = tree[0].task.partition();
    let other = scene.begin_in(partition, &scene.ci, spec(&agent_of(0))).await;
    (tree, scene.tree_of(other.task.id).await)
}

/// The tree is over from `level` down, and goes on above it; the other one goes on.
async fn must_be_over_from(scene: &Scene, level: usize, trees: &(Vec<Level>, Vec<Level>)) {
    let (tree, other) = trees;
    for below in &tree[level..] {
        scene.must_be_over(below).await;
    }
    for above in &tree[..level] {
        scene.must_go_on(above).await;
    }
    for unconcerned in other {
        scene.must_go_on(unconcerned).await;
    }
}

async fn ends_as(scene: Scene, rpc: Rpc, by_operator: bool, state: State) {
    let trees = trees(&scene).await;
    let task = trees.0[1].task;
    let caller = if by_operator { &scene.operator } else { &scene.ci };
    let ended = scene.a.end(caller, &scene.world.id(), rpc, task, String::new()).await;
    let (ended, _) = ended.unwrap();
    assert_eq!(ended.standing.state, state);
    must_be_over_from(&scene, 1, &trees).await;
    assert_eq!(scene.state(task).await, state);
    for below in &trees.0[2..] {
        let view = scene.b.get_task(&scene.operator, below.task).await.unwrap();
        assert_eq!((view.standing.state, view.standing.cause), (State::Cancelled, Some(task)));
    }
}

async fn class_06_after_complete_nothing_lives_at_or_below_the_task(scene: Scene) {
    ends_as(scene, Rpc::CompleteTask, false, State::Completed).await;
}

async fn class_06_after_fail_nothing_lives_at_or_below_the_task(scene: Scene) {
    ends_as(scene, Rpc::FailTask, false, State::Failed).await;
}

async fn class_06_after_cancel_nothing_lives_at_or_below_the_task(scene: Scene) {
    ends_as(scene, Rpc::CancelTask, false, State::Cancelled).await;
}

async fn class_06_after_cancel_by_an_operator_nothing_lives_at_or_below_the_task(scene: Scene) {
    ends_as(scene, Rpc::CancelTask, true, State::Cancelled).await;
}

async fn class_06_after_revoke_task_nothing_lives_at_or_below_the_task(scene: Scene) {
    ends_as(scene, Rpc::RevokeTask, true, State::Revoked).await;
}

async fn class_05_a_tree_ends_with_its_root(scene: Scene) {
    let trees = trees(&scene).await;
    scene.end(Rpc::CompleteTask, trees.0[0].task).await.unwrap();
    must_be_over_from(&scene, 0, &trees).await;
}

/// A root, a child with this spec, and two more below it; and another tree.
async fn trees_with(scene: &Scene, child: TaskSpec) -> (Vec<Level>, Vec<Level>) {
    let (mut tree, other) = trees(scene).await;
    tree.truncate(1);
    let specs = [child, spec(&agent_of(2)), spec(&agent_of(3))];
    for (depth, spec) in (1..).zip(specs) {
        let parent = tree[depth - 1].task;
        let task = scene.delegate(parent, spec).await.unwrap().task.id;
        let agent = scene.world.caller(&agent_of(depth));
        tree.push(scene.held_level(task, agent).await);
    }
    (tree, other)
}

async fn class_06_after_the_deadline_nothing_lives_at_or_below_the_task(scene: Scene) {
    let deadline = Deadline::After(Span::from_seconds(100));
    let trees = trees_with(&scene, TaskSpec { deadline, ..spec(&agent_of(1)) }).await;
    scene.forward(101).await;
    must_be_over_from(&scene, 1, &trees).await;
    scene.a.sweep().await.unwrap();
    must_be_over_from(&scene, 1, &trees).await;
    assert_eq!(scene.state(trees.0[1].task).await, State::Expired);
    assert_eq!(scene.state(trees.0[3].task).await, State::Cancelled);
}

fn with_heartbeat(tier: &str) -> TaskSpec {
    let heartbeat = Some(Span::from_seconds(10));
    TaskSpec { heartbeat, tier: Some(tier.parse_name()), ..spec(&agent_of(1)) }
}

async fn class_06_after_silence_suspends_nothing_lives_until_resumed(scene: Scene) {
    let trees = trees_with(&scene, with_heartbeat("standard")).await;
    let task = trees.0[1].task;
    scene.forward(25).await;
    scene.a.heartbeat(&scene.ci, &scene.world.id(), task).await.unwrap();
    scene.forward(25).await;
    scene.must_go_on(&trees.0[1]).await;
    scene.forward(6).await;
    must_be_over_from(&scene, 1, &trees).await;
    assert_eq!(scene.state(task).await, State::Suspended);
    scene.a.sweep().await.unwrap();
    must_be_over_from(&scene, 1, &trees).await;
    resume(&scene, task).await;
    for level in &trees.0[1..] {
        scene.must_be_dead(&scene.b, level).await;
        scene.must_issue(&scene.b, level).await;
    }
}

async fn class_06_after_silence_fails_nothing_lives_at_or_below_the_task(scene: Scene) {
    let trees = trees_with(&scene, with_heartbeat("critical")).await;
    scene.forward(31).await;
    must_be_over_from(&scene, 1, &trees).await;
    assert_eq!(scene.state(trees.0[1].task).await, State::Failed);
}

async fn resume(scene: &Scene, task: leasehold::domain::id::TaskId) {
    let epoch = scene.epoch(task).await;
    scene.a.resume(&scene.ci, &scene.world.id(), task, epoch).await.unwrap();
}

async fn class_06_after_suspend_nothing_lives_until_resumed_and_the_old_never(scene: Scene) {
    let trees = trees(&scene).await;
    let task = trees.0[1].task;
    scene.a.suspend(&scene.ci, &scene.world.id(), task, String::new()).await.unwrap();
    must_be_over_from(&scene, 1, &trees).await;
    for below in &trees.0[2..] {
        let view = scene.b.get_task(&scene.operator, below.task).await.unwrap();
        assert_eq!((view.standing.state, view.standing.cause), (State::Suspended, Some(task)));
    }
    resume(&scene, task).await;
    for level in &trees.0[1..] {
        for broker in [&scene.b, &scene.a] {
            scene.must_be_dead(broker, level).await;
            scene.must_issue(broker, level).await;
        }
    }
}

/// Goes on unchanged in the next epoch, and ends the children.
pub fn unchanged(expected_epoch: u64) -> AdvanceRequest {
    AdvanceRequest {
        expected_epoch,
        grant: None,
        step: None,
        checkpoint: None,
        agent: None,
        keep_children: false,
    }
}

async fn class_06_after_advance_the_old_epoch_and_the_children_are_dead(scene: Scene) {
    let (tree, other) = trees(&scene).await;
    let task = tree[1].task;
    scene.a.advance(&scene.ci, &scene.world.id(), task, unchanged(1)).await.unwrap();
    for broker in [&scene.b, &scene.a] {
        scene.must_be_dead(broker, &tree[1]).await;
        scene.must_issue(broker, &tree[1]).await;
    }
    for below in &tree[2..] {
        scene.must_be_over(below).await;
        assert_eq!(scene.state(below.task).await, State::Cancelled);
    }
    scene.must_go_on(&tree[0]).await;
    scene.must_go_on(&other[2]).await;
}

async fn class_06_children_that_are_kept_outlive_an_advance_and_end_with_the_next(scene: Scene) {
    let (tree, _) = trees(&scene).await;
    let task = tree[1].task;
    let keeping = AdvanceRequest { keep_children: true, ..unchanged(1) };
    scene.a.advance(&scene.ci, &scene.world.id(), task, keeping).await.unwrap();
    scene.must_be_dead(&scene.b, &tree[1]).await;
    for below in &tree[2..] {
        scene.must_go_on(below).await;
    }
    scene.a.advance(&scene.ci, &scene.world.id(), task, unchanged(2)).await.unwrap();
    for below in &tree[2..] {
        scene.must_be_over(below).await;
    }
}

async fn class_06_after_a_handover_the_former_agent_has_nothing(scene: Scene) {
    let (tree, _) = trees(&scene).await;
    let successor = scene.world.caller("spiffe://prod.example/agents/finance/successor");
    let agent = leasehold::domain::task::Agent::One(successor.identity().principal().clone());
    let handover = AdvanceRequest { agent: Some(agent), ..unchanged(1) };
    scene.a.advance(&scene.ci, &scene.world.id(), tree[1].task, handover).await.unwrap();
    scene.must_be_over(&tree[1]).await;
    assert_eq!(reason(scene.issue(&tree[1].agent, tree[1].task).await), "NOT_FOUND");
    let held = scene.issue(&successor, tree[1].task).await.unwrap();
    assert!(scene.is_active(&scene.b, &held).await);
}

/// The first lease is dead on both brokers, and nothing else.
async fn only_the_first_lease_is_over(scene: &Scene, level: &Level) {
    let (over, others) = level.held.split_first().unwrap();
    for broker in [&scene.b, &scene.a] {
        assert!(!scene.is_active(broker, over).await);
        assert_eq!(reason(scene.renew_at(broker, &level.agent, over).await), "LEASE_REVOKED");
        for held in others {
            assert!(scene.is_active(broker, held).await);
        }
        scene.must_issue(broker, level).await;
    }
}

async fn class_06_after_release_the_lease_is_dead_and_others_live(scene: Scene) {
    let (tree, _) = trees(&scene).await;
    let (agent, lease) = (&tree[1].agent, tree[1].held[0].lease);
    scene.a.release(agent, &scene.world.id(), lease).await.unwrap();
    only_the_first_lease_is_over(&scene, &tree[1]).await;
    scene.must_go_on(&tree[2]).await;
}

async fn class_06_after_revoke_lease_the_lease_is_dead_and_others_live(scene: Scene) {
    let (tree, _) = trees(&scene).await;
    let lease = tree[1].held[0].lease;
    let id = scene.world.id();
    scene.a.revoke_lease(&scene.operator, &id, lease, String::new()).await.unwrap();
    only_the_first_lease_is_over(&scene, &tree[1]).await;
}

async fn class_06_after_the_token_was_shown_for_revocation_its_lease_is_dead(scene: Scene) {
    let (tree, _) = trees(&scene).await;
    let super::scene::Shown::Token(token) = &tree[1].held[0].shown else { panic!("no token") };
    scene.a.revoke_presented(stranger(&scene.a).await, token).await.unwrap();
    only_the_first_lease_is_over(&scene, &tree[1]).await;
    // Whoever shows it again costs nothing: nothing is written, and nobody is told once more.
    let written = async || {
        let query = Query::new(tree[1].task.partition(), vec![], Entries::None);
        scene.world.store.store.read(query).await.unwrap().meta.stamp
    };
    let before = written().await;
    for broker in [&scene.a, &scene.b] {
        broker.revoke_presented(stranger(broker).await, token).await.unwrap();
    }
    scene.a.revoke_presented(stranger(&scene.a).await, "not a token").await.unwrap();
    assert_eq!(written().await, before);
}

/// A renewed credential's predecessor lives on, until the lease is revoked.
#[tokio::test]
async fn class_06_revoking_a_lease_kills_every_credential_that_it_ever_had() {
    let scene = Scene::on_model().await;
    let tree = scene.tree().await;
    let first = &tree[0].held[0];
    let renewed = scene.renew_at(&scene.a, &tree[0].agent, first).await.unwrap();
    assert_ne!(renewed.jti, first.jti);
    assert!(scene.is_active(&scene.b, first).await && scene.is_active(&scene.b, &renewed).await);
    let id = scene.world.id();
    scene.a.revoke_lease(&scene.operator, &id, first.lease, String::new()).await.unwrap();
    assert!(!scene.is_active(&scene.b, first).await && !scene.is_active(&scene.b, &renewed).await);
}

async fn class_05_the_root_s_end_reaches_the_leaf_though_the_middle_has_ended_and_is_dropped(
    scene: Scene,
) {
    let tree = scene.tree().await;
    scene.end(Rpc::CompleteTask, tree[1].task).await.unwrap();
    scene.end(Rpc::CompleteTask, tree[0].task).await.unwrap();
    scene.must_be_over(&tree[3]).await;
    scene.forward(3_599).await;
    scene.a.sweep().await.unwrap();
    scene.must_be_over(&tree[3]).await;
    scene.forward(7_200).await;
    assert!(scene.a.sweep().await.unwrap().dropped >= 2);
    for level in &tree {
        scene.must_be_over(level).await;
    }
}
