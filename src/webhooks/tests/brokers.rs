//! Several brokers over one store: each event is delivered by one of them, and by another when that one is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;

fn jtis(inbox: &Arc<Inbox>) -> Vec<String> {
    inbox.got().iter().map(|event| event["jti"].as_str().unwrap().to_owned()).collect()
}

async fn announce_everywhere(world: &World, tag: u64) {
    for partition in world.partitions() {
        world.announce_in(partition, event(EventKind::TaskEnded, tag)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_brokers_one_delivers_each_event_and_each_has_its_part() {
    let (world, inboxes) = (World::new(), [Inbox::new(), Inbox::new(), Inbox::new()]);
    let mut brokers = Vec::new();
    for (n, inbox) in (1..).zip(&inboxes) {
        brokers.push(world.broker(n, vec![(all("a"), inbox.clone())]).await);
    }
    // Everybody has read everybody's record.
    tokio::time::sleep(10 * SECOND).await;
    for n in 0..20 {
        announce_everywhere(&world, n).await;
    }
    tokio::time::sleep(10 * SECOND).await;
    let told: Vec<_> = inboxes.iter().flat_map(jtis).collect();
    assert_eq!(told.len(), 20 * world.partitions().count());
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len());
    let busy = inboxes.iter().filter(|inbox| !inbox.got().is_empty());
    assert!(busy.count() > 1, "one does it all");
}

#[tokio::test(start_paused = true)]
async fn what_a_broker_left_undelivered_another_delivers_soon_and_nothing_twice_but_of_its_last_second()
 {
    let (world, inboxes) = (World::new(), [Inbox::new(), Inbox::new()]);
    let first = world.broker(1, vec![(all("a"), inboxes[0].clone())]).await;
    let _second = world.broker(2, vec![(all("a"), inboxes[1].clone())]).await;
    tokio::time::sleep(10 * SECOND).await;
    for tag in 0..5 {
        announce_everywhere(&world, tag).await;
    }
    tokio::time::sleep(10 * SECOND).await;
    assert!(!inboxes[0].got().is_empty());
    first.stop().await;
    announce_everywhere(&world, 5).await;
    tokio::time::sleep(10 * SECOND).await;
    let told: Vec<_> = inboxes.iter().flat_map(jtis).collect();
    assert_eq!(told.len(), 6 * world.partitions().count());
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len());
    inboxes[1].nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_starts_again_goes_on_where_its_last_run_ended() {
    let (world, inbox) = (World::new(), Inbox::new());
    let first = world.broker(1, vec![(all("a"), inbox.clone())]).await;
    world.announce(event(EventKind::TaskAdvanced, 1)).await;
    inbox.names(1).await;
    tokio::time::sleep(10 * SECOND).await;
    first.stop().await;
    world.announce(event(EventKind::TaskEnded, 2)).await;
    let _again = world.broker(2, vec![(all("a"), inbox.clone())]).await;
    assert_eq!(inbox.names(2).await, ["task-advanced", "task-ended"]);
    inbox.nothing_more().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_on_tells_of_the_gap_that_the_one_before_could_not_tell() {
    let (world, away, inbox) = (World::new(), Inbox::new(), Inbox::new());
    let mut settings = all("a");
    settings.give_up_after = Span::from_seconds(60);
    let first = world.broker(1, vec![(settings.clone(), away.clone())]).await;
    away.refuse_all(busy());
    world.announce(event(EventKind::TaskEnded, 1)).await;
    tokio::time::sleep(600 * SECOND).await;
    first.stop().await;
    let _second = world.broker(2, vec![(settings, inbox.clone())]).await;
    assert_eq!(inbox.names(1).await, ["gap"]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_the_webhook_is_not_waited_for() {
    let (world, inbox) = (World::new(), Inbox::new());
    let _without = world.broker(1, vec![]).await;
    let _with = world.broker(2, vec![(all("a"), inbox.clone())]).await;
    tokio::time::sleep(10 * SECOND).await;
    announce_everywhere(&world, 1).await;
    inbox.names(world.partitions().count()).await;
}
