//! What waits for the committer: two bounded lanes, endings first.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::domain::feed::{BrokerRecord, InstanceId};
use crate::domain::id::Partition;
use crate::domain::time::Stamp;
use crate::store::{Commit, Lane, Outcome, StoreError};

/// How many jobs may wait in a lane; then the store is full.
const LANE: usize = 4_096;

/// How many jobs share one write to the disk.
const GROUP: usize = 256;

/// How many of the ordinary ones go with endings, which wait for them then: few, and never none.
const BESIDE_ENDINGS: usize = 8;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Something to do.
pub(super) enum Job {
    /// A commit.
    Commit(Box<Commit>, Reply<Outcome>),
    /// Drop what is over in a partition by a time.
    Prune(Partition, Stamp, Reply<()>),
    /// Write a broker's record.
    Beat(Box<BrokerRecord>, Reply<Stamp>),
    /// Remove a broker's record whose beat is this one.
    Forget(InstanceId, u64, Reply<bool>),
}

/// Jobs that are done together, those of each lane in their order: endings first.
pub(super) struct Jobs {
    pub(super) ending: Vec<Job>,
    pub(super) ordinary: VecDeque<Job>,
}

/// The jobs that wait.
#[derive(Default)]
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
    changed: Condvar,
}

#[derive(Default)]
struct Lanes {
    ending: VecDeque<Job>,
    ordinary: VecDeque<Job>,
    closed: Option<&'static str>,
}

impl Queue {
    /// Adds a job.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the lane is full or the queue is closed.
    pub(super) fn push(&self, lane: Lane, job: Job) -> Result<(), StoreError> {
        let mut lanes = self.lanes.lock();
        if let Some(why) = lanes.closed {
            return Err(StoreError::Unavailable(why.to_owned()));
        }
        let lane = match lane {
            Lane::Ending => &mut lanes.ending,
            Lane::Ordinary => &mut lanes.ordinary,
        };
        if lane.len() >= LANE {
            return Err(StoreError::Unavailable(format!("{LANE} commits wait already")));
        }
        lane.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes the next ones; `None` once the queue is closed and empty.
    pub(super) fn next_group(&self) -> Option<Jobs> {
        let mut lanes = self.lanes.lock();
        loop {
            let ending = lanes.ending.len().min(GROUP);
            let room = if ending > 0 { BESIDE_ENDINGS } else { GROUP };
            let ordinary = lanes.ordinary.len().min(room);
            if ending > 0 || ordinary > 0 {
                return Some(Jobs {
                    ending: lanes.ending.drain(..ending).collect(),
                    ordinary: lanes.ordinary.drain(..ordinary).collect(),
                });
            }
            if lanes.closed.is_some() {
                return None;
            }
            self.changed.wait(&mut lanes);
        }
    }

    /// Takes back ordinary jobs of a group if an ending has come since, which goes before them. They stay the next of their kind.
    pub(super) fn take_back(&self, jobs: &mut VecDeque<Job>) {
        let mut lanes = self.lanes.lock();
        if lanes.closed.is_none() && !lanes.ending.is_empty() {
            while let Some(job) = jobs.pop_back() {
                lanes.ordinary.push_front(job);
            }
        }
    }

    /// Takes no more jobs; those that wait are still done.
    pub(super) fn close(&self, why: &'static str) {
        self.lanes.lock().closed.get_or_insert(why);
        self.changed.notify_all();
    }

    /// Takes no more jobs, and forgets those that wait: dropping a reply is an error to whoever waits for it.
    pub(super) fn fail(&self, why: &'static str) {
        self.close(why);
        let mut lanes = self.lanes.lock();
        lanes.ending.clear();
        lanes.ordinary.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(partition: u8) -> Job {
        Job::Prune(Partition(partition), Stamp::ZERO, oneshot::channel().0)
    }

    fn partitions(group: Jobs) -> Vec<u8> {
        let partition = |job| match job {
            Job::Prune(partition, ..) => partition.0,
            Job::Commit(commit, _) => commit.partition.0,
            Job::Beat(..) | Job::Forget(..) => 0,
        };
        group.ending.into_iter().chain(group.ordinary).map(partition).collect()
    }

    #[test]
    fn endings_go_first() {
        let queue = Queue::default();
        queue.push(Lane::Ordinary, job(1)).unwrap();
        queue.push(Lane::Ordinary, job(2)).unwrap();
        queue.push(Lane::Ending, job(3)).unwrap();
        assert_eq!(partitions(queue.next_group().unwrap()), [3, 1, 2]);
    }

    #[test]
    fn a_full_lane_refuses_and_leaves_the_other_lane_free() {
        let queue = Queue::default();
        (0..LANE).for_each(|_| queue.push(Lane::Ordinary, job(0)).unwrap());
        assert!(matches!(queue.push(Lane::Ordinary, job(0)), Err(StoreError::Unavailable(_))));
        queue.push(Lane::Ending, job(1)).unwrap();
        assert_eq!(partitions(queue.next_group().unwrap()).len(), 1 + BESIDE_ENDINGS);
        assert_eq!(partitions(queue.next_group().unwrap()).len(), GROUP);
        queue.push(Lane::Ordinary, job(0)).unwrap();
    }

    #[test]
    fn class_15_what_is_ordinary_and_not_done_yet_gives_way_to_an_ending_and_keeps_its_order() {
        let queue = Queue::default();
        (1..=20).for_each(|n| queue.push(Lane::Ordinary, job(n)).unwrap());
        let mut group = queue.next_group().unwrap();
        drop(group.ordinary.pop_front());
        queue.take_back(&mut group.ordinary);
        assert_eq!(group.ordinary.len(), 19, "nothing has come that would go first");
        queue.push(Lane::Ending, job(99)).unwrap();
        queue.take_back(&mut group.ordinary);
        assert!(group.ordinary.is_empty());
        assert_eq!(partitions(queue.next_group().unwrap()), [99, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(partitions(queue.next_group().unwrap()), Vec::from_iter(10..=20));
    }

    #[test]
    fn a_group_of_a_closed_queue_is_done_to_its_end() {
        let queue = Queue::default();
        queue.push(Lane::Ordinary, job(1)).unwrap();
        let mut group = queue.next_group().unwrap();
        queue.push(Lane::Ending, job(2)).unwrap();
        queue.fail("stopped");
        queue.take_back(&mut group.ordinary);
        assert_eq!(group.ordinary.len(), 1);
    }

    #[test]
    fn a_closed_queue_gives_what_waits_and_takes_nothing() {
        let queue = Queue::default();
        queue.push(Lane::Ordinary, job(1)).unwrap();
        queue.close("stopped");
        assert!(queue.push(Lane::Ending, job(2)).is_err());
        assert_eq!(partitions(queue.next_group().unwrap()), [1]);
        assert!(queue.next_group().is_none());
    }
}
