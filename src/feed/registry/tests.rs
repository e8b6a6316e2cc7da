//! What a registry says, by when it was asked for and by what the store was meanwhile; and how often it is read.

use tokio::time::{Instant, sleep};

use crate::domain::feed::{BrokerRecord, Drift, InstanceId};
use crate::domain::id::Partition;
use crate::feed::testing::{DELTA, SECOND, Scene};
use crate::feed::{Confirmed, WaitFor};
use crate::store::Feed as _;
use crate::testing::store_contract::constants;

use super::*;

fn lapse() -> Span {
    Drift::DEFAULT.lapse(constants().delta_max)
}

async fn reached(scene: &Scene, confirmed: &Confirmed) -> WaitFor {
    scene.feed.enforced(confirmed, WaitFor::Fenced, None, Span::ZERO).await.reached
}

/// Who joined while the answer was on its way is not in it.
#[tokio::test]
async fn rule_03_a_registry_is_as_old_as_the_question() {
    let scene = Scene::new().await;
    scene.tell(scene.record(1, true, true)).await;
    let held = scene.slow.brokers.hold().await;
    let meanwhile = async {
        scene.clock.forward(SECOND);
        let confirmed = scene.recorded(DELTA).await.unwrap();
        drop(held);
        confirmed
    };
    let (read, confirmed) = tokio::join!(scene.feed.read_registry(), meanwhile);
    read.unwrap();
    assert_eq!(reached(&scene, &confirmed).await, WaitFor::Recorded);
    scene.feed.read_registry().await.unwrap();
    assert_eq!(reached(&scene, &confirmed).await, WaitFor::Fenced);
}

#[tokio::test]
async fn rule_13_of_a_store_s_incarnations_the_first_alone_has_a_registry_that_is_whole_at_once() {
    let mut scene = Scene::new().await;
    scene.clock.forward(lapse());
    for (is_first, at_first) in [(true, WaitFor::Fenced), (false, WaitFor::Recorded)] {
        if !is_first {
            scene.restart().await;
        }
        let confirmed = scene.recorded(DELTA).await.unwrap();
        scene.tell(scene.record(1, true, true)).await;
        scene.feed.read_registry().await.unwrap();
        assert_eq!(reached(&scene, &confirmed).await, at_first);
    }
    scene.clock.forward(lapse());
    let confirmed = scene.recorded(DELTA).await.unwrap();
    scene.feed.read_registry().await.unwrap();
    assert_eq!(reached(&scene, &confirmed).await, WaitFor::Fenced, "nobody of before is fresh");
}

/// The registry of the first incarnation, which is whole at once, comes when this broker has heard of the next one.
#[tokio::test]
async fn rule_13_a_registry_of_an_incarnation_that_is_over_is_passed_over() {
    let scene = Scene::new().await;
    scene.tell(scene.record(1, true, true)).await;
    let confirmed = scene.recorded(DELTA).await.unwrap();
    let held = scene.slow.brokers.hold().await;
    let meanwhile = async {
        scene.slow.store.restart();
        let page = scene.slow.store.page(Partition::ZERO, None, 1).await.unwrap();
        let known =
            scene.feed.core.lock().registry_known(page.meta.incarnation, scene.feed.present());
        assert!(known.is_some());
        drop(held);
    };
    let (read, ()) = tokio::join!(scene.feed.read_registry(), meanwhile);
    read.unwrap();
    assert_eq!(scene.feed.brokers(), None);
    assert_eq!(reached(&scene, &confirmed).await, WaitFor::Recorded);
}

/// Until the first answer came nobody saw the record, however long it was on its way.
#[tokio::test]
async fn a_record_stands_still_from_when_it_was_seen_and_never_this_broker_s_own() {
    let scene = Scene::new().await;
    let other = BrokerRecord { instance: InstanceId::new(77), ..scene.record(1, true, true) };
    scene.tell(other).await;
    scene.tell(scene.record(1, true, true)).await;
    let read = async || {
        scene.feed.read_registry().await.unwrap();
        let (_, records) = scene.slow.store.brokers().await.unwrap();
        records.iter().map(|record| record.instance).collect::<Vec<_>>()
    };
    scene.slow.brokers.take(lapse());
    assert_eq!(read().await.len(), 2);
    scene.slow.brokers.take(Span::ZERO);
    assert_eq!(read().await.len(), 2);
    scene.clock.forward(lapse());
    assert_eq!(read().await, [scene.feed.settings().identity.instance]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_has_the_registry_read_at_once_and_on_every_change_and_nobody_else() {
    let scene = Scene::new().await;
    let following = tokio::spawn(scene.feed.clone().follow_registry());
    sleep(Duration::from_millis(500)).await;
    let (began, confirmed) = (Instant::now(), scene.recorded(DELTA).await.unwrap());
    let telling = async {
        sleep(Duration::from_millis(301)).await;
        scene.tell(scene.record(1, true, true)).await;
    };
    let waiting = scene.feed.enforced(&confirmed, WaitFor::Fenced, None, SECOND);
    let (outcome, ()) = tokio::join!(waiting, telling);
    assert_eq!(outcome.reached, WaitFor::Fenced);
    assert_eq!(began.elapsed(), Duration::from_millis(301));
    sleep(ELSE).await;
    let before = scene.slow.brokers.asked();
    for beat in 2..100 {
        scene.tell(scene.record(beat, true, true)).await;
        sleep(ELSE / 100).await;
    }
    assert_eq!(scene.slow.brokers.asked() - before, 1);
    following.abort();
}
