//! The kill switch: each kind of scope kills what it reaches and blocks issuing for it, everywhere, until it is lifted.

use arc_swap::ArcSwap;
use leasehold::broker::access::{Caller, Rpc};
use leasehold::broker::error::BrokerError;
use leasehold::broker::request::{CredentialRequest, IssueRequest, TaskSpec, TokenProof};
use leasehold::broker::{AdvanceRequest, Broker, Parts, Presented, TaskView};
use leasehold::domain::event::EventKind;
use leasehold::domain::id::TaskId;
use leasehold::domain::lattice::Entry;
use leasehold::domain::path::Origin;
use leasehold::domain::scope::Scope;
use leasehold::domain::task::Agent;
use leasehold::domain::time::{Span, Stamp};
use leasehold::keys::SharedKeys;
use leasehold::store::{Entries, Query};
use leasehold::testing::keys::keys;
use leasehold::testing::world::{BATCH, CD, CI, CI_TOO, RESEARCH, settings};

use super::endings::unchanged;
use super::scene::{Level, ParseName, Scene, Shown, agent_of, new_csr, reason, spec, token};
use super::stores::over_every_store;

over_every_store! {
    class_06_a_quarantine_is_a_block_and_a_watermark_in_every_partition,
    class_06_quarantine_of_an_agent_reaches_its_task_and_all_below,
    class_06_quarantine_of_a_class_reaches_its_tasks_alone,
    class_06_quarantine_of_an_orchestrator_entry_reaches_its_tasks_alone,
    class_06_quarantine_of_a_trust_domain_reaches_its_agents_alone,
    class_06_quarantine_of_an_issuer_reaches_its_agents_alone,
    class_06_quarantine_of_a_tier_reaches_its_tasks_alone,
    class_06_quarantine_of_a_signing_key_reaches_what_it_signed_alone,
    class_06_quarantine_of_the_ca_stops_tokens_that_come_with_a_certificate,
    class_06_quarantine_of_everything_leaves_nothing,
    class_06_lifting_lets_issuing_go_on_and_revives_nothing,
    class_07_two_scopes_that_overlap_are_their_union,
    class_06_quarantine_of_a_driver_s_principal_stops_that_driver_alone,
    class_06_quarantine_of_a_driver_s_trust_domain_or_issuer_stops_it_wherever_its_agents_are,
    class_06_quarantine_of_an_orchestrator_entry_stops_all_its_drivers,
    class_06_a_task_is_not_handed_over_to_a_quarantined_agent_but_away_from_one,
}

async fn quarantine(scene: &Scene, scope: &str) {
    let (id, scope) = (scene.world.id(), Scope::parse(scope).unwrap());
    scene.a.quarantine(&scene.operator, &id, scope, "leaked".to_owned()).await.unwrap();
}

async fn lift(scene: &Scene, scope: &str) {
    let (id, scope) = (scene.world.id(), Scope::parse(scope).unwrap());
    scene.a.lift_quarantine(&scene.operator, &id, scope, "found".to_owned()).await.unwrap();
}

/// A task of the class `research`, in another trust domain.
async fn research(scene: &Scene) -> Level {
    let task = scene.begin(spec(RESEARCH)).await.task.id;
    scene.held_level(task, scene.world.caller(RESEARCH)).await
}

async fn class_06_quarantine_of_an_agent_reaches_its_task_and_all_below(scene: Scene) {
    let tree = scene.tree().await;
    quarantine(&scene, &format!("principal:{}", agent_of(1))).await;
    for below in &tree[1..] {
        scene.must_be_over(below).await;
        let issued = scene.issue(&below.agent, below.task).await;
        assert_eq!(reason(issued), "QUARANTINED");
    }
    scene.must_go_on(&tree[0]).await;
    // Nor does it get new tasks.
    let begun = scene.a.begin(&scene.ci, &scene.world.id(), spec(&agent_of(1))).await;
    assert_eq!(reason(begun), "QUARANTINED");
    let delegated = scene.delegate(tree[0].task, spec(&agent_of(1))).await;
    assert_eq!(reason(delegated), "QUARANTINED");
}

async fn class_06_quarantine_of_a_class_reaches_its_tasks_alone(scene: Scene) {
    let (tree, other) = (scene.tree().await, research(&scene).await);
    quarantine(&scene, "class:finance").await;
    must_be_over(&scene, &tree).await;
    scene.must_go_on(&other).await;
}

async fn class_06_quarantine_of_an_orchestrator_entry_reaches_its_tasks_alone(scene: Scene) {
    let cd = scene.world.caller(CD);
    let begun = scene.a.begin(&cd, &scene.world.id(), spec(&agent_of(0))).await.unwrap();
    let other = scene.held_level(begun.task.id, scene.world.caller(&agent_of(0))).await;
    let tree = scene.tree().await;
    quarantine(&scene, "orchestrator:ci").await;
    must_be_over(&scene, &tree).await;
    scene.must_go_on(&other).await;
}

async fn class_06_quarantine_of_a_trust_domain_reaches_its_agents_alone(scene: Scene) {
    let (tree, other) = (scene.tree().await, research(&scene).await);
    quarantine(&scene, "td:prod.example").await;
    must_be_over(&scene, &tree).await;
    scene.must_go_on(&other).await;
}

async fn class_06_quarantine_of_an_issuer_reaches_its_agents_alone(scene: Scene) {
    let task = scene.begin(spec(BATCH)).await.task.id;
    let batch = scene.held_level(task, scene.world.pod("a").await).await;
    let tree = scene.tree().await;
    quarantine(&scene, "issuer:k8s").await;
    scene.must_be_over(&batch).await;
    scene.must_go_on(&tree[3]).await;
}

async fn class_06_quarantine_of_a_tier_reaches_its_tasks_alone(scene: Scene) {
    let tree = scene.tree().await;
    let critical = TaskSpec { tier: Some("critical".parse_name()), ..spec(&agent_of(0)) };
    let other = scene.begin(critical).await.task.id;
    let other = scene.held_level(other, scene.world.caller(&agent_of(0))).await;
    quarantine(&scene, "tier:standard").await;
    must_be_over(&scene, &tree).await;
    scene.must_go_on(&other).await;
}

async fn class_06_quarantine_of_a_signing_key_reaches_what_it_signed_alone(scene: Scene) {
    let mut tree = scene.tree().await;
    let is_token = |shown: &Shown| matches!(shown, Shown::Token(_));
    let now = scene.a.now();
    let kid = scene.a.keys().access_token_key(now).unwrap().key().kid().to_owned();
    quarantine(&scene, &format!("key:{kid}")).await;
    for level in &mut tree {
        for broker in [&scene.b, &scene.a] {
            for held in &level.held {
                let alive = !is_token(&held.shown);
                assert_eq!(scene.is_active(broker, held).await, alive);
                let renewed = scene.renew_at(broker, &level.agent, held).await;
                assert_eq!(renewed.is_ok(), alive);
            }
            let issued = scene.issue(&level.agent, level.task).await;
            assert_eq!(reason(issued), "QUARANTINED");
        }
        level.held.retain(|held| !is_token(&held.shown));
    }
    let ski = scene.a.keys().authority(now).unwrap().key_id().to_owned();
    quarantine(&scene, &format!("key:{ski}")).await;
    must_be_over(&scene, &tree).await;
}

async fn class_06_quarantine_of_the_ca_stops_tokens_that_come_with_a_certificate(scene: Scene) {
    let agent = scene.world.caller(&agent_of(0));
    let plain = token(scene.begin(spec(&agent_of(0))).await.task.id);
    let credential = CredentialRequest::AccessToken(TokenProof::Csr(new_csr()));
    let with_certificate = IssueRequest { credential, ..plain.clone() };
    scene.issue_at(&scene.b, &agent, with_certificate.clone()).await.unwrap();
    let ski = scene.a.keys().authority(scene.a.now()).unwrap().key_id().to_owned();
    quarantine(&scene, &format!("key:{ski}")).await;
    scene.issue_at(&scene.b, &agent, plain).await.unwrap();
    let refused = scene.issue_at(&scene.b, &agent, with_certificate).await;
    assert_eq!(reason(refused), "QUARANTINED");
}

async fn class_06_quarantine_of_everything_leaves_nothing(scene: Scene) {
    let (mut all, other) = (scene.tree().await, research(&scene).await);
    all.push(other);
    quarantine(&scene, "all").await;
    must_be_over(&scene, &all).await;
    let begun = scene.b.begin(&scene.ci, &scene.world.id(), spec(&agent_of(0))).await;
    assert_eq!(reason(begun), "QUARANTINED");
    assert_eq!(scene.b.status(&scene.operator).await.unwrap().quarantined_scopes, ["all"]);
}

async fn class_06_lifting_lets_issuing_go_on_and_revives_nothing(scene: Scene) {
    let tree = scene.tree().await;
    for _ in 0..2 {
        quarantine(&scene, "class:finance").await;
    }
    lift(&scene, "class:finance").await;
    for level in &tree {
        for broker in [&scene.b, &scene.a] {
            scene.must_be_dead(broker, level).await;
            scene.must_issue(broker, level).await;
        }
    }
    let since = scene.tree().await;
    lift(&scene, "class:finance").await;
    scene.must_go_on(&since[3]).await;
    quarantine(&scene, "class:finance").await;
    must_be_over(&scene, &since).await;
}

async fn class_07_two_scopes_that_overlap_are_their_union(scene: Scene) {
    let tree = scene.tree().await;
    quarantine(&scene, "class:finance").await;
    quarantine(&scene, "td:prod.example").await;
    lift(&scene, "td:prod.example").await;
    must_be_over(&scene, &tree).await;
    quarantine(&scene, "td:prod.example").await;
    lift(&scene, "class:finance").await;
    must_be_over(&scene, &tree).await;
}

/// A task that waits for heartbeats, one that is suspended, and one whose agent holds it, all in epochs that are told.
struct Driven {
    beating: TaskId,
    suspended: TaskId,
    held: TaskId,
}

async fn driven(scene: &Scene) -> Driven {
    driven_by(scene, &scene.ci).await
}

async fn driven_by(scene: &Scene, driver: &Caller) -> Driven {
    let begin = async |spec| scene.a.begin(driver, &scene.world.id(), spec).await.unwrap().task.id;
    let beating = TaskSpec { heartbeat: Some(Span::from_seconds(600)), ..spec(RESEARCH) };
    let (beating, suspended) = (begin(beating).await, begin(spec(RESEARCH)).await);
    scene.a.suspend(driver, &scene.world.id(), suspended, String::new()).await.unwrap();
    Driven { beating, suspended, held: begin(spec(RESEARCH)).await }
}

/// Why a caller cannot do what only somebody in good standing may: begin, delegate, advance, resume, heartbeat.
async fn refusals(scene: &Scene, driver: &Caller, tasks: &Driven) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    let outcome =
        |result: Result<TaskView, BrokerError>| result.err().map(|e| reason::<()>(Err(e)));
    for broker in [&scene.a, &scene.b] {
        let epochs = (scene.epoch(tasks.held).await, scene.epoch(tasks.suspended).await);
        let id = || scene.world.id();
        reasons.push(outcome(broker.begin(driver, &id(), spec(RESEARCH)).await));
        let child = broker.delegate(driver, &id(), tasks.held, epochs.0, spec(RESEARCH)).await;
        reasons.push(outcome(child));
        let advanced = broker.advance(driver, &id(), tasks.held, unchanged(epochs.0)).await;
        reasons.push(outcome(advanced.map(|(view, _)| view)));
        reasons.push(outcome(broker.resume(driver, &id(), tasks.suspended, epochs.1).await));
        reasons.push(outcome(broker.heartbeat(driver, &id(), tasks.beating).await));
    }
    reasons.into_iter().flatten().collect()
}

/// What only takes something away stays possible, whoever asks.
async fn must_end(scene: &Scene, driver: &Caller, tasks: &Driven) {
    let id = || scene.world.id();
    scene.a.suspend(driver, &id(), tasks.held, String::new()).await.unwrap();
    for (task, rpc) in [
        (tasks.held, Rpc::CompleteTask),
        (tasks.suspended, Rpc::CancelTask),
        (tasks.beating, Rpc::FailTask),
    ] {
        scene.b.end(driver, &id(), rpc, task, String::new()).await.unwrap();
    }
}

async fn class_06_quarantine_of_a_driver_s_principal_stops_that_driver_alone(scene: Scene) {
    let (tasks, research) = (driven(&scene).await, research(&scene).await);
    let too = scene.world.caller(CI_TOO);
    quarantine(&scene, &format!("principal:{CI}")).await;
    assert_eq!(refusals(&scene, &scene.ci, &tasks).await, ["QUARANTINED"; 10]);
    scene.must_go_on(&research).await;
    assert_eq!(refusals(&scene, &too, &tasks).await, [""; 0]);
    must_end(&scene, &scene.ci, &driven_by(&scene, &too).await).await;
    lift(&scene, &format!("principal:{CI}")).await;
    assert_eq!(refusals(&scene, &scene.ci, &tasks).await, [""; 0]);
}

async fn class_06_quarantine_of_a_driver_s_trust_domain_or_issuer_stops_it_wherever_its_agents_are(
    scene: Scene,
) {
    let (tasks, research) = (driven(&scene).await, research(&scene).await);
    quarantine(&scene, "issuer:k8s").await;
    assert_eq!(refusals(&scene, &scene.ci, &tasks).await, [""; 0]);
    quarantine(&scene, "td:prod.example").await;
    assert_eq!(refusals(&scene, &scene.ci, &tasks).await, ["QUARANTINED"; 10]);
    scene.must_go_on(&research).await;
    must_end(&scene, &scene.ci, &tasks).await;
    // Nobody locks out who holds the key: operators of that very trust domain lift it.
    lift(&scene, "td:prod.example").await;
    scene.begin(spec(RESEARCH)).await;
}

async fn class_06_quarantine_of_an_orchestrator_entry_stops_all_its_drivers(scene: Scene) {
    let tasks = driven(&scene).await;
    quarantine(&scene, "orchestrator:ci").await;
    for driver in [CI, CI_TOO] {
        let driver = scene.world.caller(driver);
        assert_eq!(refusals(&scene, &driver, &tasks).await, ["QUARANTINED"; 10]);
    }
    must_end(&scene, &scene.ci, &tasks).await;
}

async fn class_06_a_task_is_not_handed_over_to_a_quarantined_agent_but_away_from_one(scene: Scene) {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let hand_over = async |epoch, agent: &str| {
        let agent = Agent::parse(agent);
        let request = AdvanceRequest { agent, ..unchanged(epoch) };
        scene.b.advance(&scene.ci, &scene.world.id(), task, request).await
    };
    quarantine(&scene, &format!("principal:{}", agent_of(1))).await;
    quarantine(&scene, "class:research").await;
    for agent in [&agent_of(1), RESEARCH, "class:research"] {
        assert_eq!(reason(hand_over(1, agent).await), "QUARANTINED", "{agent}");
    }
    quarantine(&scene, &format!("principal:{}", agent_of(0))).await;
    hand_over(1, &agent_of(2)).await.unwrap();
    scene.issue(&scene.world.caller(&agent_of(2)), task).await.unwrap();
}

async fn must_be_over(scene: &Scene, levels: &[Level]) {
    for level in levels {
        scene.must_be_over(level).await;
    }
}

/// An agent that was pinned to a pattern's task counts as its agent for those below.
#[tokio::test]
async fn class_06_quarantine_reaches_below_an_agent_that_took_a_pattern_s_task() {
    let scene = Scene::on_model().await;
    let taker = scene.world.caller("spiffe://prod.example/agents/finance/taker");
    let root = scene.begin(spec("spiffe://prod.example/agents/finance/*")).await.task.id;
    scene.issue(&taker, root).await.unwrap();
    let child = scene.delegate(root, spec(&agent_of(1))).await.unwrap().task.id;
    let child = scene.held_level(child, scene.world.caller(&agent_of(1))).await;
    quarantine(&scene, &format!("principal:{}", taker.identity().principal())).await;
    scene.must_be_over(&child).await;
}

/// Of the agents of a pattern's task, the one that delegated is the child's: whether it ever held a credential itself or not,
/// and whoever was there before it.
#[tokio::test]
async fn class_06_quarantine_of_one_agent_of_a_pattern_reaches_what_that_one_delegated() {
    let scene = Scene::on_model().await;
    let [first, second, third] = [1, 2, 3].map(|n| scene.world.caller(&agent_of(n)));
    let root = scene.begin(spec("spiffe://prod.example/agents/finance/*")).await.task.id;
    for agent in [&first, &second] {
        scene.issue(agent, root).await.unwrap();
    }
    let mut children = Vec::new();
    for delegator in [&first, &second, &third] {
        let id = scene.world.id();
        let child = scene.a.delegate(delegator, &id, root, 1, spec(RESEARCH)).await.unwrap();
        let child = scene.held_level(child.task.id, scene.world.caller(RESEARCH)).await;
        let below = scene.delegate(child.task, spec(&agent_of(9))).await.unwrap().task.id;
        children.push((child, scene.held_level(below, scene.world.caller(&agent_of(9))).await));
    }
    let lease = scene.a.get_lease(&scene.operator, children[1].0.held[0].lease).await.unwrap();
    let actors: Vec<_> = lease.lease.draft.actors.iter().map(|actor| actor.as_str()).collect();
    assert_eq!(actors, [RESEARCH, agent_of(2).as_str()], "who delegated is who acted");
    for (n, delegator) in [&second, &third].into_iter().enumerate() {
        quarantine(&scene, &format!("principal:{}", delegator.identity().principal())).await;
        let (child, below) = &children[n + 1];
        scene.must_be_over(child).await;
        scene.must_be_over(below).await;
        let id = scene.world.id();
        let again = scene.b.delegate(&scene.ci, &id, child.task, 1, spec(RESEARCH)).await;
        assert_eq!(reason(again), "QUARANTINED", "nor is anything begun below");
    }
    scene.must_go_on(&children[0].0).await;
    scene.must_go_on(&children[0].1).await;
    // Whoever may not begin anything any more may still end what it began.
    let (id, child) = (scene.world.id(), children[1].0.task);
    scene.a.end(&second, &id, Rpc::CancelTask, child, String::new()).await.unwrap();
}

/// What an orchestrator delegated hangs on all agents that the parent has by then.
#[tokio::test]
async fn class_06_quarantine_of_any_agent_of_a_pattern_reaches_what_the_orchestrator_delegated() {
    let scene = Scene::on_model().await;
    let agents = [1, 2].map(|n| scene.world.caller(&agent_of(n)));
    let root = scene.begin(spec("spiffe://prod.example/agents/finance/*")).await.task.id;
    for agent in &agents {
        scene.issue(agent, root).await.unwrap();
    }
    let child = scene.delegate(root, spec(RESEARCH)).await.unwrap().task.id;
    let child = scene.held_level(child, scene.world.caller(RESEARCH)).await;
    quarantine(&scene, &format!("principal:{}", agent_of(2))).await;
    scene.must_be_over(&child).await;
}

/// A key that signs no more can be found to have leaked: what it signed is not renewed under its successor.
#[tokio::test]
async fn class_06_quarantine_of_a_replaced_key_reaches_the_leases_that_it_signed() {
    let scene = Scene::on_model().await;
    let level = research(&scene).await;
    let old = scene.a.keys().access_token_key(scene.a.now()).unwrap().key().kid().to_owned();
    let keys = SharedKeys::new(ArcSwap::from_pointee(keys(scene.a.now()).await));
    let successor = Broker::new(Parts { keys, ..scene.world.parts() }, settings());
    quarantine(&scene, &format!("key:{old}")).await;
    let renewed = scene.renew_at(&successor, &level.agent, &level.held[0]).await;
    assert_eq!(reason(renewed), "QUARANTINED");
    scene.issue_at(&successor, &level.agent, token(level.task)).await.unwrap();
}

/// A second broker that never heard of the quarantine: it asks the store.
#[tokio::test]
async fn class_06_a_broker_that_starts_after_the_quarantine_refuses_too() {
    let scene = Scene::on_model().await;
    let tree = scene.tree().await;
    quarantine(&scene, "class:finance").await;
    let fresh = scene.world.broker();
    must_be_dead_at(&scene, &fresh, tree[0].task, &tree[0].agent).await;
    let Shown::Token(token) = &tree[0].held[0].shown else { panic!("no token") };
    let shown = fresh.introspect(&scene.operator, Presented::Token(token)).await.unwrap();
    assert!(shown.is_none());
}

async fn must_be_dead_at(
    scene: &Scene,
    broker: &leasehold::broker::Broker,
    task: TaskId,
    agent: &Caller,
) {
    let issued = scene.issue_at(broker, agent, super::scene::token(task)).await;
    assert_eq!(reason(issued), "QUARANTINED");
}

/// What is written: in every partition one event, with the block, which is odd, and the watermark, which is its own commit's.
async fn class_06_a_quarantine_is_a_block_and_a_watermark_in_every_partition(scene: Scene) {
    let (store, upkeep) = (&scene.world.store.store, &scene.world.store.upkeep);
    for text in ["class:finance", "tier:standard", "all"] {
        let scope = Scope::parse(text).unwrap();
        for (round, kind) in [(1, EventKind::Quarantined), (2, EventKind::QuarantineLifted)] {
            match kind {
                EventKind::Quarantined => quarantine(&scene, text).await,
                _ => lift(&scene, text).await,
            }
            for partition in upkeep.constants().partitions.all() {
                let events = upkeep.events(partition, Stamp::ZERO, 10_000).await.unwrap();
                let event = events.last().unwrap();
                let own = Origin { incarnation: event.incarnation, stamp: event.stamp };
                let mut entries = vec![Entry::Block(scope.clone(), round)];
                if kind == EventKind::Quarantined {
                    entries.push(Entry::Watermark(scope.clone(), own));
                }
                assert_eq!((event.event.kind, &event.event.entries), (kind, &entries));
                let reach = vec![scope.reach()];
                let entries = Entries::Hitting { tasks: vec![], reach, lease: None };
                let set = store.read(Query::new(partition, vec![], entries)).await.unwrap();
                assert_eq!(set.lattice.block_count(&scope), round);
                let mark = set.lattice.watermark(&scope).unwrap();
                assert!(mark <= own && (round == 2 || mark == own));
            }
        }
    }
}
