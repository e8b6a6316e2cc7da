//! For the unit tests of this module: pages and events, and a feed over a store whose answers are under the test's hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, watch};

use super::Feed;
use super::enforce::{Confirmed, NotDurable};
use super::hub::Positions;
use crate::domain::event::{Event, EventKind};
use crate::domain::feed::{
    BrokerRecord, InstanceId, Owner, ReadPosition, StoreId, VerifierRecord, Webhooks,
};
use crate::domain::id::{LeaseId, Partition};
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::domain::time::{Span, Stamp};
use crate::store::{
    Changed, Commit, Continuity, Feed as Pages, Lane, Meta, Outcome, Page, Recorded, Store as _,
    StoreError,
};
use crate::testing::clock::TestClock;
use crate::testing::model::ModelStore;
use crate::testing::store_contract::{Fixture, constants};
use crate::testing::world::World;

pub(super) const P: Partition = Partition::ZERO;
pub(super) const SECOND: Span = Span::from_seconds(1);
pub(super) const DELTA: Span = Span::from_seconds(5);

pub(super) fn stamp(seconds: u64) -> Stamp {
    Stamp::from_seconds(seconds)
}

pub(super) fn meta(incarnation: u64, now: u64) -> Meta {
    Meta {
        incarnation: stamp(incarnation),
        open: true,
        stamp: stamp(now),
        now: stamp(now),
        max_expiry: stamp(1_000),
        floor: Stamp::ZERO,
    }
}

pub(super) fn page(meta: Meta, events: Continuity) -> Page {
    Page { meta, events, more: false, head: None }
}

pub(super) fn event(incarnation: u64, at: u64, entries: Vec<Entry>) -> Recorded {
    let event = Event { entries, ..Event::of_broker(at, EventKind::TaskEnded, "test") };
    Recorded { stamp: stamp(at), incarnation: stamp(incarnation), keep_until: stamp(1_000), event }
}

/// The way of answers of one kind, from the store to the broker.
#[derive(Default)]
pub(super) struct Way {
    asked: AtomicUsize,
    takes: Mutex<Span>,
    held: tokio::sync::Mutex<()>,
}

impl Way {
    /// How many were on it.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }

    /// From now on each is on it for so long.
    pub(super) fn take(&self, time: Span) {
        *self.takes.lock() = time;
    }

    /// What is asked is answered as of then, and the answer is on its way until this is dropped.
    pub(super) async fn hold(&self) -> MutexGuard<'_, ()> {
        self.held.lock().await
    }

    async fn go<T>(&self, answer: T, clock: &TestClock) -> T {
        self.asked.fetch_add(1, Ordering::AcqRel);
        drop(self.held.lock().await);
        clock.forward(*self.takes.lock());
        answer
    }
}

/// A store that is far off, and may be closed, away, or silent about what changes in partitions.
pub(super) struct Slow {
    pub(super) store: Arc<ModelStore>,
    clock: Arc<TestClock>,
    pub(super) pages: Way,
    pub(super) beats: Way,
    pub(super) brokers: Way,
    pub(super) is_closed: AtomicBool,
    pub(super) is_away: AtomicBool,
    pub(super) is_silent: AtomicBool,
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
        let page = self.pages.go(page, &self.clock).await;
        let away = || StoreError::Unavailable("test".into());
        (!self.is_away.load(Ordering::Acquire)).then_some(page).ok_or_else(away)
    }

    async fn beat(&self, record: &BrokerRecord) -> Result<Stamp, StoreError> {
        let incarnation = self.store.beat(record).await;
        self.beats.go(incarnation, &self.clock).await
    }

    async fn brokers(&self) -> Result<(Stamp, Vec<BrokerRecord>), StoreError> {
        let brokers = self.store.brokers().await;
        self.brokers.go(brokers, &self.clock).await
    }

    async fn forget(&self, broker: InstanceId, beat: u64) -> Result<bool, StoreError> {
        self.store.forget(broker, beat).await
    }

    fn identity(&self) -> Option<StoreId> {
        self.store.identity()
    }

    fn first(&self) -> Option<Stamp> {
        self.store.first()
    }

    fn changes(&self, of: Changed) -> watch::Receiver<u64> {
        match (of, self.is_silent.load(Ordering::Acquire)) {
            (Changed::Partition(_), true) => watch::channel(0).1,
            _ => self.store.changes(of),
        }
    }
}

/// A feed over such a store, and where something was just written.
pub(super) struct Scene {
    pub(super) clock: Arc<TestClock>,
    pub(super) slow: Arc<Slow>,
    pub(super) feed: Arc<Feed>,
    pub(super) at: Origin,
}

impl Scene {
    pub(super) async fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        let store = Arc::new(ModelStore::new(clock.clone(), constants()));
        let slow = Arc::new(Slow {
            store: store.clone(),
            clock: clock.clone(),
            pages: Way::default(),
            beats: Way::default(),
            brokers: Way::default(),
            is_closed: AtomicBool::default(),
            is_away: AtomicBool::default(),
            is_silent: AtomicBool::default(),
        });
        let fixture = Fixture { feed: slow.clone(), ..Fixture::of(store, ()) };
        let feed = World::over(fixture, clock.clone()).await.feed();
        let nowhere = Origin { incarnation: Stamp::ZERO, stamp: Stamp::ZERO };
        let mut scene = Self { clock, slow, feed, at: nowhere };
        scene.look().await;
        scene
    }

    async fn look(&mut self) {
        let meta = self.slow.store.page(P, None, 1).await.unwrap().meta;
        self.at = Origin { incarnation: meta.incarnation, stamp: meta.stamp };
    }

    /// Another incarnation of the store begins, in which the registry is still there.
    pub(super) async fn restart(&mut self) {
        self.slow.store.restart();
        self.look().await;
    }

    /// A broker commits something that kills.
    pub(super) async fn kill(&mut self, number: u128) -> Vec<Entry> {
        let entries = vec![Entry::Lease(LeaseId::new(P, number))];
        self.commit(entries.clone()).await;
        entries
    }

    /// A broker commits something with these entries.
    pub(super) async fn commit(&mut self, entries: Vec<Entry>) {
        let event = event(0, 0, entries).event;
        let commit = Commit { event: Some(event), ..Commit::new(P, Lane::Ending) };
        let Outcome::Done(done) = self.slow.store.commit(commit).await.unwrap() else { panic!() };
        self.at = done.origin;
    }

    pub(super) async fn recorded(&self, delta: Span) -> Result<Confirmed, NotDurable> {
        self.feed.recorded([(P, self.at)].into(), delta).await
    }

    /// What this broker says of itself: whether it has applied what was written, and everybody whom it made fresh.
    pub(super) fn record(&self, beat: u64, is_applied: bool, is_acked: bool) -> BrokerRecord {
        let up_to = |is_so: bool| is_so.then_some((P, self.at)).into_iter().collect::<Positions>();
        BrokerRecord {
            instance: self.feed.settings().identity.instance,
            name: "b".into(),
            address: String::new(),
            incarnation: self.at.incarnation,
            beat,
            applied: up_to(is_applied),
            acked: up_to(is_acked),
            verifiers: Vec::new(),
            webhooks: Webhooks::new(),
        }
    }

    /// A broker writes its record.
    pub(super) async fn tell(&self, record: BrokerRecord) {
        self.slow.store.beat(&record).await.unwrap();
    }
}

/// A verifier where something may still run.
pub(super) fn running() -> VerifierRecord {
    VerifierRecord {
        instance: InstanceId::new(1),
        owner: Owner::default(),
        name: "v".into(),
        viewed_at: Stamp::ZERO,
        behind: Positions::new(),
        undrained: Some([(P, Origin { incarnation: Stamp::ZERO, stamp: Stamp::ZERO })].into()),
        connected: true,
    }
}
