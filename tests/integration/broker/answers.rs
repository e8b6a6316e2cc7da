//! RECORDED, FENCED, DRAINED: two brokers over one store, each with its feed, and verifiers that say what they applied, are silent,
//! or are gone.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use leasehold::broker::access::Rpc;
use leasehold::broker::error::BrokerError;
use leasehold::broker::request::{Deadline, TaskSpec};
use leasehold::domain::event::{Event, EventKind};
use leasehold::domain::lattice::Entry;
use leasehold::domain::path::Origin;
use leasehold::domain::scope::Scope;
use leasehold::domain::time::Span;
use leasehold::feed::{Outcome, WaitFor};
use leasehold::store::{Commit, Lane};
use leasehold::testing::clock::TestClock;
use leasehold::testing::model::ModelStore;
use leasehold::testing::store_contract::{Fixture, constants};
use leasehold::testing::world::{BATCH, World};

use tokio_util::task::TaskTracker;

use super::scene::{Scene, agent_of, spec, token};
use super::stores::over_every_store;
use super::watched::{ENDINGS, LAPSE, Target, Watched, names, partitions};

const LONG: Span = Span::from_seconds(600);

over_every_store! {
    class_07_every_ending_is_fenced_when_the_last_verifier_of_every_broker_says_so,
    class_07_every_ending_that_is_repeated_elsewhere_waits_anew_from_when_that_learned_of_it,
    class_07_a_silent_verifier_is_named_with_its_latest_time_and_holds_nobody_up_for_longer,
    class_07_a_verifier_that_was_killed_is_waited_for_until_it_has_lapsed_and_drained_is_unknown,
    class_07_a_quarantine_is_fenced_when_every_partition_of_it_is_applied,
    drained_is_told_when_nothing_runs_and_who_is_waited_for_until_then,
    class_07_drained_is_not_known_late_of_a_verifier_that_has_lapsed,
    a_verifier_that_never_says_makes_drained_unknown_and_never_true,
    class_07_a_quarantine_whose_writer_died_is_written_and_told_in_every_partition,
}

async fn class_07_every_ending_is_fenced_when_the_last_verifier_of_every_broker_says_so(
    scene: Scene,
) {
    let mut watched = Watched::over(scene).await;
    let mut near = watched.verifier("a", "near", false).await;
    let mut far = watched.verifier("b", "far", false).await;
    for rpc in ENDINGS {
        let target = watched.target(rpc).await;
        let id = watched.scene.world.id();
        let revoked = watched.ends(&watched.scene.a, &id, rpc, &target).await;
        let recorded = watched.wait(&revoked, WaitFor::Recorded).await;
        assert_eq!((recorded.reached, recorded.fenced_at), (WaitFor::Recorded, None), "{rpc:?}");
        near.applies(&watched.scene, &target).await;
        near.acknowledge();
        let only_far = |outcome: &Outcome| names(outcome) == ["far"].into();
        let outcome = watched.glance(&revoked, WaitFor::Fenced, only_far).await;
        assert_eq!((outcome.reached, outcome.fenced_at), (WaitFor::Recorded, None), "{rpc:?}");
        // Having heard of it is not having said so.
        far.applies(&watched.scene, &target).await;
        assert_eq!(watched.pending(&revoked).await.reached, WaitFor::Recorded, "{rpc:?}");
        far.acknowledge();
        let outcome = watched.wait(&revoked, WaitFor::Fenced).await;
        assert_eq!((outcome.reached, &outcome.pending), (WaitFor::Fenced, &vec![]), "{rpc:?}");
        assert!(outcome.fenced_at.unwrap() < outcome.fenced_at_latest, "only time had passed");
        assert!(outcome.fenced_at.unwrap() >= outcome.recorded_at);
    }
}

async fn class_07_every_ending_that_is_repeated_elsewhere_waits_anew_from_when_that_learned_of_it(
    scene: Scene,
) {
    let mut watched = Watched::over(scene).await;
    let mut verifier = watched.verifier("b", "v", false).await;
    let mut repeated = Vec::new();
    for rpc in ENDINGS {
        let (target, id) = (watched.target(rpc).await, watched.scene.world.id());
        let first = watched.ends(&watched.scene.a, &id, rpc, &target).await;
        let between = Span::from_millis(10);
        watched.clock.push(between);
        let again = watched.ends(&watched.scene.b, &id, rpc, &target).await;
        // What was committed may have become durable only now: nobody answered before.
        assert!(again.recorded_at >= first.recorded_at.plus(between), "{rpc:?}");
        let outcome = watched.pending(&again).await;
        assert_eq!(outcome.reached, WaitFor::Recorded, "{rpc:?}");
        repeated.push((rpc, target, again));
    }
    for (_, target, _) in &repeated {
        verifier.applies(&watched.scene, target).await;
    }
    verifier.acknowledge();
    for (rpc, _, again) in &repeated {
        let outcome = watched.scene.b.enforced(again, WaitFor::Fenced, None, LONG).await;
        assert_eq!(outcome.reached, WaitFor::Fenced, "{rpc:?}");
        assert!(outcome.fenced_at.unwrap() < outcome.fenced_at_latest, "{rpc:?}");
    }
}

async fn class_07_a_silent_verifier_is_named_with_its_latest_time_and_holds_nobody_up_for_longer(
    scene: Scene,
) {
    let mut watched = Watched::over(scene).await;
    let _silent = watched.verifier("b", "silent", false).await;
    let (_, revoked) = watched.completed().await;
    let outcome = watched.pending(&revoked).await;
    let [pending] = outcome.pending.as_slice() else { panic!("{outcome:?}") };
    assert_eq!((pending.name.as_str(), pending.instance.is_some()), ("silent", true));
    assert_eq!(outcome.fenced_at, None);
    assert!(pending.may_accept_until <= outcome.fenced_at_latest);
    watched.clock.push(LAPSE);
    let outcome = watched.wait(&revoked, WaitFor::Fenced).await;
    assert_eq!((outcome.reached, outcome.pending), (WaitFor::Fenced, vec![]));
}

async fn class_07_a_verifier_that_was_killed_is_waited_for_until_it_has_lapsed_and_drained_is_unknown(
    scene: Scene,
) {
    let mut watched = Watched::over(scene).await;
    let mut other = watched.verifier("a", "other", true).await;
    drop(watched.verifier("b", "killed", true).await);
    let (target, revoked) = watched.completed().await;
    other.applies(&watched.scene, &target).await;
    other.drained();
    let only_it = |outcome: &Outcome| names(outcome) == ["killed"].into();
    let outcome = watched.glance(&revoked, WaitFor::Fenced, only_it).await;
    assert_eq!((outcome.reached, outcome.fenced_at), (WaitFor::Recorded, None));
    let waiting = watched.wait(&revoked, WaitFor::Drained);
    let lapsing = async {
        // The wait has begun: it has seen a registry with the verifier in it.
        watched.glance(&revoked, WaitFor::Drained, only_it).await;
        watched.clock.push(LAPSE);
    };
    let (outcome, ()) = tokio::join!(waiting, lapsing);
    assert_eq!((outcome.reached, outcome.drained_at), (WaitFor::Fenced, None), "{outcome:?}");
    assert!(outcome.fenced_at.is_some());
    assert_eq!(outcome.drain_unknown, ["killed"]);
}

/// The same request again, when the registry no longer has who let something in before the first answer.
async fn class_07_drained_is_not_known_late_of_a_verifier_that_has_lapsed(scene: Scene) {
    let mut watched = Watched::over(scene).await;
    let mut other = watched.verifier("a", "other", true).await;
    let mut killed = watched.verifier("b", "killed", true).await;
    // The broker has looked for longer than clocks can run apart in what follows.
    watched.scene.a.feed().registry().changed().await.unwrap();
    watched.clock.push(Span::from_seconds(3));
    let target = watched.target(Rpc::CompleteTask).await;
    let id = watched.scene.world.id();
    let first = watched.ends(&watched.scene.a, &id, Rpc::CompleteTask, &target).await;
    for verifier in [&mut other, &mut killed] {
        verifier.applies(&watched.scene, &target).await;
        verifier.acknowledge();
    }
    other.drained();
    let runs = |outcome: &Outcome| outcome.undrained == ["killed"];
    watched.glance(&first, WaitFor::Drained, runs).await;
    drop(killed);
    let is_listed = || {
        let listed = watched.scene.a.feed().brokers().unwrap();
        let mut verifiers = listed.records.iter().flat_map(|record| &record.verifiers);
        verifiers.any(|verifier| verifier.name == "killed")
    };
    while is_listed() {
        watched.pass(Span::from_seconds(3), &mut other, &first).await;
    }
    let late = watched.ends(&watched.scene.a, &id, Rpc::CompleteTask, &target).await;
    let outcome = watched.wait(&late, WaitFor::Drained).await;
    assert_eq!((outcome.reached, outcome.drained_at), (WaitFor::Fenced, None), "{outcome:?}");
    assert_eq!(outcome.drain_unknown, ["killed"]);
    // Another broker began to look after that.
    let young = watched.another().await;
    let late = watched.ends(&young, &id, Rpc::CompleteTask, &target).await;
    watched.clock.push(LAPSE);
    let outcome = young.enforced(&late, WaitFor::Drained, Some(LONG), LONG).await;
    assert_eq!(outcome.drained_at, None, "{outcome:?}");
    assert_eq!(outcome.drain_unknown, ["(verifiers that this broker does not know of)"]);
}

async fn class_07_a_quarantine_is_fenced_when_every_partition_of_it_is_applied(scene: Scene) {
    let mut watched = Watched::over(scene).await;
    let mut verifier = watched.verifier("b", "v", false).await;
    let Scene { world, a, operator, .. } = &watched.scene;
    let revoked = a.quarantine(operator, &world.id(), Scope::All, String::new()).await.unwrap();
    verifier.applies(&watched.scene, &Target::Scope(Scope::All)).await;
    for partition in partitions() {
        let outcome = watched.pending(&revoked).await;
        assert_eq!(outcome.reached, WaitFor::Recorded, "without partition {partition}");
        let applied = [(partition, verifier.applied[&partition])].into();
        verifier.stream.acknowledge(&applied, &BTreeMap::new()).unwrap();
    }
    let outcome = watched.wait(&revoked, WaitFor::Fenced).await;
    assert_eq!(outcome.reached, WaitFor::Fenced);
    assert!(outcome.fenced_at.unwrap() < outcome.fenced_at_latest);
}

async fn drained_is_told_when_nothing_runs_and_who_is_waited_for_until_then(scene: Scene) {
    let mut watched = Watched::over(scene).await;
    let mut verifier = watched.verifier("b", "api", true).await;
    let (target, revoked) = watched.completed().await;
    verifier.applies(&watched.scene, &target).await;
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

async fn a_verifier_that_never_says_makes_drained_unknown_and_never_true(scene: Scene) {
    let mut watched = Watched::over(scene).await;
    let mut mute = watched.verifier("b", "mute", false).await;
    let (target, revoked) = watched.completed().await;
    mute.applies(&watched.scene, &target).await;
    mute.acknowledge();
    let outcome = watched.wait(&revoked, WaitFor::Drained).await;
    assert_eq!((outcome.reached, outcome.drained_at), (WaitFor::Fenced, None));
    assert_eq!(outcome.drain_unknown, ["mute"]);
}

#[tokio::test]
async fn operators_see_every_broker_of_the_store_its_verifiers_and_who_is_behind() {
    let mut watched = Watched::new().await;
    let mut near = watched.verifier("a", "near", false).await;
    let _far = watched.verifier("b", "far", false).await;
    let (target, _) = watched.completed().await;
    near.hears_of(&target).await;
    near.acknowledge();
    let Scene { a, b, operator, .. } = &watched.scene;
    let [of_a, of_b] = [a, b].map(|broker| broker.feed().settings().identity.instance);
    loop {
        let status = a.status(operator).await.unwrap();
        assert_eq!((status.instance, status.brokers.len()), (of_a, 2));
        let mut seen = Vec::new();
        for (broker, _) in &status.brokers {
            seen.extend(
                broker
                    .verifiers
                    .iter()
                    .map(|v| (broker.instance, v.name.as_str(), v.connected, !v.behind.is_empty())),
            );
        }
        seen.sort_unstable_by_key(|(_, name, ..)| *name);
        // Each broker writes it with its next beat.
        if seen == [(of_b, "far", true, true), (of_a, "near", true, false)] {
            break;
        }
        tokio::task::yield_now().await;
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
    verifier.hears_of(&Target::Task(task)).await;
}

async fn class_07_a_quarantine_whose_writer_died_is_written_and_told_in_every_partition(
    scene: Scene,
) {
    let mut watched = Watched::over(scene).await;
    let mut verifier = watched.verifier("b", "v", false).await;
    let scope = Scope::parse("class:finance").unwrap();
    // All that its writer came to.
    let entries =
        vec![Entry::Block(scope.clone(), 1), Entry::Watermark(scope.clone(), Origin::default())];
    let event = Event { entries, ..Event::of_broker(7, EventKind::Quarantined, "") };
    let mut commit = Commit::new(partitions().nth(2).unwrap(), Lane::Ending);
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

/// Between a quarantine and its replay it was lifted, something was issued, and the store restarted.
#[tokio::test]
async fn class_06_a_quarantine_that_is_repeated_in_another_incarnation_kills_nothing_that_came_after_it()
 {
    let clock = Arc::new(TestClock::default());
    let store = Arc::new(ModelStore::new(clock.clone(), constants()));
    let scene = Scene::of(World::over(Fixture::of(store.clone(), ()), clock).await);
    let mut watched = Watched::over(scene).await;
    let mut verifier = watched.verifier("b", "v", false).await;
    let scope = Scope::parse("class:finance").unwrap();
    let (target, id) = (Target::Scope(scope.clone()), watched.scene.world.id());
    let Scene { world, a, b, operator, .. } = &watched.scene;
    watched.ends(a, &id, Rpc::Quarantine, &target).await;
    verifier.hears_everywhere_of(&scope).await;
    let marks = verifier.marks(&scope);
    a.lift_quarantine(operator, &world.id(), scope.clone(), String::new()).await.unwrap();
    let (agent, task) = (agent_of(0), watched.scene.begin(spec(&agent_of(0))).await.task.id);
    let issued = a.issue(&world.caller(&agent), &world.id(), token(task)).await.unwrap();
    let origin = issued.lease.lease.origin;
    store.restart();
    watched.ends(b, &id, Rpc::Quarantine, &target).await;
    verifier.is_fresh().await;
    assert!(verifier.applied[&task.partition()].incarnation > origin.incarnation);
    assert_eq!(verifier.marks(&scope), marks, "told as it was made, and not as if it were new");
    assert!(marks[&task.partition()] < origin, "so what came after it lives on");
}

/// Nobody would wait for its verifiers.
#[tokio::test]
async fn rule_02_a_broker_answers_no_mutation_before_its_registration_is_confirmed() {
    let scene = Scene::on_model().await;
    let caller = |rpc| scene.a.caller(scene.operator.identity().clone(), rpc).map(drop);
    let shown = || scene.a.stranger(Ipv4Addr::LOCALHOST.into()).map(drop);
    assert!(matches!(shown(), Err(BrokerError::Unregistered)));
    let mutations = || ENDINGS.into_iter().chain([Rpc::BeginTask, Rpc::IssueCredential]);
    for rpc in mutations() {
        assert!(matches!(caller(rpc), Err(BrokerError::Unregistered)), "{rpc:?}");
    }
    for rpc in [Rpc::GetTask, Rpc::IntrospectCredential, Rpc::WatchRevocations] {
        assert!(caller(rpc).is_ok(), "{rpc:?}");
    }
    scene.a.feed().spawn(&TaskTracker::new());
    scene.a.feed().registered().await;
    for rpc in mutations() {
        assert!(caller(rpc).is_ok(), "{rpc:?}");
    }
    assert!(shown().is_ok());
}
