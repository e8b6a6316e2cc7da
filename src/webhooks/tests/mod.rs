//! Deliveries on a paused clock, over a store in memory, to receivers that do what the test says.

mod brokers;
mod world;

use std::time::Duration;

use super::Posted;
use crate::domain::event::EventKind;
use crate::domain::id::Partition;
use crate::domain::principal::Name;
use crate::domain::task::Task;
use crate::domain::time::Span;
use crate::domain::webhook::{EVENTS, Interest};
use crate::store::{EVENTS_KEPT, Upkeep as _};
use crate::testing::store_contract::samples::{P, begin, event, scope, task};
use world::{Inbox, World, all, webhook};

const SECOND: Duration = Duration::from_secs(1);

fn busy() -> Posted {
    Posted::failed("busy")
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_event_is_delivered_in_its_order() {
    let (world, inbox) = (World::new(), Inbox::new());
    let _broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    let told: Vec<_> = EVENTS.iter().filter(|(name, _)| !name.starts_with("quarantine")).collect();
    for (_, kind) in &told {
        world.announce(event(*kind, 1)).await;
    }
    let names = inbox.names(told.len()).await;
    assert_eq!(names, told.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    inbox.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_is_told_at_once() {
    let (world, inbox) = (World::new(), Inbox::new());
    let _broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    tokio::time::sleep(60 * SECOND).await;
    let began = tokio::time::Instant::now();
    world.announce(event(EventKind::TaskEnded, 1)).await;
    inbox.names(1).await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_told_before_what_follows_it() {
    let (world, inbox) = (World::new(), Inbox::new());
    let _broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    inbox.answer([busy(), Posted::Taken, Posted::Unreadable]);
    // While the first one waits, the others come, and are read together.
    for (tag, kind) in [EventKind::TaskBegun, EventKind::TaskEnded, EventKind::TaskAdvanced]
        .into_iter()
        .enumerate()
    {
        world.announce(event(kind, tag.try_into().unwrap())).await;
        inbox.tried(1).await;
    }
    assert_eq!(inbox.names(3).await, ["task-begun", "gap", "task-advanced"]);
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_is_told_once_when_the_last_partition_has_it() {
    let (world, inbox) = (World::new(), Inbox::new());
    let _broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    for kind in [EventKind::Quarantined, EventKind::QuarantineLifted] {
        for partition in [Partition(3), Partition(2), P, Partition::ZERO] {
            world.announce_in(partition, event(kind, 1)).await;
        }
    }
    assert_eq!(inbox.names(2).await, ["quarantined", "quarantine-lifted"]);
    inbox.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn only_what_a_webhook_is_for_is_delivered() {
    let world = World::new();
    let (kinds, orchestrators, classes, tiers) =
        (Inbox::new(), Inbox::new(), Inbox::new(), Inbox::new());
    let for_tasks = |name_, change: fn(&mut Interest)| {
        let mut settings = all(name_);
        change(&mut settings.interest);
        settings
    };
    let _broker = world
        .broker(
            1,
            vec![
                (webhook("kinds", vec![EventKind::TaskEnded]), kinds.clone()),
                (for_tasks("a", |i| i.orchestrators = vec![name("ci")]), orchestrators.clone()),
                (for_tasks("b", |i| i.classes = vec![name("finance")]), classes.clone()),
                (for_tasks("c", |i| i.tiers = vec![name("standard")]), tiers.clone()),
            ],
        )
        .await;
    let others = Task {
        orchestrator: name("release"),
        class: name("other"),
        tier: name("critical"),
        ..task(2)
    };
    for (number, task) in [(1, task(1)), (2, others)] {
        world.commit(begin(world.now(), &task)).await;
        for kind in [EventKind::TaskAdvanced, EventKind::TaskEnded] {
            world
                .announce(crate::domain::event::Event {
                    task: Some(task.id),
                    ..event(kind, number)
                })
                .await;
        }
    }
    assert_eq!(kinds.names(2).await, ["task-ended", "task-ended"]);
    for inbox in [&orchestrators, &classes, &tiers] {
        assert_eq!(inbox.names(2).await, ["task-advanced", "task-ended"]);
    }
    for inbox in [kinds, orchestrators, classes, tiers] {
        inbox.nothing_more().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_before_the_webhook_is_not_told() {
    let (world, inbox) = (World::new(), Inbox::new());
    world.announce(event(EventKind::TaskEnded, 1)).await;
    let _broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    world.announce(event(EventKind::TaskAdvanced, 2)).await;
    assert_eq!(inbox.names(1).await, ["task-advanced"]);
    inbox.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_not_taken_is_tried_again_with_growing_pauses_under_the_same_name() {
    let (world, inbox) = (World::new(), Inbox::new());
    let _broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    inbox.answer([busy(), busy(), busy(), busy()]);
    world.announce(event(EventKind::TaskEnded, 1)).await;
    world.announce(event(EventKind::TaskAdvanced, 2)).await;
    assert_eq!(inbox.names(2).await, ["task-ended", "task-advanced"]);
    let tries = inbox.tries();
    assert_eq!(tries.len(), 6);
    assert!(tries[..5].iter().all(|(_, jti)| *jti == tries[0].1));
    for (n, least) in [250, 500, 1_000, 2_000].into_iter().enumerate() {
        let pause = tries[n + 1].0 - tries[n].0;
        let bounds = Duration::from_millis(least)..=Duration::from_millis(2 * least + 10);
        assert!(bounds.contains(&pause), "{n}: {pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_for_time_gets_it() {
    let (world, inbox) = (World::new(), Inbox::new());
    let _broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    let retry_after = Some(Span::from_seconds(90));
    inbox.answer([Posted::Failed { why: "busy".into(), retry_after }]);
    world.announce(event(EventKind::TaskEnded, 1)).await;
    inbox.names(1).await;
    let tries = inbox.tries();
    assert!(tries[1].0 - tries[0].0 >= 90 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_old_is_given_up_and_the_receiver_learns_of_the_gap_before_anything_else()
 {
    let (world, inbox) = (World::new(), Inbox::new());
    let mut settings = all("a");
    settings.give_up_after = Span::from_seconds(600);
    let _broker = world.broker(1, vec![(settings, inbox.clone())]).await;
    inbox.refuse_all(busy());
    let first = world.announce(event(EventKind::TaskEnded, 1)).await;
    tokio::time::sleep(400 * SECOND).await;
    world.announce(event(EventKind::TaskAdvanced, 2)).await;
    tokio::time::sleep(400 * SECOND).await;
    inbox.take_all();
    assert_eq!(inbox.names(2).await, ["gap", "task-advanced"], "the second is young enough");
    let gap = &inbox.got()[0]["events"]["urn:leasehold:event:gap"];
    assert_eq!(gap["until"], first.micros().to_string());
    assert_eq!(gap["partition"], "01");
    inbox.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_receiver_cannot_read_holds_up_nothing_and_leaves_a_gap() {
    let (world, inbox) = (World::new(), Inbox::new());
    let _broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    inbox.answer([Posted::Unreadable]);
    world.announce(event(EventKind::TaskEnded, 1)).await;
    assert_eq!(inbox.names(1).await, ["gap"]);
    inbox.answer([Posted::Unreadable, Posted::Unreadable]);
    world.announce(event(EventKind::TaskEnded, 2)).await;
    inbox.tried(4).await;
    world.announce(event(EventKind::TaskAdvanced, 3)).await;
    assert_eq!(
        inbox.names(2).await,
        ["gap", "task-advanced"],
        "nor does a gap that cannot be read"
    );
    assert_eq!(inbox.tries().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_holds_up_no_other() {
    let (world, slow, fast) = (World::new(), Inbox::new(), Inbox::new());
    let webhooks = vec![(all("slow"), slow.clone()), (all("fast"), fast.clone())];
    let _broker = world.broker(1, webhooks).await;
    slow.hang_for(600 * SECOND);
    for n in 0..50 {
        world.announce(event(EventKind::TaskEnded, n)).await;
    }
    let began = tokio::time::Instant::now();
    fast.names(50).await;
    assert!(began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
    assert_eq!(slow.got().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_has_no_more_is_a_gap() {
    let (world, inbox) = (World::new(), Inbox::new());
    let _broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    inbox.refuse_all(busy());
    for n in 0..EVENTS_KEPT + 100 {
        world.announce(event(EventKind::TaskEnded, n)).await;
    }
    tokio::time::sleep(120 * SECOND).await;
    world.store.prune(P, world.now()).await.unwrap();
    let last = world.announce(event(EventKind::TaskAdvanced, 1)).await;
    // The page that was read before is delivered still; then the rest is not there.
    inbox.take_all();
    inbox
        .until(|got| {
            got.iter().any(|event| event["events"].get("urn:leasehold:event:gap").is_some())
        })
        .await;
    world.announce(event(EventKind::TaskResumed, 2)).await;
    inbox
        .until(|got| {
            got.last().is_some_and(|last| {
                last["events"].get("urn:leasehold:event:task-resumed").is_some()
            })
        })
        .await;
    let gap = inbox
        .got()
        .into_iter()
        .find_map(|event| event["events"].get("urn:leasehold:event:gap").cloned())
        .unwrap();
    assert_eq!(gap["until"], last.micros().to_string());
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_task_is_gone_is_not_given_to_a_webhook_that_asks_for_certain_tasks() {
    let (world, inbox) = (World::new(), Inbox::new());
    let mut settings = all("a");
    settings.interest.classes = vec![name("finance")];
    let _broker = world.broker(1, vec![(settings, inbox.clone())]).await;
    world.announce(event(EventKind::TaskEnded, 1)).await;
    assert_eq!(inbox.names(1).await, ["gap"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_signed_with_a_key_that_is_quarantined() {
    let (world, inbox) = (World::new(), Inbox::new());
    let broker = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    let keys = world.keys.load();
    let kid = keys.security_event_key(world.now()).unwrap().key().kid();
    let mark =
        crate::domain::lattice::Entry::Watermark(scope(&format!("key:{kid}")), Default::default());
    broker.feed.merge(P, Default::default(), &[mark]);
    world.announce(event(EventKind::TaskEnded, 1)).await;
    tokio::time::sleep(120 * SECOND).await;
    assert_eq!(inbox.tries().len(), 0);
}
