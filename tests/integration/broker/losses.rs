//! A store that came back and may have lost something: what brokers know from before is not acted on, and tasks wait for their
//! orchestrators, since the loss may have been of an ending.

use std::sync::Arc;

use async_trait::async_trait;
use leasehold::broker::access::{Caller, Rpc};
use leasehold::broker::error::BrokerError;
use leasehold::broker::request::TaskSpec;
use leasehold::broker::{Broker, Parts};
use leasehold::domain::id::TaskId;
use leasehold::domain::task::State;
use leasehold::domain::time::Span;
use leasehold::policy::{Policy, PolicyError, Question, Verdict};
use leasehold::store::{Commit, Lane};
use leasehold::testing::clock::TestClock;
use leasehold::testing::model::ModelStore;
use leasehold::testing::redis::RedisServer;
use leasehold::testing::store_contract::samples::P;
use leasehold::testing::store_contract::{Fixture, constants};
use leasehold::testing::world::{World, settings};
use parking_lot::Mutex;

use super::endings::unchanged;
use super::scene::{Level, Scene, agent_of, reason, spec, token};
use super::stores;

/// What is done on a decision, each at a broker of its own that knows the task from before the loss.
const VERBS: [Rpc; 5] = [
    Rpc::IssueCredential,
    Rpc::RenewCredential,
    Rpc::DelegateTask,
    Rpc::AdvanceTask,
    Rpc::Heartbeat,
];

async fn call(scene: &Scene, broker: &Broker, rpc: Rpc, level: &Level) -> Result<(), BrokerError> {
    let (id, agent, task) = (scene.world.id(), &level.agent, level.task);
    match rpc {
        Rpc::IssueCredential => broker.issue(agent, &id, token(task)).await.map(drop),
        Rpc::RenewCredential => {
            broker.renew(agent, &id, level.held[0].lease, None, None).await.map(drop)
        }
        Rpc::DelegateTask => {
            broker.delegate(agent, &id, task, 1, spec(&agent_of(2))).await.map(drop)
        }
        Rpc::AdvanceTask => broker.advance(&scene.ci, &id, task, unchanged(1)).await.map(drop),
        _ => broker.heartbeat(&scene.ci, &id, task).await.map(drop),
    }
}

/// Nothing goes on from before the loss, and everything does once the orchestrator has said so.
async fn after_a_loss(scene: &Scene, lose: impl AsyncFnOnce()) {
    let heartbeat = Some(Span::from_seconds(3_600));
    let listening = |depth| TaskSpec { heartbeat, ..spec(&agent_of(depth)) };
    let root = scene.begin(listening(0)).await.task.id;
    let child = scene.delegate(root, listening(1)).await.unwrap().task.id;
    let child = scene.held_level(child, scene.world.caller(&agent_of(1))).await;
    let mut brokers = Vec::new();
    for rpc in VERBS {
        let broker = scene.world.broker();
        scene.issue_at(&broker, &child.agent, token(child.task)).await.unwrap();
        brokers.push((rpc, broker));
    }
    lose().await;
    for (rpc, broker) in &brokers {
        let answer = call(scene, broker, *rpc, &child).await;
        assert_eq!(reason(answer), "TASK_SUSPENDED", "{rpc:?}");
    }
    scene.must_be_over(&child).await;
    assert_eq!(scene.state(root).await, State::Suspended);
    resume(scene, root).await;
    assert_eq!(reason(scene.issue(&child.agent, child.task).await), "TASK_SUSPENDED");
    resume(scene, child.task).await;
    // Not even then: that it was revoked may be what was lost.
    scene.must_be_dead(&scene.b, &child).await;
    scene.must_issue(&scene.b, &child).await;
}

async fn resume(scene: &Scene, task: TaskId) {
    scene.a.resume(&scene.ci, &scene.world.id(), task, 1).await.unwrap();
}

async fn on_a_store_that_can_lose() -> (Arc<ModelStore>, Scene) {
    let clock = Arc::new(TestClock::default());
    let model = Arc::new(ModelStore::new(clock.clone(), constants()));
    let fixture = Fixture::of(model.clone(), ());
    (model, Scene::of(World::over(fixture, clock).await))
}

#[tokio::test]
async fn class_07_nothing_goes_on_from_before_a_loss_until_its_orchestrator_says_so() {
    let (model, scene) = on_a_store_that_can_lose().await;
    after_a_loss(&scene, async || model.restart_after_loss()).await;
}

/// A policy that takes its time: once, while it is asked, the store loses something, and the broker hears of it.
#[derive(Default)]
struct Slow(Mutex<Option<Meanwhile>>);

struct Meanwhile {
    model: Arc<ModelStore>,
    broker: Arc<Broker>,
    ci: Caller,
    task: TaskId,
}

#[async_trait]
impl Policy for Slow {
    async fn ask(&self, _: &Question<'_>) -> Result<Verdict, PolicyError> {
        let meanwhile = self.0.lock().take();
        if let Some(Meanwhile { model, broker, ci, task }) = meanwhile {
            model.restart_after_loss();
            broker.get_task(&ci, task).await.unwrap();
        }
        Ok(Verdict::Allow)
    }

    fn version(&self) -> String {
        "test/1".to_owned()
    }
}

#[tokio::test]
async fn class_07_what_was_decided_before_a_loss_is_not_committed_after_it() {
    for rpc in [Rpc::IssueCredential, Rpc::RenewCredential, Rpc::DelegateTask] {
        let (model, scene) = on_a_store_that_can_lose().await;
        let task = scene.begin(spec(&agent_of(0))).await.task.id;
        let level = scene.held_level(task, scene.world.caller(&agent_of(0))).await;
        let policy = Arc::new(Slow::default());
        let parts = Parts { policy: policy.clone(), ..scene.world.parts() };
        let broker = Arc::new(Broker::new(parts, settings()));
        scene.issue_at(&broker, &level.agent, token(task)).await.unwrap();
        let (meanwhile, ci) = (broker.clone(), scene.ci.clone());
        *policy.0.lock() = Some(Meanwhile { model, broker: meanwhile, ci, task });
        let answer = call(&scene, &broker, rpc, &level).await;
        assert_eq!(reason(answer), "TASK_SUSPENDED", "{rpc:?}");
        assert!(policy.0.lock().is_none(), "nothing was lost");
    }
}

#[tokio::test]
async fn class_07_nothing_goes_on_from_before_a_redis_server_that_may_have_lost_something() {
    let mut server = RedisServer::lossy();
    let scene = stores::on_redis(&server).await;
    let (store, upkeep) = (&scene.world.store.store, &scene.world.store.upkeep);
    let lose = async || {
        server.restart();
        for lane in [Lane::Ordinary, Lane::Ending] {
            // The first commit of each connection finds out that it broke.
            store.commit(Commit::new(P, lane)).await.unwrap_err();
        }
        let recovered = upkeep.recover().await.unwrap();
        assert!(!recovered.is_empty() && recovered.iter().all(|part| part.fenced));
    };
    after_a_loss(&scene, lose).await;
}
