//! What RECORDED takes, and whom DRAINED asks.

use std::sync::atomic::Ordering;

use super::*;
use crate::broker::seams::Clock as _;
use crate::domain::feed::{BrokerRecord, Drift};
use crate::feed::testing::{DELTA, P, SECOND, Scene, running};
use crate::testing::store_contract::constants;

impl Scene {
    /// Reads the registry, in which a broker has written this, and says how far something is that was recorded before.
    async fn reached(&self, confirmed: &Confirmed, record: BrokerRecord) -> Outcome {
        self.tell(record).await;
        self.feed.read_registry().await.unwrap();
        self.feed.enforced(confirmed, WaitFor::Drained, None, Span::ZERO).await
    }
}

#[tokio::test]
async fn class_07_what_was_written_is_recorded_only_where_it_still_stands() {
    let scene = Scene::new().await;
    scene.slow.pages.take(SECOND);
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
    scene.tell(scene.record(1, false, false)).await;
    let following = tokio::spawn(scene.feed.clone().follow_registry());
    let confirmed = scene.recorded(DELTA).await.unwrap();
    let feed = scene.feed.clone();
    let waiting =
        tokio::spawn(
            async move { feed.enforced(&confirmed, WaitFor::Drained, None, SECOND).await },
        );
    let look = Duration::from_millis(500);
    tokio::time::sleep(look).await;
    scene.tell(BrokerRecord { verifiers: vec![running()], ..scene.record(2, true, true) }).await;
    tokio::time::sleep(look).await;
    scene.clock.forward(SECOND);
    let outcome = waiting.await.unwrap();
    assert_eq!((outcome.reached, outcome.undrained), (WaitFor::Fenced, vec!["v".to_owned()]));
    following.abort();
}

#[tokio::test]
async fn a_verifier_that_is_gone_while_something_runs_there_is_named() {
    let mut scene = Scene::new().await;
    let listing = BrokerRecord { verifiers: vec![running()], ..scene.record(1, true, true) };
    scene.tell(listing).await;
    scene.feed.read_registry().await.unwrap();
    scene.kill(1).await;
    let confirmed = scene.recorded(DELTA).await.unwrap();
    let outcome = scene.reached(&confirmed, scene.record(2, true, true)).await;
    assert_eq!((outcome.reached, outcome.drain_unknown), (WaitFor::Fenced, vec!["v".to_owned()]));
}

/// Whoever was registered before the store lost its registry may have let in what still runs.
#[tokio::test]
async fn rule_13_who_is_in_no_young_registry_is_not_taken_for_drained() {
    let mut scene = Scene::new().await;
    scene.tell(scene.record(1, true, true)).await;
    scene.feed.read_registry().await.unwrap();
    scene.restart().await;
    let confirmed = scene.recorded(SECOND).await.unwrap();
    let record = scene.record(2, true, true);
    let outcome = scene.reached(&confirmed, record.clone()).await;
    assert_eq!((outcome.reached, outcome.drain_unknown), (WaitFor::Recorded, vec![]));
    scene.clock.forward(Drift::DEFAULT.lapse(SECOND));
    let outcome = scene.reached(&confirmed, record).await;
    let unknown = vec![UNKNOWN.to_owned()];
    assert_eq!((outcome.reached, outcome.drain_unknown), (WaitFor::Fenced, unknown));
}

/// The others took this broker for dead, and its verifiers are in no record.
#[tokio::test]
async fn nothing_is_drained_before_it_is_fenced() {
    let scene = Scene::new().await;
    scene.feed.read_registry().await.unwrap();
    let confirmed = scene.recorded(SECOND).await.unwrap();
    let other = BrokerRecord { instance: InstanceId::new(77), ..scene.record(1, true, true) };
    let outcome = scene.reached(&confirmed, other.clone()).await;
    assert_eq!((outcome.reached, outcome.drained_at), (WaitFor::Recorded, None));
    scene.clock.forward(Drift::DEFAULT.lapse(SECOND));
    assert_eq!(scene.reached(&confirmed, other).await.reached, WaitFor::Drained);
}

#[tokio::test]
async fn rule_03_a_registry_from_before_it_was_recorded_says_nothing_of_what_runs() {
    let scene = Scene::new().await;
    scene.tell(scene.record(1, true, true)).await;
    scene.feed.read_registry().await.unwrap();
    scene.clock.forward(SECOND);
    let confirmed = scene.recorded(SECOND).await.unwrap();
    scene.clock.forward(Drift::DEFAULT.lapse(SECOND));
    let ask = || scene.feed.enforced(&confirmed, WaitFor::Drained, None, Span::ZERO);
    assert_eq!(ask().await.reached, WaitFor::Fenced);
    scene.feed.read_registry().await.unwrap();
    assert_eq!(ask().await.reached, WaitFor::Drained);
}
