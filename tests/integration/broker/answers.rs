//! RECORDED, FENCED, DRAINED: two brokers over one store, each with its feed, and verifiers that say what they applied, are silent,
//! or are gone.
//!
//! Δ is `delta_max` here, 30 s by a clock that runs: what is FENCED sooner is so because everybody said it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use leasehold::broker::access::Rpc;
use leasehold::broker::request::{Deadline, TaskSpec};
use leasehold::broker::seams::Clock;
use leasehold::broker::{Broker, Parts, Revoked};
use leasehold::domain::event::{Event, EventKind};
use leasehold::domain::feed::InstanceId;
use leasehold::domain::id::{Partition, TaskId};
use leasehold::domain::lattice::{Entry, Kill};
use leasehold::domain::path::Origin;
use leasehold::domain::scope::Scope;
use leasehold::domain::time::Span;
use leasehold::feed::hub::{Message, Next};
use leasehold::feed::{Outcome, Stream, Subscriber, WaitFor};
use leasehold::store::{Commit, Lane};
use leasehold::testing::clock::RunningClock;
use leasehold::testing::world::{BATCH, World, settings};
use tokio_util::task::TaskTracker;

use super::scene::{Scene, agent_of, spec};

const DELTA: Span = Span::from_seconds(30);
/// Past `lapse(DELTA)`.
const LAPSE: Span = Span::from_seconds(31);
const LONG: Span = Span::from_seconds(600);
/// The wait that is asked for to be told who is pending.
const GLANCE: Span = Span::from_millis(50);

/// Brokers `a` and `b`, whose registry is old enough to be believed.
struct Watched {
    scene: Scene,
    clock: Arc<RunningClock>,
    number: u128,
}

impl Watched {
    async fn new() -> Self {
        let (world, clock) = (World::on_model().await, Arc::new(RunningClock::default()));
        let mut scene = Scene::of(world);
        let broker = |scene: &Scene| {
            let mut settings = settings();
            settings.tiers.iter_mut().for_each(|tier| tier.freshness = DELTA);
            let time: Arc<dyn Clock> = clock.clone();
            let feed = scene.world.feed_at(time.clone());
            feed.spawn(&TaskTracker::new());
            Broker::new(Parts { feed, clock: time, ..scene.world.parts() }, settings)
        };
        (scene.a, scene.b) = (broker(&scene), broker(&scene));
        for broker in [&scene.a, &scene.b] {
            broker.feed().registered().await;
            until(|| broker.feed().brokers().is_some_and(|all| all.records.len() == 2)).await;
        }
        clock.push(LAPSE);
        // A revocation that can hit nothing is told to nobody: there is a credential in every partition.
        let agent = agent_of(0);
        for partition in partitions() {
            let task = scene.begin_in(partition, &scene.ci, spec(&agent)).await.task.id;
            scene.issue(&scene.world.caller(&agent), task).await.unwrap();
        }
        Self { scene, clock, number: 0xabc }
    }

    /// A verifier with a view, at one of the brokers.
    async fn verifier(&mut self, broker: &str, name: &str, drains: bool) -> Verifier {
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

    /// Ends a new task at broker `a`.
    async fn completed(&self) -> (TaskId, Revoked) {
        let task = self.scene.begin(spec(&agent_of(0))).await.task.id;
        let Scene { world, a, ci, .. } = &self.scene;
        let ended = a.end(ci, &world.id(), Rpc::CompleteTask, task, String::new()).await;
        (task, ended.unwrap().1)
    }

    /// How far it is; asked again until it says `that`.
    async fn glance(
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

    async fn pending(&self, revoked: &Revoked) -> Outcome {
        // A broker that has not read it yet speaks for all of its verifiers.
        let is_named = |outcome: &Outcome| outcome.pending.iter().any(|v| !v.name.is_empty());
        self.glance(revoked, WaitFor::Fenced, is_named).await
    }

    async fn wait(&self, revoked: &Revoked, wait_for: WaitFor) -> Outcome {
        self.scene.a.enforced(revoked, wait_for, None, LONG).await
    }
}

/// A verifier that the test drives by hand.
struct Verifier {
    stream: Stream,
    sequence: u64,
    applied: BTreeMap<Partition, Origin>,
    kills: Vec<(Partition, Kill)>,
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
                Next::Overflowed => panic!("it did not keep up"),
            }
        }
    }

    /// Asks how fresh it is until it is told.
    async fn is_fresh(&mut self) {
        loop {
            // The brokers do their part meanwhile.
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.sequence += 1;
            self.stream.keep_alive(self.sequence).unwrap();
            if self.apply() {
                return;
            }
        }
    }

    /// Applies until it was told of a task's end.
    async fn hears_of(&mut self, task: TaskId) {
        let is_end = |kill: &Kill| matches!(kill, Kill::Fence(fenced, _) if *fenced == task);
        while !self.kills.iter().any(|(_, kill)| is_end(kill)) {
            self.is_fresh().await;
        }
    }

    /// Applies until it was told of a scope's quarantine in every partition.
    async fn hears_everywhere_of(&mut self, scope: &Scope) {
        let reach = scope.reach();
        let marked = |kill: &Kill| matches!(kill, Kill::Watermark(scope, _) if *scope == reach);
        loop {
            let kills = self.kills.iter().filter(|(_, kill)| marked(kill));
            let marks: BTreeSet<_> = kills.map(|(partition, _)| *partition).collect();
            if marks == partitions().collect() {
                return;
            }
            self.is_fresh().await;
        }
    }

    fn acknowledge(&self) {
        self.stream.acknowledge(&self.applied, &BTreeMap::new()).unwrap();
    }

    fn drained(&self) {
        self.stream.acknowledge(&self.applied, &self.applied).unwrap();
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn partitions() -> impl Iterator<Item = Partition> {
    (0..4).map(Partition)
}

#[tokio::test]
async fn class_07_an_ending_is_fenced_when_the_last_verifier_of_every_broker_says_so() {
    let mut watched = Watched::new().await;
    let mut near = watched.verifier("a", "near", false).await;
    let mut far = watched.verifier("b", "far", false).await;
    let (task, revoked) = watched.completed().await;
    loop {
        near.is_fresh().await;
        near.acknowledge();
        let outcome = watched.pending(&revoked).await;
        assert_eq!((outcome.reached, outcome.fenced_at), (WaitFor::Recorded, None));
        if outcome.pending.iter().all(|verifier| verifier.name == "far") {
            break;
        }
    }
    far.hears_of(task).await;
    far.acknowledge();
    let outcome = watched.wait(&revoked, WaitFor::Fenced).await;
    assert_eq!((outcome.reached, outcome.pending), (WaitFor::Fenced, vec![]));
    assert!(outcome.fenced_at.unwrap() < outcome.fenced_at_latest, "only time had passed");
    assert!(outcome.fenced_at.unwrap() >= outcome.recorded_at);
}

#[tokio::test]
async fn class_07_a_silent_verifier_is_named_with_its_latest_time_and_holds_nobody_up_for_longer() {
    let mut watched = Watched::new().await;
    let _silent = watched.verifier("b", "silent", false).await;
    let (_, revoked) = watched.completed().await;
    let outcome = watched.pending(&revoked).await;
    let [pending] = outcome.pending.as_slice() else { panic!("{outcome:?}") };
    assert_eq!((pending.name.as_str(), pending.instance.is_some()), ("silent", true));
    assert!(pending.may_accept_until > outcome.recorded_at);
    assert!(pending.may_accept_until <= outcome.fenced_at_latest);
    watched.clock.push(LAPSE);
    let outcome = watched.wait(&revoked, WaitFor::Fenced).await;
    assert_eq!((outcome.reached, outcome.pending), (WaitFor::Fenced, vec![]));
}

#[tokio::test]
async fn class_07_a_quarantine_is_fenced_when_every_partition_of_it_is_applied() {
    let mut watched = Watched::new().await;
    let mut verifier = watched.verifier("b", "v", false).await;
    let Scene { world, a, operator, .. } = &watched.scene;
    let revoked = a.quarantine(operator, &world.id(), Scope::All, String::new()).await.unwrap();
    verifier.hears_everywhere_of(&Scope::All).await;
    let all_but_one = verifier.applied.clone().into_iter().skip(1).collect();
    verifier.stream.acknowledge(&all_but_one, &BTreeMap::new()).unwrap();
    let outcome = watched.pending(&revoked).await;
    assert_eq!(outcome.reached, WaitFor::Recorded);
    verifier.acknowledge();
    let outcome = watched.wait(&revoked, WaitFor::Fenced).await;
    assert_eq!(outcome.reached, WaitFor::Fenced);
    assert!(outcome.fenced_at.unwrap() < outcome.fenced_at_latest);
}

#[tokio::test]
async fn drained_is_told_when_nothing_runs_and_who_is_waited_for_until_then() {
    let mut watched = Watched::new().await;
    let mut verifier = watched.verifier("b", "api", true).await;
    let (task, revoked) = watched.completed().await;
    verifier.hears_of(task).await;
    verifier.acknowledge();
    let runs = |outcome: &Outcome| !outcome.undrained.is_empty();
    let outcome = watched.glance(&revoked, WaitFor::Drained, runs).await;
    assert_eq!((outcome.reached, outcome.undrained), (WaitFor::Fenced, vec!["api".to_owned()]));
    assert_eq!(outcome.drained_at, None);
    verifier.drained();
    let outcome = watched.wait(&revoked, WaitFor::Drained).await;
    assert_eq!((outcome.reached, outcome.undrained), (WaitFor::Drained, vec![]));
    assert!(outcome.drained_at >= outcome.fenced_at && outcome.drained_at.is_some());
}

#[tokio::test]
async fn a_verifier_that_never_says_makes_drained_unknown_and_never_true() {
    let mut watched = Watched::new().await;
    let mut mute = watched.verifier("b", "mute", false).await;
    let (task, revoked) = watched.completed().await;
    mute.hears_of(task).await;
    mute.acknowledge();
    let outcome = watched.wait(&revoked, WaitFor::Drained).await;
    assert_eq!((outcome.reached, outcome.drained_at), (WaitFor::Fenced, None));
    assert_eq!(outcome.drain_unknown, ["mute"]);
}

#[tokio::test]
async fn class_07_a_replay_at_another_broker_starts_its_wait_anew_from_when_that_learned_of_it() {
    let mut watched = Watched::new().await;
    let mut verifier = watched.verifier("b", "v", false).await;
    let task = watched.scene.begin(spec(&agent_of(0))).await.task.id;
    let Scene { world, a, b, ci, operator, .. } = &watched.scene;
    let (id, all) = (world.id(), world.id());
    let complete = async |broker: &Broker| {
        broker.end(ci, &id, Rpc::CompleteTask, task, String::new()).await.unwrap().1
    };
    let quarantine = async |broker: &Broker| {
        broker.quarantine(operator, &all, Scope::All, String::new()).await.unwrap()
    };
    let first = [complete(a).await, quarantine(a).await];
    let between = Span::from_millis(10);
    watched.clock.push(between);
    let replayed = [complete(b).await, quarantine(b).await];
    for (first, replayed) in first.iter().zip(&replayed) {
        // What was committed may have become durable only now: nobody answered before.
        assert!(replayed.recorded_at >= first.recorded_at.plus(between));
    }
    for revoked in &replayed {
        let outcome = watched.pending(revoked).await;
        assert_eq!(outcome.reached, WaitFor::Recorded);
    }
    verifier.hears_everywhere_of(&Scope::All).await;
    verifier.acknowledge();
    for revoked in &replayed {
        let outcome = b.enforced(revoked, WaitFor::Fenced, None, LONG).await;
        assert_eq!(outcome.reached, WaitFor::Fenced);
        assert!(outcome.fenced_at.unwrap() < outcome.fenced_at_latest);
    }
}

#[tokio::test]
async fn class_07_what_the_sweeper_ends_is_told_to_verifiers_like_everything_else() {
    let mut watched = Watched::new().await;
    let mut verifier = watched.verifier("b", "v", false).await;
    let deadline = Deadline::After(Span::from_seconds(1));
    let spec = TaskSpec { deadline, ..spec(&agent_of(0)) };
    let task = watched.scene.begin(spec).await.task.id;
    watched.scene.forward(5).await;
    watched.scene.a.sweep().await.unwrap();
    verifier.hears_of(task).await;
}

#[tokio::test]
async fn class_07_a_quarantine_whose_writer_died_is_written_and_told_in_every_partition() {
    let mut watched = Watched::new().await;
    let mut verifier = watched.verifier("b", "v", false).await;
    let scope = Scope::parse("class:finance").unwrap();
    // All that its writer came to.
    let entries =
        vec![Entry::Block(scope.clone(), 1), Entry::Watermark(scope.clone(), Origin::default())];
    let event = Event { entries, ..Event::of_broker(7, EventKind::Quarantined, "") };
    let mut commit = Commit::new(Partition(2), Lane::Ending);
    commit.event = Some(event);
    watched.scene.world.store.store.commit(commit).await.unwrap();
    // The first sweep leaves it to its writer, who may be at work.
    watched.scene.b.sweep().await.unwrap();
    watched.scene.b.sweep().await.unwrap();
    verifier.hears_everywhere_of(&scope).await;
}

#[tokio::test]
async fn class_06_every_kind_of_scope_is_told_to_verifiers_in_every_partition() {
    let mut watched = Watched::new().await;
    let mut verifier = watched.verifier("b", "v", false).await;
    let agent = format!("principal:{}", agent_of(1));
    let batch = format!("principal:{BATCH}");
    for text in [
        &agent,
        &batch,
        "class:finance",
        "orchestrator:ci",
        "issuer:k8s",
        "td:lab.example",
        "key:0123",
        "tier:standard",
        "all",
    ] {
        let scope = Scope::parse(text).unwrap();
        let Scene { world, a, operator, .. } = &watched.scene;
        let done = a.quarantine(operator, &world.id(), scope.clone(), String::new()).await;
        done.unwrap();
        verifier.hears_everywhere_of(&scope).await;
    }
}
