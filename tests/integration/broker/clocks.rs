//! Clocks that step, run ahead or lag behind: nothing that was over is revived, nothing lives longer than it says.

use std::cmp::Ordering;
use std::sync::Arc;

use leasehold::broker::access::Rpc;
use leasehold::broker::request::{CredentialRequest, Deadline, IssueRequest, TaskSpec, TokenProof};
use leasehold::broker::{Hindrance, MAX_SKEW, Swept};
use leasehold::domain::clamp::Clamp;
use leasehold::domain::refusal::Refusal;
use leasehold::domain::task::State;
use leasehold::domain::time::{Span, Stamp};
use leasehold::store::{Entries, Query};
use leasehold::testing::clock::TestClock;
use leasehold::testing::redis::RedisServer;
use leasehold::testing::store_contract::Fixture;
use leasehold::testing::world::{BATCH, World};

use super::scene::{Level, Scene, agent_of, new_csr, reason, refused, spec, token};
use super::stores::made_on;

const HOUR: Span = Span::from_seconds(3_600);
const DAYS: Span = Span::from_seconds(2 * 86_400);

async fn level(scene: &Scene, deadline: u64) -> Level {
    let deadline = Deadline::After(Span::from_seconds(deadline));
    let task = scene.begin(TaskSpec { deadline, ..spec(&agent_of(0)) }).await.task.id;
    scene.held_level(task, scene.world.caller(&agent_of(0))).await
}

fn clock_at(now: Stamp) -> Arc<TestClock> {
    Arc::new(TestClock::at(now))
}

/// The last stamp of each partition.
async fn stamps(scene: &Scene) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    for partition in scene.world.store.upkeep.constants().partitions.all() {
        let query = Query::new(partition, vec![], Entries::None);
        stamps.push(scene.world.store.store.read(query).await.unwrap().meta.stamp);
    }
    stamps
}

#[tokio::test]
async fn class_26_an_hour_back_revives_no_expired_credential() {
    let scene = Scene::on_model().await;
    let level = level(&scene, 8_000).await;
    scene.forward(301).await;
    scene.must_be_dead(&scene.b, &level).await;
    scene.must_be_dead(&scene.a, &level).await;
    scene.world.clock.back(HOUR);
    for broker in [&scene.b, &scene.a] {
        scene.must_be_dead(broker, &level).await;
    }
}

#[tokio::test]
async fn class_26_an_hour_back_revives_no_task_that_was_over() {
    let scene = Scene::on_model().await;
    let level = level(&scene, 200).await;
    scene.forward(201).await;
    scene.must_be_over(&level).await;
    scene.world.clock.back(HOUR);
    scene.must_be_over(&level).await;
    scene.a.sweep().await.unwrap();
    assert_eq!(scene.state(level.task).await, State::Expired);
    // Nor at a broker that starts now, an hour behind: the store's stamp counts.
    let behind = scene.world.broker();
    assert!(!scene.is_active(&behind, &level.held[0]).await);
    refused(scene.issue_at(&behind, &level.agent, token(level.task)).await);
}

#[tokio::test]
async fn class_26_a_broker_that_lags_an_hour_behind_the_store_goes_by_the_store() {
    let scene = Scene::on_model().await;
    let level = level(&scene, 200).await;
    let behind = scene.world.broker_at(clock_at(scene.a.now().minus(HOUR)));
    let held = scene.issue_at(&behind, &level.agent, token(level.task)).await.unwrap();
    assert!(scene.is_active(&behind, &level.held[0]).await);
    assert_eq!(held.expires, level.held[0].expires);
    scene.forward(201).await;
    for held in level.held.iter().chain([&held]) {
        assert!(!scene.is_active(&behind, held).await);
        refused(scene.renew_at(&behind, &level.agent, held).await);
    }
    refused(scene.issue_at(&behind, &level.agent, token(level.task)).await);
}

#[tokio::test]
async fn class_26_a_broker_that_runs_an_hour_ahead_of_the_store_gives_no_longer_lives() {
    let scene = Scene::on_model().await;
    let level = level(&scene, 8_000).await;
    let ahead = scene.world.broker_at(clock_at(scene.a.now().plus(HOUR)));
    // Its times are the commit's, not its own; to itself the credential has expired already.
    let now = scene.a.now();
    let held = scene.issue_at(&ahead, &level.agent, token(level.task)).await.unwrap();
    assert_eq!((held.issued, held.expires), (now.seconds(), now.seconds() + 300));
    assert!(!scene.is_active(&ahead, &held).await);
    assert!(scene.is_active(&scene.b, &held).await);
}

/// Whatever a broker does for good it does by the store's clock: one that is days ahead ends and drops nothing, and leaves
/// the stamps of every partition, and so the times of all later credentials, as they are.
#[tokio::test]
async fn class_26_a_broker_that_runs_days_ahead_of_the_store_ends_nothing_and_drags_no_stamp() {
    let scene = Scene::on_model().await;
    let heartbeat = Some(Span::from_seconds(60));
    let silent = scene.begin(TaskSpec { heartbeat, ..spec(&agent_of(0)) }).await.task.id;
    let (level, ended) = (level(&scene, 8_000).await, self::level(&scene, 8_000).await);
    scene.end(Rpc::CompleteTask, ended.task).await.unwrap();
    let stamps = stamps(&scene).await;
    let ahead = scene.world.broker_at(clock_at(scene.a.now().plus(DAYS)));
    for _ in 0..2 {
        assert_eq!(ahead.sweep().await.unwrap(), Swept::default());
    }
    assert_eq!(self::stamps(&scene).await, stamps);
    for task in [silent, level.task] {
        assert_eq!(scene.state(task).await, State::Active);
        assert_eq!(ahead.get_task(&scene.ci, task).await.unwrap().standing.state, State::Active);
    }
    assert_eq!(scene.state(ended.task).await, State::Completed, "its record is kept");
    scene.must_be_over(&ended).await;
    scene.must_go_on(&level).await;
    // It drives tasks as others do, and never says of one that lives that it has ended.
    ahead.heartbeat(&scene.ci, &scene.world.id(), silent).await.unwrap();
    let id = scene.world.id();
    ahead.end(&scene.ci, &id, Rpc::CompleteTask, level.task, String::new()).await.unwrap();
    scene.must_be_over(&level).await;
}

#[tokio::test]
async fn class_26_silence_and_deadlines_count_by_the_store_s_clock_wherever_a_task_was_begun() {
    let scene = Scene::on_model().await;
    let now = scene.a.now();
    for wrong in [now.plus(DAYS), now.minus(DAYS)] {
        let broker = scene.world.broker_at(clock_at(wrong));
        let deadline = Deadline::After(Span::from_seconds(100));
        let heartbeat = Some(Span::from_seconds(20));
        let task = TaskSpec { deadline, heartbeat, ..spec(&agent_of(0)) };
        let task = broker.begin(&scene.ci, &scene.world.id(), task).await.unwrap().task;
        let counted = (task.deadline.seconds(), task.silence_at.unwrap().seconds());
        assert_eq!(counted, (now.seconds() + 100, now.seconds() + 60));
        let past = TaskSpec { deadline: Deadline::At(now), ..spec(&agent_of(0)) };
        let begun = broker.begin(&scene.ci, &scene.world.id(), past).await;
        assert_eq!(reason(begun), "REQUEST_INVALID");
    }
}

#[tokio::test]
async fn class_26_a_broker_that_lags_days_behind_the_store_sweeps_what_is_over() {
    let scene = Scene::on_model().await;
    let level = level(&scene, 200).await;
    let behind = scene.world.broker_at(clock_at(scene.a.now().minus(DAYS)));
    scene.forward(200).await;
    assert_eq!(behind.sweep().await.unwrap(), Swept { acted: 1, dropped: 0 });
    assert_eq!(scene.state(level.task).await, State::Expired);
    scene.must_be_over(&level).await;
    scene.forward(3_700).await;
    assert_eq!(behind.sweep().await.unwrap(), Swept { acted: 0, dropped: 1 });
}

/// The store's own clock was ahead and was put right: its stamps wait for it, and no sweep drives them on.
#[tokio::test]
async fn class_26_a_store_whose_clock_was_set_back_is_not_held_ahead_by_its_brokers() {
    let scene = Scene::on_model().await;
    let task = level(&scene, 8_000).await.task;
    scene.world.clock.back(HOUR);
    let before = stamps(&scene).await;
    for broker in [&scene.a, &scene.b] {
        scene.world.clock.forward(Span::from_seconds(100));
        broker.sweep().await.unwrap();
    }
    assert_eq!(stamps(&scene).await, before);
    assert_eq!(scene.state(task).await, State::Active);
}

#[tokio::test]
async fn class_26_a_clock_that_is_more_than_a_minute_off_is_a_hindrance() {
    let scene = Scene::on_model().await;
    let (now, second) = (scene.a.now(), Span::from_seconds(1));
    let hindrance = async |clock| scene.world.broker_at(clock_at(clock)).hindrance().await.unwrap();
    for (clock, found) in [
        (now, None),
        (now.plus(MAX_SKEW), None),
        (now.plus(MAX_SKEW).plus(second), Some(Hindrance::Ahead(Span::from_seconds(61)))),
        (now.plus(DAYS), Some(Hindrance::Ahead(DAYS))),
        (now.minus(MAX_SKEW), None),
        (now.minus(MAX_SKEW).minus(second), Some(Hindrance::Behind(Span::from_seconds(61)))),
        (now.minus(DAYS), Some(Hindrance::Behind(DAYS))),
    ] {
        assert_eq!(hindrance(clock).await, found);
    }
    // Its time does not go back: what was put right shows once it is restarted.
    let clock = clock_at(now.plus(DAYS));
    let ahead = scene.world.broker_at(clock.clone());
    clock.set(now);
    assert_eq!(ahead.hindrance().await.unwrap(), Some(Hindrance::Ahead(DAYS)));
}

/// A foreign token is taken up to a minute after its end; what it gets has ended with it.
#[tokio::test]
async fn class_26_what_is_forgiven_to_an_issuer_s_clock_lengthens_no_credential() {
    let scene = Scene::on_model().await;
    let deadline = Deadline::After(Span::from_seconds(100_000));
    let task = scene.begin(TaskSpec { deadline, ..spec(BATCH) }).await.task.id;
    let pod = scene.world.pod("one").await;
    let request = IssueRequest {
        credential: CredentialRequest::AccessToken(TokenProof::Csr(new_csr())),
        ..token(task)
    };
    let left = |broker: &leasehold::broker::Broker| pod.identity().expires().since(broker.now());
    scene.forward(left(&scene.a).seconds() - 20).await;
    let held = scene.issue_at(&scene.a, &pod, request.clone()).await.unwrap();
    assert_eq!(held.expires, pod.identity().expires().seconds());
    for seconds in [25, 30] {
        scene.forward(seconds).await;
        let refusal = refused(scene.issue_at(&scene.a, &pod, request.clone()).await);
        let clamp = Clamp::CallerCredential;
        assert_eq!(refusal, Refusal::TtlBelowMinimum { clamp, seconds: 0, minimum: 10 });
    }
}

#[tokio::test]
async fn class_26_over_redis_the_times_of_a_credential_are_the_server_s() {
    for wrong in [Ordering::Less, Ordering::Equal, Ordering::Greater] {
        let server = RedisServer::durable();
        let fixture = made_on(&server).await;
        let now = server_time(&fixture).await;
        let host = match wrong {
            Ordering::Less => now.minus(DAYS),
            Ordering::Equal => now,
            Ordering::Greater => now.plus(DAYS),
        };
        let scene = Scene::of(World::over(fixture, clock_at(host)).await);
        let level = level(&scene, 8_000).await;
        // Nor does a sweep of theirs end or date anything otherwise.
        scene.a.sweep().await.unwrap();
        assert_eq!(scene.state(level.task).await, State::Active, "host is {wrong:?}");
        let after = server_time(&scene.world.store).await.seconds();
        for held in &level.held {
            assert!((now.seconds()..=after + 1).contains(&held.issued), "host is {wrong:?}");
            assert_eq!(held.expires, held.issued + 300);
        }
    }
}

async fn server_time(fixture: &Fixture) -> Stamp {
    fixture.snapshot(Vec::new(), Entries::None).await.meta.now
}
