//! What the committer does when the disk does not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use fjall::{Database, KeyspaceCreateOptions};
use tokio::sync::oneshot;

use super::*;
use crate::domain::id::{LeaseId, Partition, PartitionCount};
use crate::domain::lease::Draft;
use crate::domain::time::Stamp;
use crate::store::codec_lease::lease_bytes;
use crate::store::embedded::incarnation::{Loss, begin_all};
use crate::store::embedded::rows::{View, timed};
use crate::store::embedded::{keys, reads, state, write};
use crate::store::{Commit, Constants, Index, LEASE_KEPT, Lane, Listing, RecordKey};
use crate::testing::clock::TestClock;
use crate::testing::entropy::SeededEntropy;
use crate::testing::store_contract::samples::{at, draft, issue, lease_id, task_id};

const DELTA_MAX: Span = Span::from_seconds(30);

struct Disk {
    _folder: tempfile::TempDir,
    database: Database,
    tree: Keyspace,
}

impl Disk {
    /// A store of one partition in its first incarnation.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(folder.path()).open().unwrap();
        let tree = database.keyspace("leasehold", KeyspaceCreateOptions::default).unwrap();
        let constants =
            Constants { partitions: PartitionCount::new(1).unwrap(), delta_max: DELTA_MAX };
        write(&database, &tree, state::new_store(constants), Durable::Yes).unwrap();
        let now = TestClock::default().now();
        let (rows, _) =
            begin_all(&tree, constants, (now, &SeededEntropy::new(1)), Loss::Impossible).unwrap();
        write(&database, &tree, rows, Durable::Yes).unwrap();
        Self { _folder: folder, database, tree }
    }

    fn sync(&self) -> Sync {
        let (database, tree) = (self.database.clone(), self.tree.clone());
        Box::new(move |rows, durable| write(&database, &tree, rows, durable))
    }

    /// Does what waits as one group.
    fn run(&self, queue: &Arc<Queue>, sync: Sync) {
        let clock = Arc::new(TestClock::default());
        queue.close("enough");
        let (queue, tree) = (Arc::clone(queue), self.tree.clone());
        let (changes, compaction) = Default::default();
        let delta_max = DELTA_MAX;
        Committer { queue, changes, tree, clock, delta_max, compaction, sync }.run();
    }
}

fn push(queue: &Queue) -> oneshot::Receiver<Result<Outcome, StoreError>> {
    let (reply, answer) = oneshot::channel();
    let commit = Commit::new(Partition::ZERO, Lane::Ordinary);
    queue.push(Lane::Ordinary, Job::Commit(Box::new(commit), reply)).unwrap();
    answer
}

#[test]
fn class_07_a_write_that_fails_is_an_error_to_all_of_its_group_and_stops_the_store() {
    let refuse = || Err(StoreError::Unavailable("no space left on device".to_owned()));
    let queue = Arc::default();
    let mut answers = [push(&queue), push(&queue)];
    Disk::new().run(&queue, Box::new(move |_, _| refuse()));
    for answer in &mut answers {
        assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
    }
}

#[test]
fn class_07_after_a_write_that_failed_nothing_is_taken_nor_written() {
    let queue = Arc::new(Queue::default());
    let mut more: Vec<_> = (0..1_000).map(|_| push(&queue)).collect();
    let writes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&writes);
    let disk = Disk::new();
    let clock = Arc::new(TestClock::default());
    let sync: Sync = Box::new(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Unavailable("no space left on device".to_owned()))
    });
    let (waiting, tree) = (Arc::clone(&queue), disk.tree.clone());
    let committer = Committer {
        queue: waiting,
        changes: Arc::default(),
        tree,
        clock,
        delta_max: DELTA_MAX,
        compaction: Arc::default(),
        sync,
    };
    let (stopped, stops) = mpsc::channel();
    std::thread::spawn(move || {
        committer.run();
        stopped.send(()).unwrap();
    });
    stops.recv_timeout(Duration::from_secs(60)).expect("it goes on after a write that failed");
    assert_eq!(writes.load(Ordering::Relaxed), 1, "the groups behind it are not tried");
    let unanswered = |answer: &mut oneshot::Receiver<_>| !matches!(answer.try_recv(), Ok(Ok(_)));
    assert!(more.iter_mut().all(unanswered));
    let (reply, _answer) = oneshot::channel();
    let prune = Job::Prune(Partition::ZERO, Stamp::ZERO, reply);
    assert!(matches!(queue.push(Lane::Ending, prune), Err(StoreError::Unavailable(_))));
}

#[test]
fn a_row_whose_time_moves_on_in_the_group_of_its_pruning_stays() {
    let disk = Disk::new();
    let issue = |queue: &Queue, seconds| push_commit(queue, issue(at(seconds), &draft(1, 1), 60));
    let queue = Arc::default();
    issue(&queue, 0);
    disk.run(&queue, disk.sync());
    let queue = Arc::default();
    issue(&queue, 3_000);
    let old = at(60).plus(LEASE_KEPT);
    let prune = Job::Prune(Partition::ZERO, old, oneshot::channel().0);
    queue.push(Lane::Ordinary, prune).unwrap();
    disk.run(&queue, disk.sync());
    let key = keys::record(Partition::ZERO, &RecordKey::Lease(lease_id(1)));
    assert!(disk.tree.get(key).unwrap().is_some());
}

#[test]
fn what_leases_share_is_kept_longer_than_each_of_them() {
    let disk = Disk::new();
    let until = |key| timed(&disk.tree.get(key).unwrap().unwrap()).unwrap().0;
    let terms = keys::terms(Partition::ZERO, &lease_bytes(&draft(1, 1)).name);
    let mut written = BTreeSet::new();
    // The third is over in the very instant in which the terms of the first would be.
    for (number, time) in [(1, 0), (2, 1), (3, 3_600), (4, 3_601), (5, 60_000)] {
        let queue = Arc::default();
        let mut issue = issue(at(time), &draft(number, 1), 60);
        issue.times.as_mut().unwrap().ceiling_key = [u8::try_from(number).unwrap(); 32];
        push_commit(&queue, issue);
        disk.run(&queue, disk.sync());
        let lease = keys::record(Partition::ZERO, &RecordKey::Lease(lease_id(number)));
        assert!(until(terms.clone()) > until(lease), "{number}");
        written.insert(until(terms.clone()));
    }
    assert_eq!(written.len(), 3, "only where that would no longer be so");
}

fn push_commit(queue: &Queue, commit: Commit) {
    let commit = Commit { partition: Partition::ZERO, ..commit };
    let job = Job::Commit(Box::new(commit), oneshot::channel().0);
    queue.push(Lane::Ordinary, job).unwrap();
}

/// Leases lie in two indexes until those of the version before are over.
#[test]
fn leases_that_the_version_before_listed_are_listed_and_dropped_with_the_others() {
    let disk = Disk::new();
    let issue = |number, time| {
        let queue = Arc::default();
        let id = LeaseId::new(Partition::ZERO, number);
        push_commit(&queue, issue(at(time), &Draft { id, ..draft(number, 1) }, 60));
        disk.run(&queue, disk.sync());
    };
    let list = |after: &str, limit| {
        let (index, after) = (Index::Leases(task_id(1)), after.to_owned());
        let listing = Listing { partition: Partition::ZERO, index, after, limit };
        let view = View { tree: disk.tree.clone(), snapshot: disk.database.snapshot() };
        reads::list(&view, &listing, Stamp::ZERO).unwrap()
    };
    let names = |numbers: &[u128]| -> Vec<_> {
        numbers.iter().map(|n| LeaseId::new(Partition::ZERO, *n).to_string()).collect()
    };
    (1..=4).for_each(|number| issue(number, 0));
    for number in [2, 4] {
        // As the version before wrote it.
        let id = LeaseId::new(Partition::ZERO, number);
        let [new, old] =
            [keys::lease_of, keys::named_lease_of].map(|key| key(Partition::ZERO, task_id(1), id));
        let value = disk.tree.get(&new).unwrap().unwrap();
        disk.tree.remove(new).unwrap();
        disk.tree.insert(old, value).unwrap();
    }
    assert_eq!(list("", 9), names(&[1, 2, 3, 4]));
    assert_eq!(list("", 2), names(&[1, 2]));
    assert_eq!(list(&names(&[1])[0], 2), names(&[2, 3]));
    assert_eq!(list(&names(&[3])[0], 2), names(&[4]));
    // One of them goes on.
    issue(2, 30);
    assert_eq!(list("", 9), names(&[1, 2, 3, 4]), "once");
    let prune = |time: Stamp| {
        let queue = Arc::new(Queue::default());
        let job = Job::Prune(Partition::ZERO, time.plus(LEASE_KEPT), oneshot::channel().0);
        queue.push(Lane::Ordinary, job).unwrap();
        disk.run(&queue, disk.sync());
    };
    prune(at(60));
    assert_eq!(list("", 9), names(&[2]));
    prune(at(90));
    let rows: Vec<_> = disk.tree.iter().map(|row| row.key().unwrap()).collect();
    let listed = rows.iter().filter(|key| [Some(&b'a'), Some(&b'i')].contains(&key.get(1)));
    assert_eq!(listed.count(), 0);
}

#[test]
fn what_waits_together_is_synced_once_and_answered_after_that() {
    let syncs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&syncs);
    let waiting: Arc<parking_lot::Mutex<Vec<_>>> = Arc::default();
    let unanswered = Arc::clone(&waiting);
    let sync: Sync = Box::new(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        let mut waiting: parking_lot::MutexGuard<'_, Vec<oneshot::Receiver<_>>> = unanswered.lock();
        assert!(waiting.iter_mut().all(|answer| answer.try_recv().is_err()), "answered too early");
        Ok(())
    });
    let queue = Arc::default();
    waiting.lock().extend((0..100).map(|_| push(&queue)));
    Disk::new().run(&queue, sync);
    assert_eq!(syncs.load(Ordering::Relaxed), 1);
    let mut stamps = Vec::new();
    for answer in waiting.lock().iter_mut() {
        let Ok(Outcome::Done(receipt)) = answer.try_recv().unwrap() else { panic!("not done") };
        stamps.push(receipt.origin.stamp);
    }
    assert!(stamps.is_sorted_by(|one, next| one < next), "commits of a group see each other");
}
