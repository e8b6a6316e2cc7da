//! The sweeper: deadlines, silence, and records whose time is over; any broker, as often as it likes.

use leasehold::broker::Swept;
use leasehold::broker::access::Rpc;
use leasehold::broker::request::{Deadline, TaskSpec};
use leasehold::domain::event::EventKind;
use leasehold::domain::id::TaskId;
use leasehold::domain::task::State;
use leasehold::domain::time::{Span, Stamp};

use super::scene::{ParseName, Scene, agent_of, reason, spec, token};
use super::stores::over_every_store;

over_every_store! {
    a_deadline_is_acted_on_once_and_announced,
    silence_is_acted_on_once_and_announced,
    to_fail_what_silence_has_failed_is_the_first_result_before_the_sweeper_came_too,
    below_a_suspended_task_only_those_fall_silent_whom_nobody_drives,
    to_cancel_what_an_ancestor_s_end_has_cancelled_is_the_first_result_before_the_sweeper_came_too,
    a_suspended_task_still_expires,
    an_ended_task_is_dropped_after_its_retention_and_not_before,
    what_lies_below_a_dropped_task_is_ended_and_dropped_too,
    two_brokers_sweep_at_once_as_one_would,
}

const NOTHING: Swept = Swept { acted: 0, dropped: 0 };

fn acted(acted: usize) -> Swept {
    Swept { acted, dropped: 0 }
}

fn brief(seconds: u64) -> TaskSpec {
    TaskSpec { deadline: Deadline::After(Span::from_seconds(seconds)), ..spec(&agent_of(0)) }
}

fn beating(tier: &str) -> TaskSpec {
    let heartbeat = Some(Span::from_seconds(10));
    TaskSpec { heartbeat, tier: Some(tier.parse_name()), ..spec(&agent_of(0)) }
}

async fn announced(scene: &Scene, task: TaskId, kind: EventKind) -> usize {
    let upkeep = &scene.world.store.upkeep;
    let events = upkeep.events(task.partition(), Stamp::ZERO, 1_000).await.unwrap();
    let own = events.iter().filter(|e| e.event.task == Some(task) && e.event.kind == kind);
    own.count()
}

async fn a_deadline_is_acted_on_once_and_announced(scene: Scene) {
    let task = scene.begin(brief(100)).await.task.id;
    scene.forward(99).await;
    assert_eq!(scene.a.sweep().await.unwrap(), NOTHING);
    scene.forward(1).await;
    assert_eq!(scene.a.sweep().await.unwrap(), acted(1));
    assert_eq!(scene.a.sweep().await.unwrap(), NOTHING);
    assert_eq!(scene.b.sweep().await.unwrap(), NOTHING);
    assert_eq!(scene.state(task).await, State::Expired);
    assert_eq!(announced(&scene, task, EventKind::TaskEnded).await, 1);
    assert_eq!(reason(scene.end(Rpc::CompleteTask, task).await), "TASK_ENDED");
}

async fn silence_is_acted_on_once_and_announced(scene: Scene) {
    let suspended = scene.begin(beating("standard")).await.task.id;
    let failed = scene.begin(beating("critical")).await.task.id;
    scene.forward(29).await;
    assert_eq!(scene.a.sweep().await.unwrap(), NOTHING);
    scene.forward(1).await;
    assert_eq!(scene.a.sweep().await.unwrap(), acted(2));
    assert_eq!(scene.b.sweep().await.unwrap(), NOTHING);
    assert_eq!(scene.state(suspended).await, State::Suspended);
    assert_eq!(scene.state(failed).await, State::Failed);
    assert_eq!(announced(&scene, suspended, EventKind::TaskSuspended).await, 1);
    let beat = scene.a.heartbeat(&scene.ci, &scene.world.id(), suspended).await;
    assert_eq!(reason(beat), "TASK_SUSPENDED");
    scene.a.resume(&scene.ci, &scene.world.id(), suspended, 2).await.unwrap();
    scene.forward(29).await;
    assert_eq!(scene.a.sweep().await.unwrap(), NOTHING);
}

async fn to_fail_what_silence_has_failed_is_the_first_result_before_the_sweeper_came_too(
    scene: Scene,
) {
    let task = scene.begin(beating("critical")).await.task.id;
    scene.forward(31).await;
    scene.world.store.upkeep.prune(task.partition(), scene.a.now()).await.unwrap();
    scene.end(Rpc::FailTask, task).await.unwrap();
    assert_eq!(scene.b.sweep().await.unwrap(), NOTHING);
    assert_eq!(announced(&scene, task, EventKind::TaskEnded).await, 1);
}

async fn below_a_suspended_task_only_those_fall_silent_whom_nobody_drives(scene: Scene) {
    let root = scene.begin(spec(&agent_of(0))).await.task.id;
    let driven = scene.delegate(root, beating("critical")).await.unwrap().task.id;
    let left = scene.delegate(root, beating("critical")).await.unwrap().task.id;
    scene.a.suspend(&scene.operator, &scene.world.id(), root, String::new()).await.unwrap();
    for broker in [&scene.a, &scene.b] {
        scene.forward(20).await;
        broker.heartbeat(&scene.ci, &scene.world.id(), driven).await.unwrap();
    }
    scene.forward(20).await;
    assert_eq!(scene.a.sweep().await.unwrap(), acted(1));
    assert_eq!(scene.state(left).await, State::Failed);
    assert_eq!(scene.state(driven).await, State::Suspended);
    let request = token(driven);
    let agent = scene.world.caller(&agent_of(0));
    assert_eq!(reason(scene.issue_at(&scene.b, &agent, request).await), "TASK_SUSPENDED");
    scene.a.resume(&scene.operator, &scene.world.id(), root, 2).await.unwrap();
    assert_eq!(scene.state(driven).await, State::Active);
    scene.issue(&agent, driven).await.unwrap();
}

async fn to_cancel_what_an_ancestor_s_end_has_cancelled_is_the_first_result_before_the_sweeper_came_too(
    scene: Scene,
) {
    let root = scene.begin(brief(200)).await.task.id;
    let child =
        || TaskSpec { deadline: Deadline::After(Span::from_seconds(100)), ..spec(&agent_of(1)) };
    let (swept, unswept) =
        (scene.delegate(root, child()).await, scene.delegate(root, spec(&agent_of(1))).await);
    let [swept, unswept] = [swept, unswept].map(|view| view.unwrap().task.id);
    scene.end(Rpc::CompleteTask, root).await.unwrap();
    assert_eq!(reason(scene.end(Rpc::FailTask, unswept).await), "TASK_ENDED");
    scene.forward(100).await;
    assert_eq!(scene.a.sweep().await.unwrap(), acted(1));
    for task in [swept, unswept] {
        let ended = scene.end(Rpc::CancelTask, task).await.unwrap();
        assert_eq!((ended.standing.state, ended.standing.cause), (State::Cancelled, None));
        assert_eq!(ended.task.reason, "an ancestor ended");
        assert!(ended.task.ended_at().is_some());
        assert_eq!(scene.end(Rpc::CancelTask, task).await.unwrap().task, ended.task);
        assert_eq!(announced(&scene, task, EventKind::TaskEnded).await, 1);
        assert_eq!(reason(scene.end(Rpc::FailTask, task).await), "TASK_ENDED");
    }
}

async fn a_suspended_task_still_expires(scene: Scene) {
    let task = scene.begin(brief(100)).await.task.id;
    scene.a.suspend(&scene.ci, &scene.world.id(), task, String::new()).await.unwrap();
    scene.forward(100).await;
    let resumed = scene.b.resume(&scene.ci, &scene.world.id(), task, 2).await;
    assert_eq!(reason(resumed), "TASK_ENDED");
    scene.a.sweep().await.unwrap();
    assert_eq!(scene.state(task).await, State::Expired);
}

async fn an_ended_task_is_dropped_after_its_retention_and_not_before(scene: Scene) {
    let id = scene.world.id();
    let task = scene.a.begin(&scene.ci, &id, spec(&agent_of(0))).await.unwrap().task.id;
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    scene.forward(3_590).await;
    assert_eq!(scene.a.sweep().await.unwrap(), NOTHING);
    assert_eq!(scene.state(task).await, State::Completed);
    scene.forward(20).await;
    assert_eq!(scene.a.sweep().await.unwrap(), Swept { acted: 0, dropped: 1 });
    for broker in [&scene.b, &scene.a] {
        assert_eq!(reason(broker.get_task(&scene.operator, task).await), "NOT_FOUND");
    }
    assert_eq!(reason(scene.end(Rpc::CompleteTask, task).await), "NOT_FOUND");
    // Its stored answer went with it: the same request begins another one.
    let again = scene.a.begin(&scene.ci, &id, spec(&agent_of(0))).await.unwrap().task.id;
    assert_ne!(again, task);
}

async fn what_lies_below_a_dropped_task_is_ended_and_dropped_too(scene: Scene) {
    let deadline = Deadline::After(Span::from_seconds(20_000));
    let long = |depth| TaskSpec { deadline, ..spec(&agent_of(depth)) };
    let tree = scene.tree_of(scene.begin(long(0)).await.task.id).await;
    scene.end(Rpc::CompleteTask, tree[0].task).await.unwrap();
    for _ in 0..8 {
        scene.forward(3_700).await;
        scene.a.sweep().await.unwrap();
    }
    for level in &tree {
        assert_eq!(reason(scene.b.get_task(&scene.operator, level.task).await), "NOT_FOUND");
        scene.must_be_over(level).await;
    }
    assert_eq!(scene.b.sweep().await.unwrap(), NOTHING);
    let page = scene.b.list_tasks(&scene.operator, 0, "", None).await.unwrap();
    assert!(page.tasks.is_empty());
}

async fn two_brokers_sweep_at_once_as_one_would(scene: Scene) {
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(scene.begin(brief(100)).await.task.id);
    }
    scene.forward(100).await;
    let (one, other) = tokio::join!(scene.a.sweep(), scene.b.sweep());
    assert_eq!(one.unwrap().acted + other.unwrap().acted, tasks.len());
    for task in tasks {
        assert_eq!(announced(&scene, task, EventKind::TaskEnded).await, 1);
        assert_eq!(scene.state(task).await, State::Expired);
    }
}
