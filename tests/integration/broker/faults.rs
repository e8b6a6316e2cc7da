//! A store that fails: an ending is never answered as done when nobody knows that it is, and trying again finishes it.

use std::sync::Arc;

use leasehold::broker::access::Rpc;
use leasehold::broker::error::BrokerError;
use leasehold::broker::request::Idempotency;
use leasehold::broker::{Broker, Hindrance};
use leasehold::domain::scope::Scope;
use leasehold::domain::time::Stamp;
use leasehold::store::StoreError;
use leasehold::testing::clock::TestClock;
use leasehold::testing::faulty_store::{Fault, FaultyStore};
use leasehold::testing::model::ModelStore;
use leasehold::testing::store_contract::{Fixture, constants};
use leasehold::testing::world::World;

use super::endings::unchanged;
use super::scene::{Held, Level, Scene, agent_of, spec, stranger, token};

const ENDINGS: [Rpc; 9] = [
    Rpc::CompleteTask,
    Rpc::FailTask,
    Rpc::CancelTask,
    Rpc::RevokeTask,
    Rpc::AdvanceTask,
    Rpc::SuspendTask,
    Rpc::ReleaseCredential,
    Rpc::RevokeLease,
    Rpc::Quarantine,
];

/// A broker over a store that fails as planned, beside those of the scene.
fn faulty(scene: &Scene) -> (Arc<FaultyStore>, Broker) {
    let fixture = &scene.world.store;
    let store = FaultyStore::over(fixture.store.clone(), fixture.feed.clone());
    let upkeep = scene.world.store.upkeep.clone();
    let broker = scene.world.broker_of(scene.world.clock.clone(), store.clone(), upkeep);
    (store, broker)
}

async fn ends(
    scene: &Scene,
    broker: &Broker,
    rpc: Rpc,
    id: &Idempotency,
    level: &Level,
) -> Result<(), BrokerError> {
    let (task, lease, text) = (level.task, level.held[0].lease, String::new());
    let scope = Scope::parse("class:finance").unwrap();
    match rpc {
        Rpc::AdvanceTask => broker.advance(&scene.ci, id, task, unchanged(1)).await.map(drop),
        Rpc::SuspendTask => broker.suspend(&scene.ci, id, task, text).await.map(drop),
        Rpc::ReleaseCredential => broker.release(&level.agent, id, lease).await.map(drop),
        Rpc::RevokeLease => broker.revoke_lease(&scene.operator, id, lease, text).await.map(drop),
        Rpc::Quarantine => broker.quarantine(&scene.operator, id, scope, text).await.map(drop),
        Rpc::RevokeTask => broker.end(&scene.operator, id, rpc, task, text).await.map(drop),
        _ => broker.end(&scene.ci, id, rpc, task, text).await.map(drop),
    }
}

fn is_store_error(result: &Result<(), BrokerError>) -> bool {
    matches!(result, Err(BrokerError::Store(StoreError::Unavailable(_))))
}

async fn level(scene: &Scene) -> Level {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    scene.held_level(task, scene.world.caller(&agent_of(0))).await
}

#[tokio::test]
async fn class_07_an_ending_that_the_store_did_not_take_is_an_error_and_ends_nothing() {
    for rpc in ENDINGS {
        let scene = Scene::on_model().await;
        let (store, broker) = faulty(&scene);
        let level = level(&scene).await;
        let id = scene.world.id();
        store.plan(&[Fault::Before; 4]);
        assert!(is_store_error(&ends(&scene, &broker, rpc, &id, &level).await), "{rpc:?}");
        scene.must_go_on(&level).await;
        store.plan(&[]);
        ends(&scene, &broker, rpc, &id, &level).await.unwrap();
        assert!(!scene.is_active(&scene.b, &level.held[0]).await, "{rpc:?}");
    }
}

#[tokio::test]
async fn class_07_an_ending_whose_answer_was_lost_is_an_error_and_is_answered_when_asked_again() {
    for rpc in ENDINGS {
        let scene = Scene::on_model().await;
        let (store, broker) = faulty(&scene);
        let level = level(&scene).await;
        let id = scene.world.id();
        store.plan(&[Fault::After; 4]);
        assert!(is_store_error(&ends(&scene, &broker, rpc, &id, &level).await), "{rpc:?}");
        store.plan(&[]);
        for broker in [&broker, &scene.b] {
            ends(&scene, broker, rpc, &id, &level).await.unwrap();
            assert!(!scene.is_active(broker, &level.held[0]).await, "{rpc:?}");
        }
    }
}

#[tokio::test]
async fn class_07_revoking_by_showing_the_token_is_no_success_while_the_store_is_away() {
    let scene = Scene::on_model().await;
    let (store, broker) = faulty(&scene);
    let level = level(&scene).await;
    let super::scene::Shown::Token(token) = &level.held[0].shown else { panic!("no token") };
    let [one, other] = [stranger(&broker).await, stranger(&broker).await];
    store.plan(&[Fault::Before]);
    assert!(is_store_error(&broker.revoke_presented(one, token).await));
    store.fail_reads(true);
    assert!(is_store_error(&broker.revoke_presented(other, token).await));
    assert!(scene.is_active(&scene.b, &level.held[0]).await);
}

#[tokio::test]
async fn class_07_a_quarantine_that_was_written_in_some_partitions_is_finished_by_asking_again() {
    for written in 0..usize::from(constants().partitions.get()) {
        let scene = Scene::on_model().await;
        let (store, broker) = faulty(&scene);
        let mut levels = Vec::new();
        for partition in constants().partitions.all() {
            let task = scene.begin_in(partition, &scene.ci, spec(&agent_of(0))).await.task.id;
            levels.push(scene.held_level(task, scene.world.caller(&agent_of(0))).await);
        }
        let id = scene.world.id();
        store.plan(&[vec![Fault::None; written], vec![Fault::Before]].concat());
        let first = ends(&scene, &broker, Rpc::Quarantine, &id, &levels[0]).await;
        assert!(is_store_error(&first), "after {written} partitions");
        ends(&scene, &broker, Rpc::Quarantine, &id, &levels[0]).await.unwrap();
        for level in &levels {
            scene.must_be_over(level).await;
        }
    }
}

/// A lift that broke off left the scope blocked here and free there.
#[tokio::test]
async fn class_07_a_quarantine_after_a_lift_that_broke_off_blocks_in_every_partition() {
    for written in 0..usize::from(constants().partitions.get()) {
        let scene = Scene::on_model().await;
        let (store, broker) = faulty(&scene);
        let mut levels = Vec::new();
        for partition in constants().partitions.all() {
            let task = scene.begin_in(partition, &scene.ci, spec(&agent_of(0))).await.task.id;
            levels.push(scene.held_level(task, scene.world.caller(&agent_of(0))).await);
        }
        let id = scene.world.id();
        ends(&scene, &broker, Rpc::Quarantine, &id, &levels[0]).await.unwrap();
        store.plan(&[vec![Fault::None; written], vec![Fault::Before]].concat());
        let (id, scope) = (scene.world.id(), Scope::parse("class:finance").unwrap());
        let lifted = broker.lift_quarantine(&scene.operator, &id, scope, String::new()).await;
        assert!(is_store_error(&lifted.map(drop)), "after {written} partitions");
        let id = scene.world.id();
        ends(&scene, &broker, Rpc::Quarantine, &id, &levels[0]).await.unwrap();
        for level in &levels {
            scene.must_be_over(level).await;
        }
    }
}

#[tokio::test]
async fn class_07_what_the_store_cannot_say_is_neither_active_nor_issued() {
    let scene = Scene::on_model().await;
    let (store, broker) = faulty(&scene);
    let level = level(&scene).await;
    scene.issue_at(&broker, &level.agent, token(level.task)).await.unwrap();
    store.fail_reads(true);
    let shown = broker.introspect(&scene.operator, level.held[0].presented()).await;
    assert!(is_store_error(&shown.map(drop)));
    store.plan(&[Fault::Before]);
    let issued = scene.issue_at(&broker, &level.agent, token(level.task)).await;
    assert!(is_store_error(&issued.map(drop)));
}

#[tokio::test]
async fn an_issue_whose_answer_was_lost_is_the_same_credential_when_asked_again() {
    let scene = Scene::on_model().await;
    let (store, broker) = faulty(&scene);
    let agent = scene.world.caller(&agent_of(0));
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let id = scene.world.id();
    store.plan(&[Fault::After]);
    assert!(is_store_error(&broker.issue(&agent, &id, token(task)).await.map(drop)));
    let leases = scene.a.list_leases(&agent, task, 0, "").await.unwrap().leases;
    assert_eq!(leases.len(), 1);
    let again = Held::of(&scene.b.issue(&agent, &id, token(task)).await.unwrap(), None);
    assert_eq!((again.lease, again.jti), (leases[0].lease.draft.id, leases[0].lease.draft.jti));
}

#[tokio::test]
async fn class_07_after_a_restart_of_the_store_what_was_dead_is_dead_and_the_rest_goes_on() {
    let clock = Arc::new(TestClock::default());
    let model = Arc::new(ModelStore::new(clock.clone(), constants()));
    let fixture = Fixture::of(model.clone(), ());
    let scene = Scene::of(World::over(fixture, clock).await);
    let (dead, alive) = (level(&scene).await, level(&scene).await);
    scene.end(Rpc::CompleteTask, dead.task).await.unwrap();
    model.restart();
    scene.must_be_over(&dead).await;
    scene.must_go_on(&alive).await;
    let fresh = scene.world.broker();
    assert!(!scene.is_active(&fresh, &dead.held[0]).await);
    assert!(scene.is_active(&fresh, &alive.held[0]).await);
}

/// What a server that lost something still has, nobody may take for the truth before it is recovered.
#[tokio::test]
async fn class_07_nothing_that_a_closed_partition_holds_is_told_or_confirmed() {
    let scene = Scene::on_model().await;
    let (store, broker) = faulty(&scene);
    let level = level(&scene).await;
    let (held, id) = (&level.held[0], scene.world.id());
    let again = token(level.task);
    broker.issue(&level.agent, &id, again.clone()).await.unwrap();
    store.close(true);
    let closed = |what: &str, error: Option<BrokerError>| {
        let is_closed = matches!(error, Some(BrokerError::Store(StoreError::Closed(_))));
        assert!(is_closed, "{what}: {error:?}");
    };
    let ledger = &scene.ledger;
    closed("introspect", broker.introspect(ledger, held.presented()).await.err());
    closed("replay", broker.issue(&level.agent, &id, again).await.err());
    closed("lease", broker.get_lease(&level.agent, held.lease).await.err());
    closed("leases", broker.list_leases(&level.agent, level.task, 0, "").await.err());
    closed("task", broker.get_task(&scene.ci, level.task).await.err());
    closed("tasks", broker.list_tasks(&scene.ci, 0, "", None).await.err());
    assert_eq!(broker.hindrance().await.unwrap(), Some(Hindrance::Closed));
    let partitions = broker.status(&scene.operator).await.unwrap().partitions;
    assert!(partitions.iter().all(|(_, meta)| !meta.open), "operators see what is closed");
    store.close(false);
    assert!(scene.is_active(&broker, held).await);
}

/// Whoever threw the switch died between two partitions, and never comes back.
#[tokio::test]
async fn class_07_what_one_broker_wrote_of_a_quarantine_another_one_finishes() {
    let scene = Scene::on_model().await;
    let (store, dying) = faulty(&scene);
    let mut levels = Vec::new();
    for partition in constants().partitions.all() {
        let task = scene.begin_in(partition, &scene.ci, spec(&agent_of(0))).await.task.id;
        levels.push(scene.held_level(task, scene.world.caller(&agent_of(0))).await);
    }
    let scope = Scope::parse(&format!("principal:{}", agent_of(0))).unwrap();
    store.plan(&[Fault::None, Fault::Before, Fault::Before, Fault::Before]);
    let id = scene.world.id();
    dying.quarantine(&scene.operator, &id, scope.clone(), "bad".to_owned()).await.unwrap_err();
    let mut reached = Vec::new();
    for level in &levels {
        reached.push(!scene.is_active(&scene.a, &level.held[0]).await);
    }
    assert!(reached.contains(&true) && reached.contains(&false), "half of it is written");
    for _ in 0..2 {
        scene.b.sweep().await.unwrap();
    }
    for level in &levels {
        scene.must_be_over(level).await;
    }
    store.plan(&[Fault::None, Fault::Before, Fault::Before, Fault::Before]);
    let id = scene.world.id();
    dying.lift_quarantine(&scene.operator, &id, scope, "good".to_owned()).await.unwrap_err();
    for _ in 0..2 {
        scene.b.sweep().await.unwrap();
    }
    for level in &levels {
        scene.must_be_dead(&scene.b, level).await;
        scene.must_issue(&scene.b, level).await;
    }
    let before = events(&scene).await;
    for broker in [&scene.a, &scene.b, &scene.a] {
        broker.sweep().await.unwrap();
    }
    assert_eq!(events(&scene).await, before, "what is whole is left alone");
}

async fn events(scene: &Scene) -> usize {
    let upkeep = &scene.world.store.upkeep;
    let mut count = 0;
    for partition in constants().partitions.all() {
        count += upkeep.events(partition, Stamp::ZERO, 1_000).await.unwrap().len();
    }
    count
}
