//! What happens between a decision and its commit decides: nothing is done on what was true when it was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use leasehold::broker::Broker;
use leasehold::broker::access::Rpc;
use leasehold::broker::error::BrokerError;
use leasehold::broker::request::{CredentialRequest, Deadline, IssueRequest, TaskSpec};
use leasehold::domain::id::TaskId;
use leasehold::domain::scope::Scope;
use leasehold::domain::time::Span;
use leasehold::store::{Commit, Listing, Outcome, Query, Snapshot, Store, StoreError};
use tokio::sync::Notify;

use super::endings::unchanged;
use super::scene::{Held, ParseName, Scene, agent_of, new_csr, reason, spec, token};
use super::stores::over_every_store;

over_every_store! {
    class_06_what_ends_a_task_before_the_commit_counts,
    class_06_a_quarantine_before_the_commit_counts_though_it_was_lifted_again,
    class_06_a_release_before_the_commit_counts,
    class_04_a_lease_that_expires_before_the_commit_is_not_renewed,
    class_05_silence_and_deadlines_before_the_commit_count_for_all_below,
}

/// Holds up the next commit until the test has done something else.
struct Gate {
    inner: Arc<dyn Store>,
    is_closed: AtomicBool,
    arrived: Notify,
    opened: Notify,
}

#[async_trait]
impl Store for Gate {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        if self.is_closed.swap(false, Ordering::SeqCst) {
            self.arrived.notify_one();
            self.opened.notified().await;
        }
        self.inner.commit(commit).await
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        self.inner.read(query).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.inner.list(listing).await
    }
}

/// Longer than any of it takes.
const HOUR: Span = Span::from_seconds(3_600);

/// Everything that gives something out or keeps it going.
const VERBS: [Verb; 6] = [
    Verb::IssueToken,
    Verb::IssueCertificate,
    Verb::Renew,
    Verb::Delegate,
    Verb::Advance,
    Verb::Heartbeat,
];

#[derive(Clone, Copy, Debug)]
enum Verb {
    IssueToken,
    IssueCertificate,
    Renew,
    Delegate,
    Advance,
    Heartbeat,
}

/// A root and a child, whose agent holds a token; and a broker that knows all of it and decides.
struct Work {
    scene: Arc<Scene>,
    gate: Arc<Gate>,
    broker: Broker,
    root: TaskId,
    child: TaskId,
    held: Held,
}

impl Work {
    async fn of(scene: &Arc<Scene>, root: TaskSpec, child: TaskSpec) -> Self {
        let inner = scene.world.store.store.clone();
        let (arrived, opened) = (Notify::new(), Notify::new());
        let gate = Arc::new(Gate { inner, is_closed: AtomicBool::new(false), arrived, opened });
        let upkeep = scene.world.store.upkeep.clone();
        // Whoever begins tasks has heard of the time that passed at the store before.
        scene.a.status(&scene.operator).await.unwrap();
        let broker = scene.world.broker_of(scene.world.clock.clone(), gate.clone(), upkeep);
        let root = scene.begin(root).await.task.id;
        let child = scene.delegate(root, child).await.unwrap().task.id;
        let agent = scene.world.caller(&agent_of(1));
        let held = scene.issue_at(&broker, &agent, token(child)).await.unwrap();
        Self { scene: scene.clone(), gate, broker, root, child, held }
    }

    async fn plain(scene: &Arc<Scene>) -> Self {
        Self::of(scene, listening("standard"), listening("standard")).await
    }

    /// Asks for something, and does `meanwhile` once it is decided and not yet committed.
    async fn asks(
        &self,
        verb: Verb,
        meanwhile: impl Future<Output = ()>,
    ) -> Result<(), BrokerError> {
        self.gate.is_closed.store(true, Ordering::SeqCst);
        let meanwhile = async {
            self.gate.arrived.notified().await;
            meanwhile.await;
            self.gate.opened.notify_one();
        };
        let both = async { tokio::join!(self.call(verb), meanwhile).0 };
        let both = tokio::time::timeout(Duration::from_secs(60), both).await;
        both.expect("it was refused before it was committed")
    }

    async fn call(&self, verb: Verb) -> Result<(), BrokerError> {
        let (scene, broker, id) = (&self.scene, &self.broker, self.scene.world.id());
        let agent = scene.world.caller(&agent_of(1));
        match verb {
            Verb::IssueToken => broker.issue(&agent, &id, token(self.child)).await.map(drop),
            Verb::IssueCertificate => {
                let credential = CredentialRequest::X509Svid(new_csr());
                let request = IssueRequest { credential, ..token(self.child) };
                broker.issue(&agent, &id, request).await.map(drop)
            }
            Verb::Renew => broker.renew(&agent, &id, self.held.lease, None, None).await.map(drop),
            Verb::Delegate => {
                let child = spec(&agent_of(2));
                broker.delegate(&agent, &id, self.child, 1, child).await.map(drop)
            }
            Verb::Advance => {
                broker.advance(&scene.ci, &id, self.child, unchanged(1)).await.map(drop)
            }
            Verb::Heartbeat => broker.heartbeat(&scene.ci, &id, self.child).await.map(drop),
        }
    }

    /// Time passes at the store, and nobody has told the broker.
    async fn time_passes(&self, seconds: u64) {
        let (upkeep, now) = (&self.scene.world.store.upkeep, self.scene.a.now());
        let now = now.plus(Span::from_seconds(seconds));
        upkeep.prune(self.root.partition(), now).await.unwrap();
    }

    async fn switches(&self, lift: bool) {
        let scope = Scope::parse("class:finance").unwrap();
        let (a, operator, id) = (&self.scene.a, &self.scene.operator, self.scene.world.id());
        let done = match lift {
            false => a.quarantine(operator, &id, scope, String::new()).await.map(drop),
            true => a.lift_quarantine(operator, &id, scope, String::new()).await.map(drop),
        };
        done.unwrap();
    }
}

/// A task whose orchestrator is heard of every ten seconds.
fn listening(tier: &str) -> TaskSpec {
    let heartbeat = Some(Span::from_seconds(10));
    TaskSpec { heartbeat, tier: Some(tier.parse_name()), ..spec(&agent_of(1)) }
}

async fn class_06_what_ends_a_task_before_the_commit_counts(scene: Scene) {
    let scene = Arc::new(scene);
    for verb in VERBS {
        for (ending, of_root, expected) in [
            (Rpc::CompleteTask, false, "TASK_ENDED"),
            (Rpc::CompleteTask, true, "TASK_ENDED"),
            (Rpc::AdvanceTask, true, "TASK_ENDED"),
            (Rpc::SuspendTask, false, "TASK_SUSPENDED"),
            (Rpc::SuspendTask, true, "TASK_SUSPENDED"),
        ] {
            let work = Work::plain(&scene).await;
            let task = if of_root { work.root } else { work.child };
            let (a, ci, id) = (&scene.a, &scene.ci, scene.world.id());
            let ends = async {
                let done = match ending {
                    Rpc::AdvanceTask => a.advance(ci, &id, task, unchanged(1)).await,
                    Rpc::SuspendTask => a.suspend(ci, &id, task, String::new()).await,
                    _ => a.end(ci, &id, ending, task, String::new()).await,
                };
                done.unwrap();
            };
            let answer = work.asks(verb, ends).await;
            if matches!((verb, ending, of_root), (Verb::Heartbeat, Rpc::SuspendTask, true)) {
                // Only the work was suspended, not who drives it.
                answer.unwrap();
                continue;
            }
            assert_eq!(reason(answer), expected, "{verb:?} while {ending:?} of root: {of_root}");
        }
    }
}

async fn class_06_a_quarantine_before_the_commit_counts_though_it_was_lifted_again(scene: Scene) {
    let scene = Arc::new(scene);
    for verb in [Verb::IssueToken, Verb::IssueCertificate, Verb::Renew, Verb::Delegate] {
        let work = Work::plain(&scene).await;
        assert_eq!(reason(work.asks(verb, work.switches(false)).await), "QUARANTINED", "{verb:?}");
        work.switches(true).await;
    }
    let work = Work::plain(&scene).await;
    let on_and_off = async {
        work.switches(false).await;
        work.switches(true).await;
    };
    assert_eq!(reason(work.asks(Verb::Renew, on_and_off).await), "QUARANTINED");
    // Whoever holds nothing from before is free again.
    work.call(Verb::IssueToken).await.unwrap();
}

async fn class_06_a_release_before_the_commit_counts(scene: Scene) {
    let scene = Arc::new(scene);
    let work = Work::plain(&scene).await;
    let (agent, id) = (scene.world.caller(&agent_of(1)), scene.world.id());
    let releases = async {
        scene.a.release(&agent, &id, work.held.lease).await.unwrap();
    };
    assert_eq!(reason(work.asks(Verb::Renew, releases).await), "LEASE_REVOKED");
}

async fn class_04_a_lease_that_expires_before_the_commit_is_not_renewed(scene: Scene) {
    let scene = Arc::new(scene);
    let work = Work::of(&scene, spec(&agent_of(0)), spec(&agent_of(1))).await;
    work.asks(Verb::Renew, work.time_passes(299)).await.unwrap();
    let work = Work::of(&scene, spec(&agent_of(0)), spec(&agent_of(1))).await;
    assert_eq!(reason(work.asks(Verb::Renew, work.time_passes(600)).await), "LEASE_REVOKED");
}

async fn class_05_silence_and_deadlines_before_the_commit_count_for_all_below(scene: Scene) {
    let scene = Arc::new(scene);
    let deadline = Deadline::After(Span::from_seconds(100));
    for verb in VERBS {
        for (root, child, seconds, expected) in [
            (spec(&agent_of(0)), listening("standard"), 31, "TASK_SUSPENDED"),
            (spec(&agent_of(0)), listening("critical"), 31, "TASK_ENDED"),
            (listening("standard"), spec(&agent_of(1)), 31, "TASK_SUSPENDED"),
            (listening("critical"), spec(&agent_of(1)), 31, "TASK_ENDED"),
            (spec(&agent_of(0)), TaskSpec { deadline, ..spec(&agent_of(1)) }, 101, "TASK_ENDED"),
        ] {
            let is_driven = child.heartbeat.is_none() && expected == "TASK_SUSPENDED";
            let child = TaskSpec { heartbeat: child.heartbeat.or(Some(HOUR)), ..child };
            let work = Work::of(&scene, root, child).await;
            let answer = work.asks(verb, work.time_passes(seconds)).await;
            if is_driven && matches!(verb, Verb::Heartbeat) {
                answer.unwrap();
                continue;
            }
            assert_eq!(reason(answer), expected, "{verb:?} after {seconds} s");
        }
    }
}

/// Two delegate at once below a task that has room for one more.
#[tokio::test]
async fn class_21_the_last_place_below_a_task_is_given_once() {
    let scene = Arc::new(Scene::on_model().await);
    let work = Work::plain(&scene).await;
    for _ in 0..63 {
        scene.delegate(work.child, spec(&agent_of(2))).await.unwrap();
    }
    let other = async {
        scene.delegate(work.child, spec(&agent_of(2))).await.unwrap();
    };
    assert_eq!(reason(work.asks(Verb::Delegate, other).await), "REQUEST_INVALID");
}
