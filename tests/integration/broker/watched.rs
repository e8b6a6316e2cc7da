//! Two brokers over one store, each with its feed, and verifiers that the test drives by hand.
//!
//! Δ is `delta_max` here, 30 s by a clock that runs: what is FENCED sooner is so because everybody said it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leasehold::broker::access::Rpc;
use leasehold::broker::request::Idempotency;
use leasehold::broker::seams::Clock;
use leasehold::broker::{Broker, Parts, Revoked};
use leasehold::domain::feed::InstanceId;
use leasehold::domain::id::{LeaseId, Partition, TaskId};
use leasehold::domain::lattice::Kill;
use leasehold::domain::path::Origin;
use leasehold::domain::scope::Scope;
use leasehold::domain::time::{Moment, Span};
use leasehold::feed::hub::{Message, Next};
use leasehold::feed::{Outcome, Stream, Subscriber, WaitFor};
use leasehold::store::{Entries, Query};
use leasehold::testing::clock::RunningClock;
use leasehold::testing::world::settings;
use tokio::task::yield_now;
use tokio_util::task::TaskTracker;

use super::endings::unchanged;
use super::scene::{Scene, agent_of, spec};

const DELTA: Span = Span::from_seconds(30);
/// Past `lapse(DELTA)`.
pub const LAPSE: Span = Span::from_seconds(31);
const LONG: Span = Span::from_seconds(600);
/// The wait that is asked for to be told who is pending.
const GLANCE: Span = Span::from_millis(50);

/// Everything that takes something away.
pub const ENDINGS: [Rpc; 9] = [
    Rpc::CompleteTask,
    Rpc::FailTask,
    Rpc::CancelTask,
    Rpc::RevokeTask,
    Rpc::SuspendTask,
    Rpc::AdvanceTask,
    Rpc::RevokeLease,
    Rpc::ReleaseCredential,
    Rpc::Quarantine,
];

/// Brokers `a` and `b`, whose registry is old enough to be believed.
pub struct Watched {
    pub scene: Scene,
    pub clock: Arc<RunningClock>,
    number: u128,
}

/// What something ends, and so what verifiers are told.
#[derive(Clone, Debug)]
pub enum Target {
    Task(TaskId),
    Lease(LeaseId),
    Scope(Scope),
}

impl Watched {
    pub async fn new() -> Self {
        Self::over(Scene::on_model().await).await
    }

    /// The same over any store.
    pub async fn over(mut scene: Scene) -> Self {
        let clock = Arc::new(RunningClock::at(scene.world.clock.now()));
        (scene.a, scene.b) = (broker(&scene, clock.clone()), broker(&scene, clock.clone()));
        for broker in [&scene.a, &scene.b] {
            broker.feed().registered().await;
            while broker.feed().brokers().is_none_or(|all| all.records.len() < 2) {
                yield_now().await;
            }
        }
        clock.push(LAPSE);
        // Who was there is known from the first read after that on.
        let now = Moment::new(clock.elapsed());
        for broker in [&scene.a, &scene.b] {
            while broker.feed().brokers().is_none_or(|read| read.sent < now) {
                yield_now().await;
            }
        }
        // A revocation that can hit nothing is told to nobody: there is a credential in every partition.
        let agent = agent_of(0);
        for partition in partitions() {
            let task = scene.begin_in(partition, &scene.ci, spec(&agent)).await.task.id;
            scene.issue(&scene.world.caller(&agent), task).await.unwrap();
        }
        Self { scene, clock, number: 0xabc }
    }

    /// A broker that has just started over the same store.
    pub async fn another(&self) -> Broker {
        let broker = broker(&self.scene, self.clock.clone());
        broker.feed().registered().await;
        broker
    }

    /// Time passes, for brokers and store, until the verifier is fresh again and broker `a` has read the registry.
    pub async fn pass(&self, span: Span, verifier: &mut Verifier, revoked: &Revoked) {
        self.scene.forward(span.seconds()).await;
        self.clock.push(span);
        let now = Moment::new(self.clock.elapsed());
        verifier.is_fresh().await;
        let has_read = || self.scene.a.feed().brokers().is_some_and(|read| read.sent >= now);
        while !has_read() {
            // It reads while somebody waits.
            self.scene.a.enforced(revoked, WaitFor::Drained, Some(LONG), GLANCE).await;
            yield_now().await;
        }
    }

    /// A verifier with a view, at one of the brokers.
    pub async fn verifier(&mut self, broker: &str, name: &str, drains: bool) -> Verifier {
        self.number += 1;
        let feed = if broker == "a" { self.scene.a.feed() } else { self.scene.b.feed() };
        let verifier = Subscriber {
            instance: InstanceId::new(self.number),
            name: name.to_owned(),
            principal: name.to_owned(),
            drains,
        };
        let stream = feed.subscribe(verifier).unwrap();
        let mut verifier =
            Verifier { stream, sequence: 0, applied: BTreeMap::new(), kills: Vec::new() };
        verifier.is_fresh().await;
        verifier.acknowledge();
        verifier
    }

    /// Something that such a call can end: a new task, a new lease, a scope.
    pub async fn target(&self, rpc: Rpc) -> Target {
        let agent = agent_of(0);
        let task = self.scene.begin(spec(&agent)).await.task.id;
        match rpc {
            Rpc::RevokeLease | Rpc::ReleaseCredential => {
                let held = self.scene.issue(&self.scene.world.caller(&agent), task).await;
                Target::Lease(held.unwrap().lease)
            }
            Rpc::Quarantine => Target::Scope(Scope::parse("class:research").unwrap()),
            _ => Target::Task(task),
        }
    }

    /// The call by whoever may make it.
    pub async fn ends(&self, at: &Broker, id: &Idempotency, rpc: Rpc, what: &Target) -> Revoked {
        let Scene { ci, operator, world, .. } = &self.scene;
        let none = String::new();
        match (rpc, what.clone()) {
            (Rpc::SuspendTask, Target::Task(task)) => {
                at.suspend(ci, id, task, none).await.unwrap().1
            }
            (Rpc::AdvanceTask, Target::Task(task)) => {
                at.advance(ci, id, task, unchanged(1)).await.unwrap().1
            }
            (Rpc::RevokeTask, Target::Task(task)) => {
                at.end(operator, id, rpc, task, none).await.unwrap().1
            }
            (rpc, Target::Task(task)) => at.end(ci, id, rpc, task, none).await.unwrap().1,
            (Rpc::RevokeLease, Target::Lease(lease)) => {
                at.revoke_lease(operator, id, lease, none).await.unwrap().1
            }
            (_, Target::Lease(lease)) => {
                at.release(&world.caller(&agent_of(0)), id, lease).await.unwrap().1
            }
            (_, Target::Scope(scope)) => at.quarantine(operator, id, scope, none).await.unwrap(),
        }
    }

    /// Ends a new task at broker `a`.
    pub async fn completed(&self) -> (Target, Revoked) {
        let target = self.target(Rpc::CompleteTask).await;
        let id = self.scene.world.id();
        let revoked = self.ends(&self.scene.a, &id, Rpc::CompleteTask, &target).await;
        (target, revoked)
    }

    /// How far it is; asked again until it says `that`.
    pub async fn glance(
        &self,
        revoked: &Revoked,
        wait_for: WaitFor,
        that: impl Fn(&Outcome) -> bool,
    ) -> Outcome {
        loop {
            let outcome = self.scene.a.enforced(revoked, wait_for, Some(LONG), GLANCE).await;
            if that(&outcome) {
                return outcome;
            }
        }
    }

    /// Who is waited for, once every broker has read it: before that a broker speaks for all of its verifiers.
    pub async fn pending(&self, revoked: &Revoked) -> Outcome {
        let is_named = |outcome: &Outcome| {
            let mut names = outcome.pending.iter().map(|verifier| &verifier.name);
            !outcome.pending.is_empty() && names.all(|name| !name.is_empty())
        };
        self.glance(revoked, WaitFor::Fenced, is_named).await
    }

    pub async fn wait(&self, revoked: &Revoked, wait_for: WaitFor) -> Outcome {
        self.scene.a.enforced(revoked, wait_for, None, LONG).await
    }
}

fn broker(scene: &Scene, clock: Arc<RunningClock>) -> Broker {
    let mut settings = settings();
    settings.tiers.iter_mut().for_each(|tier| tier.freshness = DELTA);
    let time: Arc<dyn Clock> = clock;
    let feed = scene.world.feed_at(time.clone());
    feed.spawn(&TaskTracker::new());
    Broker::new(Parts { feed, clock: time, ..scene.world.parts() }, settings)
}

/// A verifier that the test drives by hand.
pub struct Verifier {
    pub stream: Stream,
    sequence: u64,
    pub applied: BTreeMap<Partition, Origin>,
    pub kills: Vec<(Partition, Kill)>,
}

impl Verifier {
    /// Applies what there is.
    fn apply(&mut self) -> bool {
        let mut is_fresh = false;
        loop {
            match self.stream.next() {
                Next::Message(Message::Revocations(batch)) => {
                    self.kills.extend(batch.kills.iter().map(|kept| (batch.partition, kept.kill)));
                    self.applied.extend(batch.position.map(|at| (batch.partition, at)));
                }
                Next::Message(Message::Freshness(answer)) => {
                    self.applied.extend(answer.positions);
                    is_fresh = true;
                }
                Next::Nothing => return is_fresh,
                Next::Overflowed | Next::Elsewhere => panic!("it is closed"),
            }
        }
    }

    /// Asks how fresh it is until it is told.
    pub async fn is_fresh(&mut self) {
        loop {
            // The brokers do their part meanwhile.
            yield_now().await;
            self.sequence += 1;
            self.stream.keep_alive(self.sequence).unwrap();
            if self.apply() {
                return;
            }
        }
    }

    /// Applies until it was told of an end.
    pub async fn hears_of(&mut self, target: &Target) {
        match target {
            Target::Task(task) => {
                let is_end = |kill: &Kill| matches!(kill, Kill::Fence(fenced, _) if fenced == task);
                self.hears(is_end).await;
            }
            Target::Lease(lease) => {
                self.hears(|kill| matches!(kill, Kill::Lease(over) if over == lease)).await;
            }
            Target::Scope(scope) => self.hears_everywhere_of(scope).await,
        }
    }

    /// The same, until it has everything that was committed: what a broker ended itself it tells before it has read that it did.
    pub async fn applies(&mut self, scene: &Scene, target: &Target) {
        self.hears_of(target).await;
        for partition in partitions() {
            let query = Query::new(partition, vec![], Entries::None);
            let committed = scene.world.store.store.read(query).await.unwrap().meta.stamp;
            while self.applied[&partition].stamp < committed {
                self.is_fresh().await;
            }
        }
    }

    async fn hears(&mut self, that: impl Fn(&Kill) -> bool) {
        while !self.kills.iter().any(|(_, kill)| that(kill)) {
            self.is_fresh().await;
        }
    }

    /// Applies until it was told of a scope's quarantine in every partition.
    pub async fn hears_everywhere_of(&mut self, scope: &Scope) {
        while self.marks(scope).len() < partitions().count() {
            self.is_fresh().await;
        }
    }

    /// Up to where a scope is dead in each partition.
    pub fn marks(&self, scope: &Scope) -> BTreeMap<Partition, Origin> {
        let reach = scope.reach();
        let mut marks = BTreeMap::new();
        for (partition, kill) in &self.kills {
            if let Kill::Watermark(of, mark) = kill
                && *of == reach
            {
                let known = marks.entry(*partition).or_insert(*mark);
                *known = (*known).max(*mark);
            }
        }
        marks
    }

    pub fn acknowledge(&self) {
        self.stream.acknowledge(&self.applied, &BTreeMap::new()).unwrap();
    }

    pub fn drained(&self) {
        self.stream.acknowledge(&self.applied, &self.applied).unwrap();
    }
}

pub fn partitions() -> impl Iterator<Item = Partition> {
    (0..4).map(Partition)
}

/// Whom an answer waits for.
pub fn names(outcome: &Outcome) -> BTreeSet<&str> {
    outcome.pending.iter().map(|verifier| verifier.name.as_str()).collect()
}
