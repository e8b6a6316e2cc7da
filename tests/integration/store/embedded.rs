//! The embedded store: the common contract, and what only a store on a disk can get wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use leasehold::broker::seams::{Clock, SystemEntropy};
use leasehold::domain::event::EventKind;
use leasehold::domain::id::PartitionCount;
use leasehold::domain::lattice::{Dead, Entry, Fence};
use leasehold::domain::time::{Span, Stamp};
use leasehold::store::embedded::EmbeddedStore;
use leasehold::store::{Constants, Entries, Index, RecordKey, Store, StoreError, Upkeep};
use leasehold::testing::clock::TestClock;
use leasehold::testing::store_contract::samples::{
    P, at, begin, commit, draft, issue, kill, lease, lease_id, scope, task, task_id,
};
use leasehold::testing::store_contract::{Fixture, constants};
use tempfile::TempDir;

use super::{embedded_fixture, open};

leasehold::store_contract!(super::embedded_fixture);
leasehold::store_expiry_contract!(super::embedded_fixture);
leasehold::store_restart_contract!(super::embedded_fixture, super::restart);

/// Stops the store and starts it again.
async fn restart(f: Fixture) -> Fixture {
    let Fixture { store, upkeep, feed, keep } = f;
    drop((store, upkeep, feed));
    let folder = keep.downcast::<TempDir>().unwrap();
    let store = open(&folder, Arc::new(TestClock::default()));
    Fixture { keep: folder, ..Fixture::of(store, ()) }
}

/// A store that can be stopped and started.
struct Disk {
    folder: TempDir,
    clock: Arc<TestClock>,
}

impl Disk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::default() }
    }

    fn start(&self) -> Fixture {
        let store = open(&self.folder, Arc::clone(&self.clock) as Arc<dyn Clock>);
        Fixture::of(store, ())
    }
}

#[tokio::test]
async fn rule_13_only_the_start_that_follows_its_making_is_in_the_first_incarnation_of_a_store() {
    let (disk, other) = (Disk::new(), Disk::new());
    other.clock.forward(Span::from_micros(1));
    let store = disk.start();
    let (living, _) = store.feed.brokers().await.unwrap();
    assert_eq!(store.feed.first(), Some(living));
    assert_ne!(other.start().feed.first(), Some(living), "it tells stores apart");
    drop(store);
    for _ in 0..2 {
        let store = disk.start();
        let (later, _) = store.feed.brokers().await.unwrap();
        assert!(later > living);
        assert_eq!(store.feed.first(), Some(living), "it is the same store");
    }
}

#[tokio::test]
async fn class_07_everything_is_still_there_after_a_restart() {
    let disk = Disk::new();
    let store = disk.start();
    store.done(begin(at(0), &task(1))).await;
    let receipt = store.done(issue(at(1), &draft(1, 1), 300)).await;
    let entries = vec![
        Entry::Fence(task_id(1), Fence::ended()),
        Entry::Block(scope("class:finance"), 1),
        Entry::Lease(lease_id(1)),
    ];
    store.done(kill(at(2), entries)).await;
    let keys = vec![RecordKey::Task(task_id(1)), RecordKey::Lease(lease_id(1))];
    let before = store.snapshot(keys.clone(), Entries::All).await;
    drop(store);

    let store = disk.start();
    let after = store.snapshot(keys, Entries::All).await;
    assert_eq!(after.records, before.records);
    assert_eq!(after.blocks, before.blocks);
    assert_eq!(after.meta.max_expiry, before.meta.max_expiry);
    let lease = lease(draft(1, 1), receipt);
    let judged = after.lattice.judge(&lease.facts(&lease.full_reach()));
    assert_eq!(judged, Err(Dead::Fenced));
    assert_eq!(store.list(Index::Tasks, "", 10).await, [task_id(1).to_string()]);
    assert_eq!(store.list(Index::Due(at(86_400)), "", 10).await, [task_id(1).to_string()]);
    assert_eq!(store.list(Index::Leases(task_id(1)), "", 10).await, [lease_id(1).to_string()]);
}

#[tokio::test]
async fn a_restart_ends_the_incarnation_at_its_last_stamp() {
    let disk = Disk::new();
    let store = disk.start();
    let old = store.done(issue(at(1), &draft(1, 1), 300)).await;
    let known = store.snapshot(Vec::new(), Entries::All).await.lattice;
    drop(store);

    let store = disk.start();
    let snapshot = store.snapshot(Vec::new(), Entries::All).await;
    let new = snapshot.meta.incarnation;
    assert_eq!((new, snapshot.meta.stamp), (at(1).next(), at(1).next()));
    assert_eq!(snapshot.lattice.living(), Some(new));
    assert_eq!(snapshot.meta.floor, Stamp::ZERO, "nothing that was answered is lost");
    let mut lease = lease(draft(1, 1), old);
    let judge = |lease: &leasehold::domain::lease::Lease| {
        snapshot.lattice.judge(&lease.facts(&lease.full_reach()))
    };
    assert_eq!(judge(&lease), Ok(()));
    lease.origin.stamp = at(1).next();
    assert_eq!(judge(&lease), Err(Dead::Lost), "nothing of the old one lies after its end");
    let mut expected = known;
    let end = Entry::End(old.origin.incarnation, at(1));
    let living = Entry::End(new, leasehold::domain::time::INFINITY);
    expected.merge(&end);
    expected.merge(&living);
    assert_eq!(snapshot.lattice, expected);
    let events = store.upkeep.events(P, at(1), 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].stamp, events[0].incarnation), (new, new));
    assert_eq!(events[0].event.kind, EventKind::IncarnationBegun);
    assert_eq!(events[0].event.entries, [end, living]);
    // Two histories that were put back to one stamp begin with different events.
    let all = store.upkeep.events(P, Stamp::ZERO, 10).await.unwrap();
    let begun = all.iter().filter(|e| e.event.kind == EventKind::IncarnationBegun);
    let tags: BTreeSet<u64> = begun.map(|e| e.event.tag).collect();
    assert!(tags.len() == 2 && !tags.contains(&0), "{tags:?}");
    // The end is dropped once its last credential is over; then the incarnation is unknown, which kills as well.
    store.upkeep.prune(P, at(302)).await.unwrap();
    let lattice = store.snapshot(Vec::new(), Entries::All).await.lattice;
    lease.origin = old.origin;
    let judged = lattice.judge(&lease.facts(&lease.full_reach()));
    assert_eq!(judged, Err(Dead::IncarnationUnknown));
    assert_eq!(lattice.living(), Some(new));
}

#[tokio::test]
async fn class_07_a_store_that_was_put_back_fences_everything_from_before() {
    let disk = Disk::new();
    let store = disk.start();
    let old = store.done(issue(at(1), &draft(1, 1), 300)).await;
    drop(store);
    let recovered =
        EmbeddedStore::restored(disk.folder.path(), &*disk.clock, &SystemEntropy).unwrap();
    let own = recovered.iter().find(|recovered| recovered.partition == P).unwrap();
    assert!(recovered.iter().all(|recovered| recovered.fenced) && own.new > old.origin.stamp);
    let store = disk.start();
    let snapshot = store.snapshot(Vec::new(), Entries::All).await;
    assert_eq!(snapshot.meta.floor, own.new);
    let lease = lease(draft(1, 1), old);
    let judged = snapshot.lattice.judge(&lease.facts(&lease.full_reach()));
    assert_eq!(judged, Err(Dead::Lost));
}

#[tokio::test]
async fn class_26_a_clock_set_back_before_a_restart_takes_no_stamp_back() {
    let disk = Disk::new();
    let store = disk.start();
    let last = store.done(commit(at(50))).await.origin;
    drop(store);
    disk.clock.set(Stamp::from_seconds(1));
    let store = disk.start();
    let next = store.done(commit(Stamp::ZERO)).await.origin;
    assert!(next > last && next.incarnation > last.stamp && next.stamp > next.incarnation);
}

#[tokio::test]
async fn class_26_a_clock_that_steps_back_takes_no_stamp_back() {
    let disk = Disk::new();
    let store = disk.start();
    disk.clock.set(at(100));
    assert_eq!(store.done(commit(at(0))).await.origin.stamp, at(100));
    disk.clock.back(Span::from_seconds(3_600));
    assert_eq!(store.done(commit(at(0))).await.origin.stamp, at(100).next());
    let meta = store.snapshot(Vec::new(), Entries::None).await.meta;
    assert_eq!(meta.now, at(100).next(), "the store's time does not go back either");
}

#[tokio::test]
async fn class_26_a_clock_past_the_last_stamp_is_an_error() {
    let disk = Disk::new();
    let store = disk.start();
    let outcome = store.store.commit(commit(leasehold::domain::time::INFINITY)).await;
    assert!(matches!(outcome, Err(StoreError::Misconfigured(_))));
    assert!(store.done(commit(at(0))).await.origin.stamp < at(1));
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let disk = Disk::new();
    let store = disk.start();
    let second = EmbeddedStore::open(disk.folder.path(), disk.clock.clone(), &SystemEntropy);
    assert!(matches!(second, Err(StoreError::Misconfigured(_))));
    drop(store);
    disk.start();
}

#[tokio::test]
async fn class_07_a_store_that_was_never_made_is_not_empty() {
    let disk = Disk::new();
    for path in [disk.folder.path().to_owned(), disk.folder.path().join("none")] {
        let opened = EmbeddedStore::open(&path, disk.clock.clone(), &SystemEntropy);
        assert!(matches!(opened, Err(StoreError::NotInitialised)));
    }
    let made = std::fs::read_dir(disk.folder.path()).unwrap().count();
    assert_eq!(made, 0, "looking makes nothing");
}

#[tokio::test]
async fn a_store_is_made_once() {
    let disk = Disk::new();
    EmbeddedStore::init(disk.folder.path(), constants()).unwrap();
    EmbeddedStore::init(disk.folder.path(), constants()).unwrap();
    let other = Constants { partitions: PartitionCount::DEFAULT, ..constants() };
    let changed = EmbeddedStore::init(disk.folder.path(), other);
    assert!(matches!(changed, Err(StoreError::Misconfigured(_))));
    assert_eq!(disk.start().upkeep.constants(), constants());
}

#[tokio::test]
async fn constants_that_were_fixed_are_not_changed() {
    let disk = Disk::new();
    drop(disk.start());
    let more = Constants { partitions: PartitionCount::DEFAULT, ..constants() };
    let slower = Constants { delta_max: Span::from_seconds(31), ..constants() };
    for other in [more, slower] {
        let opened = EmbeddedStore::create_or_open(
            disk.folder.path(),
            (disk.clock.clone(), &SystemEntropy),
            other,
        );
        assert!(matches!(opened, Err(StoreError::Misconfigured(_))));
    }
    let opened =
        EmbeddedStore::open(disk.folder.path(), disk.clock.clone(), &SystemEntropy).unwrap();
    assert_eq!(opened.constants(), constants());
}

#[tokio::test]
async fn class_07_a_closed_store_answers_no_commit() {
    let disk = Disk::new();
    let store = open(&disk.folder, disk.clock.clone());
    store.close();
    let outcome = store.commit(begin(at(0), &task(1))).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.prune(P, at(0)).await, Err(StoreError::Unavailable(_))));
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_the_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/store");
    EmbeddedStore::init(&path, constants()).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
