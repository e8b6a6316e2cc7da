//! Clocks that step, run ahead or lag behind: nothing that was over is revived, nothing lives longer than it says.

use std::cmp::Ordering;
use std::sync::Arc;

use leasehold::broker::request::{CredentialRequest, Deadline, IssueRequest, TaskSpec, TokenProof};
use leasehold::domain::clamp::Clamp;
use leasehold::domain::refusal::Refusal;
use leasehold::domain::task::State;
use leasehold::domain::time::{Span, Stamp};
use leasehold::store::Entries;
use leasehold::testing::clock::TestClock;
use leasehold::testing::redis::RedisServer;
use leasehold::testing::store_contract::Fixture;
use leasehold::testing::world::{BATCH, World};

use super::scene::{Level, Scene, agent_of, new_csr, refused, spec, token};
use super::stores::made_on;

const HOUR: Span = Span::from_seconds(3_600);

async fn level(scene: &Scene, deadline: u64) -> Level {
    let deadline = Deadline::After(Span::from_seconds(deadline));
    let task = scene.begin(TaskSpec { deadline, ..spec(&agent_of(0)) }).await.task.id;
    scene.held_level(task, scene.world.caller(&agent_of(0))).await
}

fn clock_at(now: Stamp) -> Arc<TestClock> {
    Arc::new(TestClock::at(now))
}

#[tokio::test]
async fn class_26_an_hour_back_revives_no_expired_credential() {
    let scene = Scene::on_model().await;
    let level = level(&scene, 8_000).await;
    scene.forward(301);
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
    scene.forward(201);
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
    scene.forward(201);
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
    // What it sweeps, it sweeps by its own time, and the store follows: nobody revives it.
    let short = self::level(&scene, 200).await;
    ahead.sweep().await.unwrap();
    assert_eq!(scene.state(short.task).await, State::Expired);
    scene.must_be_over(&short).await;
}

#[tokio::test]
async fn class_26_a_deadline_counts_from_the_broker_s_time_and_ends_by_the_later_clock() {
    let scene = Scene::on_model().await;
    let ahead = scene.world.broker_at(clock_at(scene.a.now().plus(HOUR)));
    let deadline = Deadline::After(Span::from_seconds(60));
    let task = TaskSpec { deadline, ..spec(&agent_of(0)) };
    let task = ahead.begin(&scene.ci, &scene.world.id(), task).await.unwrap().task;
    assert_eq!(task.deadline, ahead.now().plus(Span::from_seconds(60)));
    scene.forward(3_700);
    let agent = scene.world.caller(&agent_of(0));
    refused(scene.issue_at(&scene.b, &agent, token(task.id)).await);
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
    scene.forward(left(&scene.a).seconds() - 20);
    let held = scene.issue_at(&scene.a, &pod, request.clone()).await.unwrap();
    assert_eq!(held.expires, pod.identity().expires().seconds());
    for seconds in [25, 30] {
        scene.forward(seconds);
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
            Ordering::Less => now.minus(HOUR),
            Ordering::Equal => now,
            Ordering::Greater => now.plus(HOUR),
        };
        let scene = Scene::of(World::over(fixture, clock_at(host)).await);
        let level = level(&scene, 8_000).await;
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
