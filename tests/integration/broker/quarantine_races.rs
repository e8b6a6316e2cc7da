//! Quarantines and lifts at the same time, by brokers over one store, and what is left where one of them dies.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold::broker::Lifted;
use leasehold::domain::event::{Event, EventKind};
use leasehold::domain::id::Partition;
use leasehold::domain::lattice::Entry;
use leasehold::domain::path::Origin;
use leasehold::domain::scope::Scope;
use leasehold::store::{Commit, Lane, Listing, Outcome, Query, Snapshot, Store, StoreError};
use leasehold::testing::store_contract::constants;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::scene::{Scene, agent_of, reason, spec, token};
use super::stores::over_every_store;

over_every_store! {
    class_06_of_a_quarantine_and_a_lift_at_once_the_quarantine_stands,
    class_06_a_lift_after_the_quarantine_that_it_read_lifts_it,
    lifting_what_was_not_quarantined_says_so_and_writes_nothing,
    class_06_half_a_quarantine_is_lifted_whole,
    class_06_what_a_dead_writer_left_is_written_in_partition_0_last,
}

/// Holds up all commits while it is shut, and remembers where the others went.
struct Shut {
    inner: Arc<dyn Store>,
    is_shut: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
    written: Mutex<Vec<Partition>>,
}

impl Shut {
    fn over(scene: &Scene) -> Arc<Self> {
        Arc::new(Self {
            inner: scene.world.store.store.clone(),
            is_shut: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
            written: Mutex::default(),
        })
    }
}

#[async_trait]
impl Store for Shut {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.waiting.send_modify(|count| *count += 1);
        self.is_shut.subscribe().wait_for(|is_shut| !is_shut).await.unwrap();
        self.written.lock().push(commit.partition);
        self.inner.commit(commit).await
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        self.inner.read(query).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.inner.list(listing).await
    }
}

fn class() -> Scope {
    Scope::parse("class:finance").unwrap()
}

async fn quarantine(scene: &Scene) {
    let id = scene.world.id();
    scene.a.quarantine(&scene.operator, &id, class(), String::new()).await.unwrap();
}

async fn lift(scene: &Scene) -> Lifted {
    let id = scene.world.id();
    scene.a.lift_quarantine(&scene.operator, &id, class(), String::new()).await.unwrap()
}

/// The lift has decided, on what it read, and waits for the store; then the quarantine comes, from the first read to the last
/// commit.
async fn class_06_of_a_quarantine_and_a_lift_at_once_the_quarantine_stands(scene: Scene) {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let agent = scene.world.caller(&agent_of(0));
    quarantine(&scene).await;
    let store = Shut::over(&scene);
    let (clock, upkeep) = (scene.world.clock.clone(), scene.world.store.upkeep.clone());
    let lifting = scene.world.broker_of(clock, store.clone(), upkeep);
    store.is_shut.send_replace(true);
    let id = scene.world.id();
    let lift = lifting.lift_quarantine(&scene.operator, &id, class(), String::new());
    let meanwhile = async {
        let others = usize::from(constants().partitions.get()) - 1;
        store.waiting.subscribe().wait_for(|waiting| *waiting == others).await.unwrap();
        quarantine(&scene).await;
        store.is_shut.send_replace(false);
    };
    let both = async { tokio::join!(lift, meanwhile).0 };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap().unwrap();
    for broker in [&scene.a, &scene.b, &lifting] {
        let standing = broker.status(&scene.operator).await.unwrap().quarantined_scopes;
        assert_eq!(standing, ["class:finance"]);
        assert_eq!(reason(scene.issue_at(broker, &agent, token(task)).await), "QUARANTINED");
    }
}

async fn class_06_a_lift_after_the_quarantine_that_it_read_lifts_it(scene: Scene) {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    for _ in 0..3 {
        quarantine(&scene).await;
        quarantine(&scene).await;
        assert!(lift(&scene).await.was_quarantined);
        scene.issue(&scene.world.caller(&agent_of(0)), task).await.unwrap();
    }
}

async fn lifting_what_was_not_quarantined_says_so_and_writes_nothing(scene: Scene) {
    let upkeep = scene.world.store.upkeep.clone();
    let events = async || {
        let mut all = 0;
        for partition in constants().partitions.all() {
            all += upkeep.events(partition, Default::default(), 10_000).await.unwrap().len();
        }
        all
    };
    let before = events().await;
    let id = scene.world.id();
    let lift = async || {
        scene.b.lift_quarantine(&scene.operator, &id, class(), String::new()).await.unwrap()
    };
    let first = lift().await;
    assert!(!first.was_quarantined);
    assert_eq!(events().await, before);
    // The same request lifts nothing that came after it.
    quarantine(&scene).await;
    assert_eq!(lift().await.at, first.at);
    let standing = scene.b.status(&scene.operator).await.unwrap().quarantined_scopes;
    assert_eq!(standing, ["class:finance"]);
}

/// A quarantine whose writer died when it had come to one partition, which is none that is looked at first.
async fn half_a_quarantine(scene: &Scene) {
    let scope = class();
    let entries =
        vec![Entry::Block(scope.clone(), 1), Entry::Watermark(scope.clone(), Origin::default())];
    let event = Event { entries, ..Event::of_broker(7, EventKind::Quarantined, "") };
    let third = constants().partitions.all().nth(2).unwrap();
    let commit = Commit { event: Some(event), ..Commit::new(third, Lane::Ending) };
    scene.world.store.store.commit(commit).await.unwrap();
}

/// Of the counts the highest is gone by: else the lift would have nothing to lift, and what is there would be written everywhere.
async fn class_06_half_a_quarantine_is_lifted_whole(scene: Scene) {
    half_a_quarantine(&scene).await;
    assert!(lift(&scene).await.was_quarantined);
    for _ in 0..2 {
        scene.b.sweep().await.unwrap();
    }
    assert!(scene.b.status(&scene.operator).await.unwrap().quarantined_scopes.is_empty());
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    scene.issue(&scene.world.caller(&agent_of(0)), task).await.unwrap();
}

/// Whoever is told of the event of partition 0 is told that it holds everywhere.
async fn class_06_what_a_dead_writer_left_is_written_in_partition_0_last(scene: Scene) {
    half_a_quarantine(&scene).await;
    let store = Shut::over(&scene);
    let (clock, upkeep) = (scene.world.clock.clone(), scene.world.store.upkeep.clone());
    let sweeping = scene.world.broker_of(clock, store.clone(), upkeep);
    sweeping.sweep().await.unwrap();
    assert!(store.written.lock().is_empty(), "its writer may be at work");
    sweeping.sweep().await.unwrap();
    let written = store.written.lock().clone();
    assert_eq!(written.len(), usize::from(constants().partitions.get()) - 1, "{written:?}");
    assert_eq!(written.last(), Some(&Partition::ZERO), "{written:?}");
}
