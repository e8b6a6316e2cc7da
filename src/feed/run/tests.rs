//! What an answer of the store counts for, by when it was asked for; and how soon what happens is read, told and written.

use tokio::time::sleep;

use super::*;
use crate::domain::feed::InstanceId;
use crate::feed::core::Subscriber;
use crate::feed::hub::Positions;
use crate::feed::testing::{DELTA, P, SECOND, Scene};
use crate::feed::{Stream, WaitFor};

/// Shorter than the cadence, and longer than what is done at once takes.
const SOON: Duration = Duration::from_millis(10);
/// After so long nothing moves any more, and nothing is due.
const SETTLED: Duration = Duration::from_millis(5_050);

impl Scene {
    async fn read_all(&self) {
        for partition in self.feed.settings().partitions.all() {
            self.feed.read(partition).await.unwrap();
        }
    }

    /// Of a broker that has registered and read everything, some time ago.
    async fn registered() -> Self {
        let scene = Self::new().await;
        scene.read_all().await;
        scene.feed.beat().await.unwrap();
        scene.clock.forward(SECOND.times(10));
        scene
    }

    fn age(&self) -> Option<Span> {
        self.feed.core.lock().age(self.feed.present())
    }

    /// Of a broker that runs.
    async fn running(is_silent: bool) -> Self {
        let scene = Self::new().await;
        scene.slow.is_silent.store(is_silent, std::sync::atomic::Ordering::Release);
        scene.feed.spawn(&TaskTracker::new());
        scene.feed.registered().await;
        scene
    }

    /// How long it takes until what was just committed is FENCED, by the paused clock.
    async fn fenced_after(&self) -> Duration {
        let (began, confirmed) = (Instant::now(), self.recorded(DELTA).await.unwrap());
        let outcome = self.feed.enforced(&confirmed, WaitFor::Fenced, None, SECOND).await;
        assert_eq!(outcome.reached, WaitFor::Fenced);
        began.elapsed()
    }

    /// A verifier that is fresh.
    fn verifier(&self) -> Stream {
        let verifier = Subscriber {
            instance: InstanceId::new(1_000),
            name: "v".into(),
            principal: "spiffe://prod.example/v".into(),
            drains: true,
        };
        let stream = self.feed.subscribe(verifier).unwrap();
        stream.keep_alive(1).unwrap();
        stream
    }
}

#[tokio::test]
async fn rule_01_a_read_counts_from_when_it_was_sent() {
    let scene = Scene::registered().await;
    scene.slow.pages.take(SECOND);
    scene.feed.read(P).await.unwrap();
    scene.slow.pages.take(Span::ZERO);
    for partition in scene.feed.settings().partitions.all().filter(|partition| *partition != P) {
        scene.feed.read(partition).await.unwrap();
    }
    scene.feed.beat().await.unwrap();
    assert_eq!(scene.age(), Some(SECOND));
}

#[tokio::test]
async fn rule_09_a_beat_counts_from_when_it_was_sent() {
    let scene = Scene::registered().await;
    scene.slow.beats.take(SECOND);
    scene.feed.beat().await.unwrap();
    scene.read_all().await;
    assert_eq!(scene.age(), Some(SECOND));
}

/// Whoever ended something before the record was there did not wait for this broker's verifiers.
#[tokio::test]
async fn rule_02_a_read_that_was_sent_while_the_registration_was_on_its_way_does_not_count() {
    let scene = Scene::new().await;
    scene.read_all().await;
    let (beats, pages) = (scene.slow.beats.hold().await, scene.slow.pages.hold().await);
    let answering = async {
        scene.clock.forward(SECOND);
        drop(beats);
        scene.feed.registered().await;
        drop(pages);
    };
    let (beat, read, ()) = tokio::join!(scene.feed.beat(), scene.feed.read(P), answering);
    assert!(beat.is_ok() && read.unwrap());
    for partition in scene.feed.settings().partitions.all().filter(|partition| *partition != P) {
        scene.feed.read(partition).await.unwrap();
    }
    assert_eq!(scene.age(), None);
    scene.feed.read(P).await.unwrap();
    assert_eq!(scene.age(), Some(SECOND));
}

/// Whoever tells others of every event learns that some are missing.
#[tokio::test]
async fn what_was_not_read_as_events_is_told_as_a_gap() {
    let mut scene = Scene::new().await;
    let mut events = scene.feed.events();
    scene.feed.read(P).await.unwrap();
    assert!(matches!(events.try_recv(), Ok(Happened::Gap(P))));
    scene.kill(1).await;
    scene.feed.read(P).await.unwrap();
    assert!(matches!(events.try_recv(), Ok(Happened::Event(P, _))));
    assert!(events.is_empty());
    scene.restart().await;
    scene.feed.read(P).await.unwrap();
    assert!(matches!(events.try_recv(), Ok(Happened::Gap(P))));
}

/// Of what is committed elsewhere, the store tells; of what is committed here, nobody has to.
#[tokio::test(start_paused = true)]
async fn what_kills_is_read_and_told_at_once_and_not_only_every_so_often() {
    for is_own in [true, false] {
        let mut scene = Scene::running(is_own).await;
        sleep(SETTLED).await;
        let entries = scene.kill(1).await;
        if is_own {
            scene.feed.merge(P, scene.at, &entries);
        }
        let after = scene.fenced_after().await;
        assert!(after < SOON, "{is_own} {after:?}");
        scene.feed.stopping().cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn what_kills_nothing_is_told_with_the_next_beat() {
    let mut scene = Scene::running(true).await;
    sleep(SETTLED).await;
    let before = (scene.slow.pages.asked(), scene.slow.beats.asked());
    scene.commit(Vec::new()).await;
    scene.feed.look_at(P);
    sleep(SOON).await;
    assert!(scene.slow.pages.asked() > before.0);
    assert_eq!(scene.slow.beats.asked(), before.1);
    scene.feed.stopping().cancel();
}

#[tokio::test(start_paused = true)]
async fn a_verifier_s_acknowledgement_is_told_at_once_and_one_that_says_nothing_new_is_not() {
    let mut scene = Scene::running(false).await;
    sleep(SETTLED).await;
    let stream = scene.verifier();
    let entries = scene.kill(1).await;
    scene.feed.merge(P, scene.at, &entries);
    sleep(SETTLED).await;
    let up_to: Positions = [(P, scene.at)].into();
    stream.acknowledge(&up_to, &Positions::new()).unwrap();
    let after = scene.fenced_after().await;
    assert!(after < SOON, "{after:?}");
    let before = scene.slow.beats.asked();
    for _ in 0..50 {
        stream.acknowledge(&up_to, &up_to).unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    let beats = scene.slow.beats.asked() - before;
    assert!(beats <= 1, "{beats}");
    scene.feed.stopping().cancel();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_has_just_registered_reads_at_once_what_counts_from_now_on() {
    let scene = Scene::running(true).await;
    sleep(SOON).await;
    assert_eq!(scene.age(), Some(Span::ZERO));
    scene.feed.stopping().cancel();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_every_so_often_whatever_it_says_that_changes() {
    let mut scene = Scene::running(false).await;
    scene.slow.is_away.store(true, std::sync::atomic::Ordering::Release);
    sleep(SETTLED).await;
    let before = scene.slow.pages.asked();
    for number in 0..100 {
        scene.kill(number).await;
        sleep(Duration::from_millis(1)).await;
    }
    let partitions = scene.feed.settings().partitions.all().count();
    let pages = scene.slow.pages.asked() - before;
    assert!(pages <= partitions, "{pages}");
    scene.feed.stopping().cancel();
}
