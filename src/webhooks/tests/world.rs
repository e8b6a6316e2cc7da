//! Brokers, their store and receivers, in one thread whose time is under the test's hand.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::seams::Clock;
use crate::domain::event::{Event, EventKind};
use crate::domain::feed::{Drift, InstanceId, Terms};
use crate::domain::id::Partition;
use crate::domain::principal::Name;
use crate::domain::secret::Secret;
use crate::domain::time::{Span, Stamp};
use crate::domain::webhook::{EVENTS, Interest};
use crate::feed::{self, Feed};
use crate::jose::{Algorithm, Expect, Typ, verify};
use crate::keys::SharedKeys;
use crate::store::{Commit, Lane, Outcome, Store as _};
use crate::testing::entropy::SeededEntropy;
use crate::testing::keys::keys;
use crate::testing::model::ModelStore;
use crate::testing::store_contract::constants;
use crate::testing::store_contract::samples::at;
use crate::webhooks::{Parts, Post, Posted, Settings, TYP, Webhooks};

/// No test waits longer, by the paused clock.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// A webhook for events of these kinds.
pub(super) fn webhook(name: &str, kinds: Vec<EventKind>) -> Settings {
    Settings {
        name: Name::parse(name).unwrap(),
        audience: "https://worker.example".to_owned(),
        interest: Interest { kinds, ..Interest::default() },
        give_up_after: Span::from_seconds(3_600),
    }
}

/// A webhook for every event.
pub(super) fn all(name: &str) -> Settings {
    webhook(name, EVENTS.iter().map(|(_, kind)| *kind).collect())
}

/// The runtime's paused clock.
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Stamp {
        self.wall()
    }

    fn wall(&self) -> Stamp {
        at(0).plus(self.elapsed())
    }

    fn elapsed(&self) -> Span {
        Span::from_micros(u64::try_from(self.0.elapsed().as_micros()).unwrap())
    }
}

pub(super) struct World {
    pub(super) store: Arc<ModelStore>,
    pub(super) keys: SharedKeys,
    clock: Arc<PausedClock>,
}

pub(super) struct Broker {
    pub(super) feed: Arc<Feed>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Broker {
    /// It is gone, and left its record.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl World {
    pub(super) fn new() -> Self {
        let clock = Arc::new(PausedClock(Instant::now()));
        let store = Arc::new(ModelStore::new(clock.clone(), constants()));
        let keys = futures_util::FutureExt::now_or_never(keys(at(0))).unwrap();
        Self { store, keys: Arc::new(ArcSwap::from_pointee(keys)), clock }
    }

    pub(super) fn now(&self) -> Stamp {
        self.clock.now()
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = Partition> {
        constants().partitions.all()
    }

    /// A broker that answers.
    pub(super) async fn broker(&self, n: u128, webhooks: Vec<(Settings, Arc<Inbox>)>) -> Broker {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let constants = constants();
        let settings = feed::Settings {
            identity: feed::Identity {
                instance: InstanceId::new(n),
                name: format!("broker-{n}"),
                address: String::new(),
            },
            terms: Terms { drift: Drift::DEFAULT, delta_max: constants.delta_max },
            partitions: constants.partitions,
            store: None,
            first: crate::store::Feed::first(&*self.store),
            streams: 16,
            cadence: Span::from_millis(200),
        };
        let parts = feed::Parts {
            store: self.store.clone(),
            feed: self.store.clone(),
            clock: self.clock.clone(),
        };
        let feed = Feed::new(parts, settings, stop.clone());
        let parts = Parts {
            store: self.store.clone(),
            events: self.store.clone(),
            feed: feed.clone(),
            keys: self.keys.clone(),
            clock: self.clock.clone(),
            entropy: Arc::new(SeededEntropy::new(u64::try_from(n).unwrap())),
        };
        let post = |(settings, inbox): (Settings, Arc<Inbox>)| {
            inbox.keys.lock().get_or_insert_with(|| self.keys.clone());
            let inbox: Arc<dyn Post> = inbox;
            (settings, inbox)
        };
        let webhooks = Webhooks::new(parts, webhooks.into_iter().map(post).collect()).await;
        feed.spawn(&tasks);
        feed.registered().await;
        webhooks.spawn(&tasks, &stop);
        Broker { feed, stop, tasks }
    }

    /// Commits an event; its stamp.
    pub(super) async fn announce(&self, event: Event) -> Stamp {
        self.announce_in(Partition(1), event).await
    }

    pub(super) async fn announce_in(&self, partition: Partition, event: Event) -> Stamp {
        self.commit(Commit { event: Some(event), ..Commit::new(partition, Lane::Ordinary) }).await
    }

    pub(super) async fn commit(&self, commit: Commit) -> Stamp {
        match self.store.commit(commit).await.unwrap() {
            Outcome::Done(receipt) => receipt.origin.stamp,
            other => panic!("{other:?}"),
        }
    }
}

/// A receiver that does what the test says.
pub(super) struct Inbox {
    answers: Mutex<VecDeque<Posted>>,
    otherwise: Mutex<Posted>,
    hangs: Mutex<Duration>,
    tries: watch::Sender<Vec<(Instant, String)>>,
    got: watch::Sender<Vec<Value>>,
    keys: Mutex<Option<SharedKeys>>,
}

impl Inbox {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::default(),
            otherwise: Mutex::new(Posted::Taken),
            hangs: Mutex::default(),
            tries: watch::Sender::new(Vec::new()),
            got: watch::Sender::new(Vec::new()),
            keys: Mutex::default(),
        })
    }

    /// What the next tries are answered.
    pub(super) fn answer(&self, answers: impl IntoIterator<Item = Posted>) {
        self.answers.lock().extend(answers);
    }

    pub(super) fn refuse_all(&self, answer: Posted) {
        *self.otherwise.lock() = answer;
    }

    pub(super) fn take_all(&self) {
        self.refuse_all(Posted::Taken);
    }

    pub(super) fn hang_for(&self, time: Duration) {
        *self.hangs.lock() = time;
    }

    /// What was taken, as it was signed.
    pub(super) fn got(&self) -> Vec<Value> {
        self.got.borrow().clone()
    }

    /// Every try: when, and of what.
    pub(super) fn tries(&self) -> Vec<(Instant, String)> {
        self.tries.borrow().clone()
    }

    /// Waits until what was taken is like this.
    pub(super) async fn until(&self, is_so: impl FnMut(&Vec<Value>) -> bool) {
        let mut got = self.got.subscribe();
        let waited = tokio::time::timeout(PATIENCE, got.wait_for(is_so)).await.map(drop);
        assert!(waited.is_ok(), "{:?}", self.got());
    }

    /// Waits until so many were taken; the names of all of them.
    pub(super) async fn names(&self, count: usize) -> Vec<String> {
        self.until(|got| got.len() >= count).await;
        let name = |event: &Value| {
            let uri = event["events"].as_object().unwrap().keys().next().unwrap().clone();
            uri.strip_prefix("urn:leasehold:event:").unwrap().to_owned()
        };
        self.got().iter().map(name).collect()
    }

    /// Waits until there were so many tries.
    pub(super) async fn tried(&self, count: usize) {
        let mut tries = self.tries.subscribe();
        let tried = tries.wait_for(|tries| tries.len() >= count);
        tokio::time::timeout(PATIENCE, tried).await.unwrap().unwrap();
    }

    /// Nothing comes for a long time.
    pub(super) async fn nothing_more(&self) {
        let before = self.got();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(self.got(), before);
    }
}

#[async_trait]
impl Post for Inbox {
    async fn post(&self, token: &Secret) -> Posted {
        let keys = self.keys.lock().clone().unwrap().load_full();
        let expect = Expect {
            typ: Typ::Is(TYP),
            algorithms: &[Algorithm::ES256],
            keys: keys.security_event_verifying_keys(),
        };
        let claims = verify(token.expose_text(), expect).unwrap();
        assert_eq!(claims.sole_audience().unwrap(), "https://worker.example");
        assert_eq!(claims.text("iss").unwrap(), "https://leasehold.example/events");
        let event = Value::Object(claims.members().clone().into_iter().collect());
        let jti = claims.text("jti").unwrap().to_owned();
        self.tries.send_modify(|tries| tries.push((Instant::now(), jti)));
        let hangs = *self.hangs.lock();
        tokio::time::sleep(hangs).await;
        let answer =
            self.answers.lock().pop_front().unwrap_or_else(|| self.otherwise.lock().clone());
        if answer == Posted::Taken {
            self.got.send_modify(|got| got.push(event));
        }
        answer
    }
}
