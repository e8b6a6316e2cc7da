//! Who watches which tasks: bounded, and woken only by what concerns them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::domain::event::EventKind;
use crate::domain::id::{Partition, TaskId};
use crate::feed::{Feed, Happened};
use crate::telemetry::metrics;

/// How many watches there may be at a time.
#[derive(Clone, Copy, Debug)]
struct Limits {
    broker: usize,
    principal: usize,
}

const LIMITS: Limits = Limits { broker: 8_192, principal: 1_024 };
/// How many of them read their task at a time: what concerns all of them is no flood for the store.
const READ_AT_ONCE: usize = 64;

/// There are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// At this broker.
    Broker(usize),
    /// Of this principal.
    Principal(usize),
}

/// The watches of one broker.
#[derive(Debug)]
pub(super) struct Watches {
    limits: Limits,
    open: Mutex<Open>,
    turns: Semaphore,
}

#[derive(Debug, Default)]
struct Open {
    made: u64,
    wakes: BTreeMap<u64, Arc<Notify>>,
    /// Which watch is to hear of which task. Tasks of one partition are not neighbours.
    hears: BTreeSet<(TaskId, u64)>,
    principals: BTreeMap<String, usize>,
}

/// One watch; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    watches: Arc<Watches>,
    id: u64,
    principal: String,
    tasks: Vec<TaskId>,
    wake: Arc<Notify>,
}

impl Watches {
    /// None yet. Those to come hear what the feed reads, until it stops.
    pub(super) fn start(feed: &Feed) -> Arc<Self> {
        let watches = Self::new(LIMITS);
        let (stop, happened) = (feed.stopping().clone(), feed.events());
        let follow = follow(Arc::downgrade(&watches), happened);
        tokio::spawn(async move { stop.run_until_cancelled(follow).await });
        watches
    }

    fn new(limits: Limits) -> Arc<Self> {
        let turns = Semaphore::new(READ_AT_ONCE);
        Arc::new(Self { limits, open: Mutex::default(), turns })
    }

    /// A watch of a task, which hears from now on.
    pub(super) fn open(self: &Arc<Self>, principal: &str, task: TaskId) -> Result<Place, Full> {
        let mut open = self.open.lock();
        if open.wakes.len() >= self.limits.broker {
            return Err(Full::Broker(self.limits.broker));
        }
        let own = open.principals.get(principal).copied().unwrap_or(0);
        if own >= self.limits.principal {
            return Err(Full::Principal(self.limits.principal));
        }
        open.principals.insert(principal.to_owned(), own.saturating_add(1));
        open.made = open.made.saturating_add(1);
        let (id, wake) = (open.made, Arc::new(Notify::new()));
        open.wakes.insert(id, wake.clone());
        open.hears.insert((task, id));
        metrics::task_watches(open.wakes.len());
        let (watches, principal) = (self.clone(), principal.to_owned());
        Ok(Place { watches, id, principal, tasks: vec![task], wake })
    }

    /// Wakes whoever this concerns. Woken twice before it looks, a watch looks once.
    fn hear(&self, happened: &Happened) {
        match happened {
            Happened::Gap(partition) => self.open.lock().wake_partition(*partition),
            Happened::Event(partition, recorded) => {
                let event = &recorded.event;
                if event.kind == EventKind::IncarnationBegun {
                    // A floor that rises suspends tasks that no event names.
                    self.open.lock().wake_partition(*partition);
                } else if let (Some(task), Some(_)) = (event.task, event.state) {
                    // What is said of its credentials alone has no state.
                    self.open.lock().wake_task(task);
                }
            }
        }
    }

    fn wake_all(&self) {
        self.open.lock().wakes.values().for_each(|wake| wake.notify_one());
    }
}

/// Hears what happened until nobody could watch any more.
async fn follow(watches: Weak<Watches>, mut happened: Receiver<Happened>) {
    loop {
        let next = happened.recv().await;
        let Some(watches) = watches.upgrade() else { return };
        match next {
            Ok(happened) => watches.hear(&happened),
            // INVARIANT (nothing unheard): what was missed may concern anybody, so everybody looks.
            Err(RecvError::Lagged(_)) => watches.wake_all(),
            Err(RecvError::Closed) => return,
        }
    }
}

impl Open {
    fn wake(&self, id: u64) {
        if let Some(wake) = self.wakes.get(&id) {
            wake.notify_one();
        }
    }

    fn wake_task(&self, task: TaskId) {
        self.hears.range((task, 0)..=(task, u64::MAX)).for_each(|(_, id)| self.wake(*id));
    }

    fn wake_partition(&self, partition: Partition) {
        let concerned = self.hears.iter().filter(|(task, _)| task.partition() == partition);
        concerned.for_each(|(_, id)| self.wake(*id));
    }
}

impl Place {
    /// Lets it hear of these tasks too.
    // INVARIANT (nothing unheard): something may have happened to them before, so that is said to have happened now.
    pub(super) fn hear_of(&mut self, tasks: impl Iterator<Item = TaskId>) {
        let mut open = self.watches.open.lock();
        for task in tasks {
            open.hears.insert((task, self.id));
            self.tasks.push(task);
            self.wake.notify_one();
        }
    }

    /// Ends when something happened, also if that was since the last time.
    pub(super) async fn happened(&self) {
        self.wake.notified().await;
    }

    /// Its turn to read, until that is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.watches.turns.acquire().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.watches.open.lock();
        open.wakes.remove(&self.id);
        metrics::task_watches(open.wakes.len());
        for task in &self.tasks {
            open.hears.remove(&(*task, self.id));
        }
        if let Some(own) = open.principals.get_mut(&self.principal) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.principals.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::broadcast;

    use super::*;
    use crate::domain::event::Event;
    use crate::domain::task::State;
    use crate::domain::time::Stamp;
    use crate::store::Recorded;

    fn task(partition: u8, n: u128) -> TaskId {
        TaskId::new(Partition(partition), n)
    }

    fn event(kind: EventKind, task: TaskId, state: Option<State>) -> Happened {
        let event = Event { task: Some(task), state, ..Event::of_broker(1, kind, "") };
        let (stamp, incarnation) = (Stamp::from_seconds(2), Stamp::from_seconds(1));
        let recorded = Recorded { stamp, incarnation, keep_until: stamp, event };
        Happened::Event(task.partition(), Arc::new(recorded))
    }

    fn is_woken(place: &Place) -> bool {
        place.happened().now_or_never().is_some()
    }

    #[test]
    fn class_15_no_principal_takes_every_watch_and_what_is_closed_makes_room() {
        let watches = Watches::new(Limits { broker: 3, principal: 2 });
        let open = |principal| watches.open(principal, task(0, 1));
        let (first, _second) = (open("a").unwrap(), open("a").unwrap());
        assert_eq!(open("a").map(drop), Err(Full::Principal(2)));
        let _third = open("b").unwrap();
        assert_eq!(open("c").map(drop), Err(Full::Broker(3)));
        drop(first);
        let _fourth = open("a").unwrap();
        assert_eq!(open("c").map(drop), Err(Full::Broker(3)));
    }

    #[test]
    fn nothing_is_kept_of_a_watch_that_is_over() {
        let watches = Watches::new(LIMITS);
        let mut place = watches.open("a", task(0, 1)).unwrap();
        place.hear_of([task(0, 2)].into_iter());
        drop(place);
        let open = watches.open.lock();
        assert!(open.wakes.is_empty() && open.hears.is_empty() && open.principals.is_empty());
    }

    #[test]
    fn a_gap_wakes_its_partition_and_a_task_those_who_hear_of_it() {
        let watches = Watches::new(LIMITS);
        let mut child = watches.open("a", task(0, 2)).unwrap();
        child.hear_of([task(0, 1)].into_iter());
        assert!(is_woken(&child), "something may have happened above it before");
        let other = watches.open("a", task(1, 3)).unwrap();
        assert!(!is_woken(&other));
        watches.hear(&event(EventKind::TaskEnded, task(0, 1), Some(State::Completed)));
        assert!(is_woken(&child) && !is_woken(&other));
        watches.hear(&Happened::Gap(Partition(1)));
        assert!(!is_woken(&child) && is_woken(&other));
        watches.hear(&event(EventKind::IncarnationBegun, task(1, 9), None));
        assert!(!is_woken(&child) && is_woken(&other));
    }

    #[test]
    fn a_credential_of_the_task_wakes_nobody() {
        let watches = Watches::new(LIMITS);
        let place = watches.open("a", task(0, 1)).unwrap();
        watches.hear(&event(EventKind::CredentialIssued, task(0, 1), None));
        assert!(!is_woken(&place));
    }

    #[tokio::test]
    async fn whoever_may_have_missed_something_looks() {
        let watches = Watches::new(LIMITS);
        let place = watches.open("a", task(0, 1)).unwrap();
        let (say, happened) = broadcast::channel(1);
        for partition in [1, 2, 3] {
            say.send(Happened::Gap(Partition(partition))).unwrap();
        }
        drop(say);
        follow(Arc::downgrade(&watches), happened).await;
        assert!(is_woken(&place), "it lagged behind");
    }
}
