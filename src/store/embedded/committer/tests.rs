//! What the committer does when the disk does not.

use std::sync::atomic::{AtomicUsize, Ordering};

use fjall::{Database, KeyspaceCreateOptions};
use tokio::sync::oneshot;

use super::*;
use crate::domain::id::{Partition, PartitionCount};
use crate::domain::time::Stamp;
use crate::store::embedded::{incarnation, state};
use crate::store::{Commit, Constants, Lane};
use crate::testing::clock::TestClock;

struct Fixture {
    _folder: tempfile::TempDir,
    queue: Arc<Queue>,
    committer: Option<Committer>,
}

fn fixture(sync: Sync) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::builder(folder.path()).open().unwrap();
    let tree = database.keyspace("leasehold", KeyspaceCreateOptions::default).unwrap();
    let delta_max = Span::from_seconds(30);
    let constants = Constants { partitions: PartitionCount::new(1).unwrap(), delta_max };
    super::super::write(&database, &tree, state::new_store(constants)).unwrap();
    let rows = incarnation::begin_all(&tree, constants, TestClock::default().now()).unwrap();
    super::super::write(&database, &tree, rows).unwrap();
    let queue = Arc::new(Queue::default());
    let clock = Arc::new(TestClock::default());
    let committer = Committer { queue: Arc::clone(&queue), tree, clock, delta_max, sync };
    Fixture { _folder: folder, queue, committer: Some(committer) }
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
    let mut fixture = fixture(Box::new(move |_| refuse()));
    let mut answers = [push(&fixture.queue), push(&fixture.queue)];
    fixture.committer.take().unwrap().run();
    for answer in &mut answers {
        assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
    }
    let (reply, _answer) = oneshot::channel();
    let prune = Job::Prune(Partition::ZERO, Stamp::ZERO, reply);
    assert!(matches!(fixture.queue.push(Lane::Ending, prune), Err(StoreError::Unavailable(_))));
}

#[test]
fn what_waits_together_is_synced_once_and_answered_after_that() {
    let syncs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&syncs);
    let waiting: Arc<parking_lot::Mutex<Vec<_>>> = Arc::default();
    let unanswered = Arc::clone(&waiting);
    let mut fixture = fixture(Box::new(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        let mut waiting: parking_lot::MutexGuard<'_, Vec<oneshot::Receiver<_>>> = unanswered.lock();
        assert!(waiting.iter_mut().all(|answer| answer.try_recv().is_err()), "answered too early");
        Ok(())
    }));
    waiting.lock().extend((0..100).map(|_| push(&fixture.queue)));
    fixture.queue.close("enough");
    fixture.committer.take().unwrap().run();
    assert_eq!(syncs.load(Ordering::Relaxed), 1);
    let mut stamps = Vec::new();
    for answer in waiting.lock().iter_mut() {
        let Ok(Outcome::Done(receipt)) = answer.try_recv().unwrap() else { panic!("not done") };
        stamps.push(receipt.origin.stamp);
    }
    assert!(stamps.is_sorted_by(|one, next| one < next), "commits of a group see each other");
}
