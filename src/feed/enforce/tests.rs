//! What RECORDED takes, and whom DRAINED asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;

use super::*;
use crate::broker::seams::Clock;
use crate::domain::feed::{BrokerRecord, Drift, ReadPosition, VerifierRecord, Webhooks};
use crate::domain::feed::{InstanceId, Owner};
use crate::store::{Changed, Feed as Pages, Page};
use crate::testing::clock::TestClock;
use crate::testing::model::ModelStore;
use crate::testing::store_contract::{Fixture, constants};
use crate::testing::world::World;

const P: Partition = Partition::ZERO;
const SECOND: Span = Span::from_seconds(1);
const DELTA: Span = Span::from_seconds(5);

/// A store of which a look takes a second, and which may be closed.
struct Slow {
    store: Arc<ModelStore>,
    clock: Arc<TestClock>,
    is_closed: AtomicBool,
}

#[async_trait]
impl Pages for Slow {
    async fn page(
        &self,
        partition: Partition,
        after: Option<ReadPosition>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let mut page = self.store.page(partition, after, limit).await?;
        page.meta.open = !self.is_closed.load(Ordering::Acquire);
        self.clock.forward(SECOND);
        Ok(page)
    }

    async fn beat(&self, record: &BrokerRecord) -> Result<Stamp, StoreError> {
        self.store.beat(record).await
    }

    async fn brokers(&self) -> Result<(Stamp, Vec<BrokerRecord>), StoreError> {
        self.store.brokers().await
    }

    async fn forget(&self, broker: InstanceId, beat: u64) -> Result<bool, StoreError> {
        self.store.forget(broker, beat).await
    }

    fn first(&self) -> Option<Stamp> {
        self.store.first()
    }

    fn changes(&self, of: Changed) -> watch::Receiver<u64> {
        self.store.changes(of)
    }
}

/// A feed over such a store, and where something was just written.
struct Scene {
    clock: Arc<TestClock>,
    slow: Arc<Slow>,
    feed: Arc<Feed>,
    at: Origin,
}

impl Scene {
    async fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        let store = Arc::new(ModelStore::new(clock.clone(), constants()));
        let meta = store.page(P, None, 1).await.unwrap().meta;
        let at = Origin { incarnation: meta.incarnation, stamp: meta.stamp };
        let (is_closed, time) = (AtomicBool::new(false), clock.clone());
        let slow = Arc::new(Slow { store: store.clone(), clock: time, is_closed });
        let fixture = Fixture { feed: slow.clone(), ..Fixture::of(store, ()) };
        let feed = World::over(fixture, clock.clone()).await.feed();
        Self { clock, slow, feed, at }
    }

    async fn recorded(&self, delta: Span) -> Result<Confirmed, NotDurable> {
        self.feed.recorded([(P, self.at)].into(), delta).await
    }

    /// As a broker says it that is so far.
    async fn tell(&self, beat: u64, is_applied: bool, verifiers: Vec<VerifierRecord>) {
        let applied: BTreeMap<_, _> = is_applied.then_some((P, self.at)).into_iter().collect();
        let record = BrokerRecord {
            instance: self.feed.settings().identity.instance,
            name: "b".into(),
            address: String::new(),
            incarnation: self.at.incarnation,
            beat,
            applied: applied.clone(),
            acked: applied,
            verifiers,
            webhooks: Webhooks::new(),
        };
        self.slow.store.beat(&record).await.unwrap();
    }
}

#[tokio::test]
async fn class_07_what_was_written_is_recorded_only_where_it_still_stands() {
    let scene = Scene::new().await;
    let before = scene.clock.elapsed();
    let confirmed = scene.recorded(DELTA).await.unwrap();
    let looked = Moment::new(before).plus(SECOND);
    assert_eq!(confirmed.ending.recorded, looked, "it counts from when that was known");
    scene.slow.is_closed.store(true, Ordering::Release);
    assert!(matches!(scene.recorded(DELTA).await, Err(NotDurable::Changed)), "closed");
    scene.slow.is_closed.store(false, Ordering::Release);
    scene.slow.store.restart();
    assert!(matches!(scene.recorded(DELTA).await, Err(NotDurable::Changed)), "another incarnation");
}

#[tokio::test]
async fn no_ending_waits_for_longer_than_the_store_s_delta_max() {
    let scene = Scene::new().await;
    let delta_max = constants().delta_max;
    let confirmed = scene.recorded(delta_max.times(2)).await.unwrap();
    assert_eq!(confirmed.ending.delta, delta_max);
}

/// The store says how long ago it was, and counts by a clock of its own.
#[tokio::test]
async fn class_07_who_left_since_is_asked_for_however_far_clocks_run_apart() {
    let scene = Scene::new().await;
    let ago = Span::from_seconds(600);
    scene.clock.forward(ago.times(2));
    let at = Origin { stamp: scene.clock.now(), ..scene.at };
    scene.clock.forward(ago);
    let confirmed = scene.feed.recorded([(P, at)].into(), DELTA).await.unwrap();
    let age = confirmed.ending.recorded.since(confirmed.since);
    assert!(age >= Drift::DEFAULT.lapse(ago), "{age:?}");
}

/// A broker that has not applied it may let in more, at verifiers that it does not list yet.
#[tokio::test(start_paused = true)]
async fn drained_asks_those_who_were_listed_when_every_broker_had_applied_it() {
    let scene = Scene::new().await;
    scene.tell(1, false, vec![]).await;
    let following = tokio::spawn(scene.feed.clone().follow_registry());
    let confirmed = scene.recorded(DELTA).await.unwrap();
    let feed = scene.feed.clone();
    let waiting =
        tokio::spawn(
            async move { feed.enforced(&confirmed, WaitFor::Drained, None, SECOND).await },
        );
    let look = Duration::from_millis(500);
    tokio::time::sleep(look).await;
    let running = VerifierRecord {
        instance: InstanceId::new(1),
        owner: Owner::default(),
        name: "v".into(),
        viewed_at: Stamp::ZERO,
        behind: BTreeMap::new(),
        undrained: Some([(P, Origin { incarnation: Stamp::ZERO, stamp: Stamp::ZERO })].into()),
        connected: true,
    };
    scene.tell(2, true, vec![running]).await;
    tokio::time::sleep(look).await;
    scene.clock.forward(SECOND);
    let outcome = waiting.await.unwrap();
    assert_eq!((outcome.reached, outcome.undrained), (WaitFor::Fenced, vec!["v".to_owned()]));
    following.abort();
}
