//! Brokers over two stores, over real sockets: a verifier goes by one store at a time.

use std::sync::atomic::Ordering;

use super::feeds::OTHER_STORE;
use super::served::Scene;
use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::testing::clock::TestClock;

#[tokio::test]
async fn rule_19_a_broker_over_another_store_replaces_no_keys_and_is_asked_for_nothing() {
    let scene = Scene::start().await;
    let other = scene.beside(OTHER_STORE).await;
    other.broker.is_away.store(true, Ordering::Release);
    let brokers = vec![other.address.clone(), scene.address.clone()];
    let settings = Settings { brokers, when_stale: WhenStale::Introspect, ..scene.settings() };
    let clock = Arc::new(TestClock::at(SystemClock::default().now()));
    let verifier = Verifier::start_with(settings, clock.clone()).unwrap();
    verifier.ready().await;

    other.broker.is_away.store(false, Ordering::Release);
    let mut subscribed = other.broker.subscribed.subscribe();
    // It tries again, so it was refused before.
    subscribed.wait_for(|(_, times)| *times >= 2).await.unwrap();
    // Without asking anybody for other keys.
    let checked = verifier.check(&shown(&scene.broker.token())).map(drop);
    assert_eq!(checked, Ok(()), "the keys are those of the store that is followed");

    scene.broker.answers.store(false, Ordering::Release);
    *scene.broker.active.lock() = Some(true);
    *other.broker.active.lock() = Some(false);
    clock.forward(Span::from_seconds(6));
    let admitted = verifier.admit(&shown(&scene.broker.token())).await.map(drop);
    assert_eq!(admitted, Ok(()), "the broker that stands first is over another store");
}
