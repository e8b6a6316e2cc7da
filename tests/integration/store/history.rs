//! Random histories, run on a store and on the model: the same answers, the same state.

use std::sync::Arc;

use futures_util::future::join_all;
use leasehold::broker::seams::Clock;
use leasehold::domain::clamp::Clamp;
use leasehold::domain::event::EventKind;
use leasehold::domain::id::LeaseId;
use leasehold::domain::lattice::Entry;
use leasehold::domain::time::{INFINITY, Span, Stamp};
use leasehold::store::feed::position;
use leasehold::store::redis::RedisStore;
use leasehold::store::{
    Continuity, Denial, Entries, Feed, Index, Listing, Outcome, Query, RecordKey, Recorded, Store,
    Upkeep,
};
use leasehold::testing::clock::TestClock;
use leasehold::testing::entropy::SeededEntropy;
use leasehold::testing::model::ModelStore;
use leasehold::testing::redis::RedisServer;
use leasehold::testing::store_contract::samples::{P, at, commit, lease_id, scope, task_id};
use leasehold::testing::store_contract::{Fixture, constants};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::runtime::Runtime;

use super::deeds::{Deed, Horizon, Step, history};
use super::open;

/// A store, and the model that does the same.
struct Beside {
    real: Fixture,
    model: ModelStore,
    clock: Option<Arc<TestClock>>,
}

impl Beside {
    /// The model begins in the incarnation of the store. A store that has another clock than the test's ignores its steps.
    async fn new(real: Fixture, clock: Option<Arc<TestClock>>) -> Self {
        let incarnation = real.snapshot(Vec::new(), Entries::None).await.meta.incarnation;
        let shown = clock.clone().unwrap_or_else(|| Arc::new(TestClock::at(incarnation)));
        let now = shown.now();
        shown.set(incarnation);
        let model = ModelStore::new(Arc::clone(&shown) as Arc<dyn Clock>, constants());
        shown.set(now);
        Self { real, model, clock }
    }

    async fn step(&self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Commits(deeds) => self.commits(deeds).await?,
            Step::Prune(seconds) => {
                self.real.upkeep.prune(P, at(*seconds)).await.unwrap();
                self.model.prune(P, at(*seconds)).await.unwrap();
            }
            Step::Clock(seconds) => {
                if let Some(clock) = &self.clock {
                    clock.set(at(*seconds));
                }
            }
        }
        self.compare().await
    }

    /// All at once on the store, which must act as if one came after the other.
    async fn commits(&self, deeds: &[Deed]) -> Result<(), TestCaseError> {
        let mut commits = Vec::new();
        for deed in deeds {
            commits.push(deed.commit(&self.model).await);
        }
        let real = join_all(commits.iter().map(|c| self.real.store.commit(c.clone()))).await;
        for (commit, real) in commits.into_iter().zip(real) {
            let text = format!("{commit:?}");
            let model = normal(self.model.commit(commit).await.unwrap());
            prop_assert_eq!(normal(real.unwrap()), model, "{}", text);
        }
        Ok(())
    }

    async fn compare(&self) -> Result<(), TestCaseError> {
        let real = state(&*self.real.store, &*self.real.upkeep).await;
        let events = self.real.upkeep.events(P, Stamp::ZERO, 1_000).await.unwrap();
        prop_assert_eq!(paged(&*self.real.feed, &events[0]).await, &events[1..]);
        let model = state(&self.model, &self.model).await;
        for (real, model) in real.iter().zip(&model) {
            prop_assert_eq!(real, model);
        }
        Ok(())
    }
}

/// What is left is zero at the ceiling in some stores, and what is really left in others: nobody hears of it.
fn normal(outcome: Outcome) -> String {
    let ceiling = Clamp::LeaseCeiling;
    format!(
        "{:?}",
        match outcome {
            Outcome::Denied(Denial::TooShort { clamp, .. }) if clamp == ceiling => {
                Outcome::Denied(Denial::TooShort { clamp, seconds: 0 })
            }
            other => other,
        }
    )
}

/// What follows an event, as a reader of the feed gets it.
async fn paged(feed: &dyn Feed, first: &Recorded) -> Vec<Recorded> {
    let (mut read, mut at) = (Vec::new(), position(first));
    loop {
        let page = feed.page(P, Some(at), 7).await.unwrap();
        let Continuity::Continued(events) = page.events else { panic!("it broke at {at:?}") };
        read.extend(events);
        at = read.last().map_or(at, position);
        if !page.more {
            assert_eq!(page.head, Some(at));
            return read;
        }
    }
}

/// Everything that can be read.
async fn state(store: &dyn Store, upkeep: &dyn Upkeep) -> Vec<String> {
    let tasks = (1..=3).map(|number| RecordKey::Task(task_id(number)));
    let named = (1..=3).map(|key| LeaseId::of_request(P, &[key; 32]));
    let leases = (1..=3).map(lease_id).chain(named).map(RecordKey::Lease);
    let answers = (1..=3).map(|number| RecordKey::Answer([number; 32]));
    let records = tasks
        .chain(leases)
        .chain(answers)
        .chain([RecordKey::Keyring, RecordKey::RevocationList])
        .collect();
    let query = Query::new(P, records, Entries::All);
    let snapshot = store.read(query).await.unwrap();
    let mut state = vec![
        format!("{:?}", snapshot.meta),
        format!("{:?}", snapshot.records),
        format!("{:?}", snapshot.lattice),
        format!("{:?}", snapshot.blocks),
    ];
    let of_tasks = (1..=3).map(|number| Index::Leases(task_id(number)));
    for index in of_tasks.chain([Index::Tasks, Index::Due(at(2_000)), Index::Due(INFINITY)]) {
        let listing = Listing { partition: P, index, after: String::new(), limit: 100 };
        state.push(format!("{index:?}: {:?}", store.list(listing).await.unwrap()));
    }
    state.push(format!("{:?}", upkeep.certificates(P, Stamp::ZERO, 100).await.unwrap()));
    let entries = Entries::Raised {
        tasks: (1..=3).map(task_id).collect(),
        reach: ["all", "class:finance", "tier:standard"].map(|text| scope(text).reach()).into(),
        leases: (1..=3).map(lease_id).collect(),
    };
    let raised = store.read(Query::new(P, vec![], entries)).await.unwrap();
    let raised = raised.raised.iter().filter(|(entry, _)| !matches!(entry, Entry::End(..)));
    let mut raised: Vec<_> = raised.map(|raised| format!("{raised:?}")).collect();
    raised.sort_unstable();
    state.push(format!("{raised:?}"));
    let events = upkeep.events(P, Stamp::ZERO, 1_000).await.unwrap();
    let events = events.iter().filter(|e| e.event.kind != EventKind::IncarnationBegun);
    state.extend(events.map(|event| format!("{event:?}")));
    state
}

/// Runs one history.
async fn run(
    real: Fixture,
    clock: Option<Arc<TestClock>>,
    history: &[Step],
) -> Result<(), TestCaseError> {
    let beside = Beside::new(real, clock).await;
    // From here on both are past every real clock.
    beside.real.done(commit(at(0))).await;
    beside.model.commit(commit(at(0))).await.unwrap();
    for step in history {
        beside.step(step).await?;
    }
    Ok(())
}

fn on_embedded(history: &[Step]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::default());
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(&folder, Arc::clone(&clock) as Arc<dyn Clock>);
        clock.forward(Span::from_seconds(1));
        let real = Fixture::of(store, ());
        run(real, Some(clock), history).await
    })
}

fn on_redis(history: &[Step]) -> Result<(), TestCaseError> {
    let server = RedisServer::durable();
    Runtime::new().unwrap().block_on(async {
        let entropy = |seed| Arc::new(SeededEntropy::new(seed));
        RedisStore::init(&server.settings(), constants(), entropy(1)).await.unwrap();
        let store = RedisStore::connect(&server.settings(), entropy(2)).await.unwrap();
        let store = Arc::new(store);
        let real = Fixture::of(store, ());
        run(real, None, history).await
    })
}

/// Times that pass whatever is kept, and commits that come in groups.
const EMBEDDED: Horizon = Horizon { seconds: 20_000, expiring: true, together: 8 };

/// Redis drops by its own clock, and orders what comes at once as it likes.
const REDIS: Horizon = Horizon { seconds: 3_000, expiring: false, together: 1 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn redis_answers_as_the_model_does(history in history(REDIS)) {
        on_redis(&history)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn embedded_answers_as_the_model_does(history in history(EMBEDDED)) {
        on_embedded(&history)?;
    }
}
