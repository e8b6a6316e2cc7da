//! Two brokers, real threads: some issue, renew and delegate without pause while others end, advance, suspend and resume.
//!
//! One logical clock orders everything: a call has a number from before it was made, an ending one from after it was
//! answered. Whatever was called after an ending had answered is refused or of the epoch after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use leasehold::broker::access::{Caller, Rpc};
use leasehold::broker::error::BrokerError;
use leasehold::broker::{AdvanceRequest, Broker};
use leasehold::domain::id::TaskId;
use leasehold::domain::path::Path;
use leasehold::domain::refusal::Refusal;
use leasehold::testing::world::World;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::endings::unchanged;
use super::scene::{Held, Scene, agent_of, spec, token};

/// Endings of one race, one after the other; kept small, so that a race takes a second or two.
const ROUNDS: usize = 12;
/// Credentials that are made between two of them.
const PER_ROUND: usize = 4;

/// A task that ended, or moved on: what its own credentials and those below must have from then on.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// When its answer had come.
    answered: u64,
    task: TaskId,
    /// Lowest epoch that lives; none does if it ended.
    epoch: Option<u64>,
    /// Lowest branch that lives.
    branch: Option<u64>,
}

/// A credential that was issued or renewed.
struct Made {
    /// When it was asked for.
    called: u64,
    path: Path,
    held: Held,
}

struct Race {
    scene: Scene,
    order: AtomicU64,
    over: AtomicBool,
    made: Mutex<Vec<Made>>,
    /// Something was made.
    news: Notify,
    ended: Mutex<Vec<Ended>>,
}

impl Race {
    fn next(&self) -> u64 {
        self.order.fetch_add(1, Ordering::SeqCst)
    }

    fn made_of(&self, root: TaskId) -> usize {
        self.made.lock().iter().filter(|made| made.path.root() == root).count()
    }

    fn makes(&self, made: Made) {
        self.made.lock().push(made);
        self.news.notify_waiters();
    }

    fn brokers(&self) -> [&Broker; 2] {
        [&self.scene.a, &self.scene.b]
    }

    /// Issues, renews and delegates until the race is over.
    async fn works(self: Arc<Self>, broker: usize, agent: Caller, task: TaskId, parent: bool) {
        let broker = self.brokers()[broker];
        let world = &self.scene.world;
        let mut lease = None;
        while !self.over.load(Ordering::SeqCst) {
            let called = self.next();
            let answer = match lease.take() {
                None => broker.issue(&agent, &world.id(), token(task)).await,
                Some(lease) => broker.renew(&agent, &world.id(), lease, None, None).await,
            };
            match answer {
                Ok(issued) => {
                    let held = Held::of(&issued, None);
                    let path = issued.lease.lease.draft.path.clone();
                    lease = (!called.is_multiple_of(3)).then_some(held.lease);
                    self.makes(Made { called, path, held });
                }
                Err(error) => must_be_refusal(error),
            }
            if parent && called.is_multiple_of(7) {
                self.delegates(broker, world, &agent, task).await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// A child that nobody ends but its parent, and a credential of it.
    async fn delegates(&self, broker: &Broker, world: &World, agent: &Caller, parent: TaskId) {
        let Ok(view) = broker.get_task(agent, parent).await else { return };
        let (epoch, spec) = (view.task.epoch.get(), spec(&agent_of(1)));
        let child = match broker.delegate(agent, &world.id(), parent, epoch, spec).await {
            Ok(child) => child.task.id,
            Err(error) => return must_be_refusal(error),
        };
        let called = self.next();
        let agent = world.caller(&agent_of(1));
        match broker.issue(&agent, &world.id(), token(child)).await {
            Ok(issued) => {
                let path = issued.lease.lease.draft.path.clone();
                self.makes(Made { called, path, held: Held::of(&issued, None) });
            }
            Err(error) => must_be_refusal(error),
        }
    }

    /// Advances, suspends and resumes in turn, and completes at last.
    async fn drives(self: Arc<Self>, broker: usize, task: TaskId) {
        let broker = self.brokers()[broker];
        let (world, ci) = (&self.scene.world, &self.scene.ci);
        for round in 0..ROUNDS {
            // Each ending has something to kill, and something on its way.
            let enough = self.made_of(task) + PER_ROUND;
            loop {
                let news = self.news.notified();
                if self.made_of(task) >= enough {
                    break;
                }
                news.await;
            }
            let task = broker.get_task(ci, task).await.unwrap().task;
            let epoch = task.epoch.get();
            let done = match round % 3 {
                0 => broker.advance(ci, &world.id(), task.id, unchanged(epoch)).await,
                1 => {
                    let keeping = AdvanceRequest { keep_children: true, ..unchanged(epoch) };
                    broker.advance(ci, &world.id(), task.id, keeping).await
                }
                _ => broker.suspend(ci, &world.id(), task.id, String::new()).await,
            };
            let done = done.unwrap().0.task;
            let (epoch, branch) = (Some(done.epoch.get()), Some(done.branch.get()));
            self.ended.lock().push(Ended { answered: self.next(), task: task.id, epoch, branch });
            if round % 3 == 2 {
                let epoch = done.epoch.get();
                broker.resume(ci, &world.id(), task.id, epoch).await.unwrap();
            }
        }
        let id = world.id();
        broker.end(ci, &id, Rpc::CompleteTask, task, String::new()).await.unwrap();
        let (epoch, branch) = (None, None);
        self.ended.lock().push(Ended { answered: self.next(), task, epoch, branch });
    }

    /// Nothing that was called after an ending had answered is dead by it; what is dead by it is inactive everywhere.
    async fn judge(&self) {
        let made = std::mem::take(&mut *self.made.lock());
        let ended = self.ended.lock().clone();
        let mut living = 0;
        for made in made.iter() {
            let dead: Vec<&Ended> = ended.iter().filter(|ended| ended.kills(&made.path)).collect();
            for ending in &dead {
                let before = made.called < ending.answered;
                assert!(before, "{:?} was made {} after {ending:?}", made.path, made.called);
            }
            for broker in self.brokers() {
                let active = self.scene.is_active(broker, &made.held).await;
                assert_eq!(active, dead.is_empty(), "{:?}", made.path);
            }
            living += usize::from(dead.is_empty());
        }
        assert!(living > 0, "the bystander's task goes on");
    }
}

impl Ended {
    fn kills(&self, path: &Path) -> bool {
        let own = path.own();
        let below = |least: Option<u64>, counter: u64| least.is_none_or(|least| counter < least);
        if own.task == self.task {
            return below(self.epoch, own.counter.get());
        }
        let through = path.ancestors().iter().find(|hop| hop.task == self.task);
        through.is_some_and(|hop| below(self.branch, hop.counter.get()))
    }
}

/// A race may refuse, or ask to try again; it may not break anything.
fn must_be_refusal(error: BrokerError) {
    match error {
        BrokerError::Contended => {}
        BrokerError::Refused(
            Refusal::EpochStale { .. }
            | Refusal::TaskEnded(_)
            | Refusal::TaskSuspended(_)
            | Refusal::LeaseRevoked,
        ) => {}
        other => panic!("a race broke something: {other:?}"),
    }
}

/// A root, a child of it and a bystander; both brokers work on and drive each.
async fn race(scene: Scene) {
    let race = Arc::new(Race {
        scene,
        order: AtomicU64::new(0),
        over: AtomicBool::new(false),
        made: Mutex::default(),
        news: Notify::new(),
        ended: Mutex::default(),
    });
    let scene = &race.scene;
    let root = scene.begin(spec(&agent_of(0))).await.task.id;
    let bystander = scene.begin_in(root.partition(), &scene.ci, spec(&agent_of(0))).await.task.id;
    let agent = scene.world.caller(&agent_of(0));
    scene.world.caller(&agent_of(1));
    let mut workers = JoinSet::new();
    for broker in [0, 1] {
        let works = |task, parent| race.clone().works(broker, agent.clone(), task, parent);
        workers.spawn(works(root, true));
        workers.spawn(works(bystander, false));
    }
    tokio::select! {
        driven = tokio::spawn(race.clone().drives(0, root)) => driven.unwrap(),
        Some(broken) = workers.join_next() => broken.unwrap(),
    }
    race.over.store(true, Ordering::SeqCst);
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    race.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn class_06_no_race_over_the_model_makes_a_credential_of_a_dead_epoch() {
    race(super::stores::model().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn class_06_no_race_over_the_embedded_store_makes_a_credential_of_a_dead_epoch() {
    race(super::stores::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn class_06_no_race_over_redis_makes_a_credential_of_a_dead_epoch() {
    race(super::stores::redis().await).await;
}

/// Of two orchestrators that advance at once, one is told that it is late.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn class_06_of_two_advances_from_one_epoch_exactly_one_is_made() {
    for scene in [super::stores::model().await, super::stores::embedded().await] {
        let task = scene.begin(spec(&agent_of(0))).await.task.id;
        for epoch in 1..20 {
            let ids = [scene.world.id(), scene.world.id()];
            let (one, other) = tokio::join!(
                scene.a.advance(&scene.ci, &ids[0], task, unchanged(epoch)),
                scene.b.advance(&scene.ci, &ids[1], task, unchanged(epoch)),
            );
            let late = if one.is_ok() { other } else { one };
            assert_eq!(super::scene::reason(late), "EPOCH_STALE");
            assert_eq!(scene.epoch(task).await, epoch + 1);
        }
    }
}

/// The same request at two brokers at once acts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn class_23_one_request_at_two_brokers_at_once_acts_once() {
    for scene in [super::stores::model().await, super::stores::embedded().await] {
        let agent = scene.world.caller(&agent_of(0));
        for _ in 0..20 {
            let id = scene.world.id();
            let begin = |broker| {
                let (scene, id): (&Scene, _) = (&scene, &id);
                let broker: &Broker = broker;
                async move { broker.begin(&scene.ci, id, spec(&agent_of(0))).await.unwrap().task.id }
            };
            let (task, same) = tokio::join!(begin(&scene.a), begin(&scene.b));
            assert_eq!(task, same);
            let id = scene.world.id();
            let (one, other) = tokio::join!(
                scene.a.issue(&agent, &id, token(task)),
                scene.b.issue(&agent, &id, token(task)),
            );
            let (one, other) = (one.unwrap().lease.lease, other.unwrap().lease.lease);
            assert_eq!((one.draft.id, one.draft.jti), (other.draft.id, other.draft.jti));
        }
    }
}
