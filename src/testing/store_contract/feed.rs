//! Claims about the feed: pages of events that go on where the reader stands, or say that they do not; the registry; and who is
//! told that something changed.

#![allow(missing_docs, reason = "the name of a test is what it claims")]

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::domain::event::{Event, EventKind};
use crate::domain::feed::{BrokerRecord, InstanceId, Owner, ReadPosition, VerifierRecord};
use crate::domain::id::Partition;
use crate::domain::lattice::{Entry, Fence};
use crate::domain::path::Origin;
use crate::domain::principal::Name;
use crate::domain::time::{INFINITY, Stamp};
use crate::store::feed::position;
use crate::store::{Changed, Commit, Continuity, Page, Recorded};
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::samples::{
    P, at, commit, draft, event, issue, kill, scope, task_id,
};

/// A server far slower than this has stopped.
const PATIENCE: Duration = Duration::from_secs(60);

/// A commit that does nothing but write an event of that number.
pub fn announce(time: Stamp, tag: u64) -> Commit {
    Commit { event: Some(event(EventKind::TaskAdvanced, tag)), ..commit(time) }
}

impl Fixture {
    async fn page(&self, after: Option<ReadPosition>, limit: usize) -> Page {
        self.feed.page(P, after, limit).await.unwrap()
    }

    /// What follows a position, if it does follow, and whether there is more.
    async fn following(&self, after: ReadPosition, limit: usize) -> Option<(Vec<Recorded>, bool)> {
        let page = self.page(Some(after), limit).await;
        match page.events {
            Continuity::Continued(events) => Some((events, page.more)),
            Continuity::Broken => None,
        }
    }

    async fn tags(&self, after: ReadPosition, limit: usize) -> Option<(Vec<u64>, bool)> {
        let (events, more) = self.following(after, limit).await?;
        Some((events.iter().map(|recorded| recorded.event.tag).collect(), more))
    }

    async fn head(&self) -> ReadPosition {
        self.page(None, 1).await.head.unwrap()
    }

    /// Watches, from a point in time that has passed when this returns.
    async fn watch(&self, of: Changed) -> watch::Receiver<u64> {
        let mut changes = self.feed.changes(of);
        changed(&mut changes).await;
        changes
    }
}

/// Waits until it changed.
pub async fn changed(changes: &mut watch::Receiver<u64>) {
    timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
}

pub async fn a_page_goes_on_behind_the_position_and_says_whether_there_is_more(f: &Fixture) {
    let start = f.head().await;
    for tag in 1..=5 {
        f.done(announce(at(tag), tag)).await;
    }
    assert_eq!(f.tags(start, 10).await, Some((vec![1, 2, 3, 4, 5], false)));
    assert_eq!(f.tags(start, 5).await, Some((vec![1, 2, 3, 4, 5], false)));
    assert_eq!(f.tags(start, 4).await, Some((vec![1, 2, 3, 4], true)));
    let (events, _) = f.following(start, 2).await.unwrap();
    assert_eq!(f.tags(position(&events[1]), 2).await, Some((vec![3, 4], true)));
    let page = f.page(Some(position(&events[1])), 1).await;
    assert_eq!(page.head.map(|head| (head.at.stamp, head.tag)), Some((at(5), 5)));
    assert_eq!((page.meta.stamp, page.meta.open), (at(5), true));
    assert_eq!(f.tags(f.head().await, 10).await, Some((vec![], false)));
    // A commit without event moves the stamp, and nobody's position.
    f.done(commit(at(9))).await;
    assert_eq!(f.tags(f.head().await, 10).await, Some((vec![], false)));
    assert_eq!(f.page(None, 10).await.meta.stamp, at(9));
}

pub async fn a_reader_that_stands_nowhere_loads_the_set_from_the_head_on(f: &Fixture) {
    f.done(announce(at(1), 1)).await;
    let page = f.page(None, 10).await;
    assert!(matches!(page.events, Continuity::Broken) && page.more);
    f.done(announce(at(2), 2)).await;
    assert_eq!(f.tags(page.head.unwrap(), 10).await, Some((vec![2], false)));
}

pub async fn a_new_partition_begins_with_the_event_of_its_incarnation(f: &Fixture) {
    let page = f.page(None, 10).await;
    let (incarnation, head) = (page.meta.incarnation, page.head.unwrap());
    assert_eq!(head.at, Origin { incarnation, stamp: incarnation });
    assert_eq!(f.tags(head, 10).await, Some((vec![], false)), "and nothing follows");
}

pub async fn class_07_events_of_another_history_are_not_taken_for_those_that_follow(f: &Fixture) {
    f.done(announce(at(1), 1)).await;
    let known = f.head().await;
    f.done(announce(at(3), 3)).await;
    assert_eq!(f.tags(known, 10).await, Some((vec![3], false)));
    let moved = |stamp| ReadPosition { at: Origin { stamp, ..known.at }, ..known };
    let other = Origin { incarnation: known.at.incarnation.next(), ..known.at };
    for stranger in [
        ReadPosition { tag: 2, ..known },
        ReadPosition { at: other, ..known },
        moved(at(2)),
        moved(at(1).next()),
        moved(at(4)),
        moved(Stamp::ZERO),
        moved(INFINITY),
    ] {
        let page = f.page(Some(stranger), 10).await;
        assert!(matches!(page.events, Continuity::Broken), "{stranger:?}: {page:?}");
        assert!(page.more, "nobody counts such a read");
        assert_eq!(page.head.map(|head| head.at.stamp), Some(at(3)));
    }
}

pub async fn an_event_tells_the_entries_with_the_origin_of_its_commit(f: &Fixture) {
    let start = f.head().await;
    let fence = Entry::Fence(task_id(1), Fence::ended());
    let mark = |origin| Entry::Watermark(scope("class:finance"), origin);
    let entries = vec![fence.clone(), mark(Origin::default())];
    let origin = f.done(kill(at(1), entries)).await.origin;
    let (events, _) = f.following(start, 10).await.unwrap();
    assert_eq!(events[0].event.entries, [fence, mark(origin)]);
    assert_eq!(position(&events[0]), ReadPosition { at: origin, tag: 7 });
}

/// A record that says something in every field.
pub fn record(instance: u128, beat: u64) -> BrokerRecord {
    let origin = |stamp| Origin { incarnation: at(0), stamp: at(stamp) };
    let at = |stamp| BTreeMap::from([(Partition::ZERO, origin(1)), (P, origin(stamp))]);
    let verifier = |instance, undrained| VerifierRecord {
        instance: InstanceId::new(instance),
        owner: Owner::of("spiffe://prod.example/api/ledger"),
        name: "spiffe://prod.example/api/ledger".to_owned(),
        viewed_at: Stamp::from_seconds(beat),
        behind: at(2),
        undrained,
        connected: beat.is_multiple_of(2),
    };
    BrokerRecord {
        instance: InstanceId::new(instance),
        name: "broker-a".to_owned(),
        address: "10.0.0.1:7700".to_owned(),
        incarnation: Stamp::from_seconds(1),
        beat,
        applied: at(beat),
        acked: at(2),
        verifiers: vec![verifier(instance + 1, None), verifier(instance + 2, Some(at(3)))],
        webhooks: BTreeMap::from([(
            Name::parse("stop-work").unwrap(),
            BTreeMap::from([(P, ReadPosition { at: origin(beat), tag: u64::MAX - beat })]),
        )]),
    }
}

pub async fn the_registry_holds_what_each_broker_wrote_last(f: &Fixture) {
    let incarnation = f.feed.page(Partition::ZERO, None, 1).await.unwrap().meta.incarnation;
    assert_eq!(f.feed.brokers().await.unwrap(), (incarnation, vec![]));
    for record in [record(10, 1), record(20, 1), record(10, 2), record(10, 3)] {
        assert_eq!(f.feed.beat(&record).await.unwrap(), incarnation);
    }
    let (seen, mut brokers) = f.feed.brokers().await.unwrap();
    brokers.sort_by_key(|record| record.instance);
    assert_eq!((seen, brokers), (incarnation, vec![record(10, 3), record(20, 1)]));
}

pub async fn a_record_is_removed_only_while_its_beat_stands_still(f: &Fixture) {
    let (one, two) = (InstanceId::new(10), InstanceId::new(20));
    for record in [record(10, 1), record(20, 1), record(10, 2)] {
        f.feed.beat(&record).await.unwrap();
    }
    assert!(!f.feed.forget(one, 1).await.unwrap(), "it beats");
    assert!(!f.feed.forget(InstanceId::new(30), 1).await.unwrap(), "nobody's");
    assert!(f.feed.forget(two, 1).await.unwrap());
    assert!(!f.feed.forget(two, 1).await.unwrap(), "it is gone already");
    assert_eq!(f.feed.brokers().await.unwrap().1, [record(10, 2)]);
    assert!(f.feed.forget(one, 2).await.unwrap());
    assert_eq!(f.feed.brokers().await.unwrap().1, []);
}

pub async fn whoever_watches_is_told_of_entries_states_and_beats(f: &Fixture) {
    let mut own = f.watch(Changed::Partition(P)).await;
    let mut registry = f.watch(Changed::Registry).await;
    f.done(kill(at(1), vec![Entry::Fence(task_id(1), Fence::ended())])).await;
    changed(&mut own).await;
    f.done(announce(at(2), 1)).await;
    changed(&mut own).await;
    f.feed.beat(&record(10, 1)).await.unwrap();
    changed(&mut registry).await;
    f.feed.forget(InstanceId::new(10), 1).await.unwrap();
    changed(&mut registry).await;
    // Whoever comes later waits no longer for its first look.
    f.watch(Changed::Partition(P)).await;
}

pub async fn nobody_is_told_of_an_issued_credential(f: &Fixture) {
    let mut own = f.watch(Changed::Partition(P)).await;
    let mut other = f.watch(Changed::Partition(Partition::ZERO)).await;
    let mut registry = f.watch(Changed::Registry).await;
    let before = *own.borrow_and_update();
    let issued = Event { state: None, ..event(EventKind::CredentialIssued, 1) };
    f.done(Commit { event: Some(issued), ..issue(at(1), &draft(1, 1), 60) }).await;
    f.done(commit(at(2))).await;
    f.done(announce(at(3), 2)).await;
    changed(&mut own).await;
    // What is told later is heard later.
    f.feed.beat(&record(10, 1)).await.unwrap();
    changed(&mut registry).await;
    assert_eq!(own.borrow_and_update().wrapping_sub(before), 1);
    assert!(!other.has_changed().unwrap(), "another partition");
    other.mark_unchanged();
}

pub async fn a_position_goes_on_across_incarnations(
    f: Fixture,
    restart: impl AsyncFn(Fixture) -> Fixture,
) {
    let start = f.head().await;
    let old = f.done(announce(at(1), 1)).await.origin;
    let f = restart(f).await;
    f.done(announce(at(9), 9)).await;
    let (events, more) = f.following(start, 10).await.unwrap();
    assert_eq!((events.len(), more), (3, false));
    let [first, begun, last] = [&events[0], &events[1], &events[2]];
    assert_eq!((first.event.tag, last.event.tag), (1, 9));
    let new = begun.incarnation;
    assert!(new > old.stamp && new == f.page(None, 1).await.meta.incarnation);
    assert_eq!((begun.stamp, last.incarnation), (new, new));
    assert_eq!(begun.event.kind, EventKind::IncarnationBegun);
    let ends = [Entry::End(old.incarnation, old.stamp), Entry::End(new, INFINITY)];
    assert_eq!(begun.event.entries, ends, "what a verifier must know of the change");
}

pub async fn the_registry_outlives_the_broker_and_tells_the_incarnation_that_it_lies_in(
    f: Fixture,
    restart: impl AsyncFn(Fixture) -> Fixture,
) {
    let old = f.feed.beat(&record(10, 1)).await.unwrap();
    assert_eq!(f.feed.beat(&record(10, 2)).await.unwrap(), old);
    let f = restart(f).await;
    let (new, brokers) = f.feed.brokers().await.unwrap();
    assert!(new > old);
    assert_eq!(brokers, [record(10, 2)], "its verifiers may be fresh still");
    assert_eq!(f.feed.beat(&record(20, 1)).await.unwrap(), new);
    assert_eq!(f.feed.brokers().await.unwrap().1.len(), 2);
    assert!(f.feed.forget(InstanceId::new(10), 2).await.unwrap());
}
