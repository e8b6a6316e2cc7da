//! Nothing that an ending does waits behind what is issued: over a store whose ordinary lane stands still, every verb that takes
//! something away is carried out and answered, by a broker that knows the task and by one that has to read it first.

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use leasehold::broker::access::Rpc;
use leasehold::broker::{Broker, Revoked};
use leasehold::domain::scope::Scope;
use leasehold::store::{Commit, Lane, Listing, Outcome, Query, Snapshot, Store, StoreError};

use super::endings::unchanged;
use super::scene::{Scene, agent_of, spec, token};
use super::stores::over_every_store;

/// Whoever is on the ordinary lane waits for ever.
const PATIENCE: Duration = Duration::from_secs(20);

over_every_store! {
    class_15_no_ending_waits_for_the_ordinary_lane_of_the_store,
    class_15_an_ending_that_is_repeated_does_not_wait_for_the_ordinary_lane_either,
}

/// A store whose ordinary lane answers until it is told not to.
struct Stalled {
    inner: Arc<dyn Store>,
    is_stalled: Arc<AtomicBool>,
}

impl Stalled {
    async fn pass(&self, lane: Lane) {
        if lane == Lane::Ordinary && self.is_stalled.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
    }
}

#[async_trait]
impl Store for Stalled {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.pass(commit.lane).await;
        self.inner.commit(commit).await
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        self.pass(query.lane).await;
        self.inner.read(query).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.pass(Lane::Ordinary).await;
        self.inner.list(listing).await
    }
}

/// The same scene over such a store: broker `a` has seen what is there, `b` has not.
async fn stalling(scene: Scene) -> (Scene, Arc<AtomicBool>) {
    let Scene { mut world, .. } = scene;
    let is_stalled = Arc::new(AtomicBool::new(false));
    let inner = world.store.store.clone();
    world.store.store = Arc::new(Stalled { inner, is_stalled: is_stalled.clone() });
    (Scene::of(world), is_stalled)
}

async fn answered<T>(what: &str, answer: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("{what} waits for the ordinary lane"),
    }
}

async fn class_15_no_ending_waits_for_the_ordinary_lane_of_the_store(scene: Scene) {
    let (scene, is_stalled) = stalling(scene).await;
    let agent = scene.world.caller(&agent_of(0));
    let mut tasks = Vec::new();
    for _ in 0..2 * 6 {
        tasks.push(scene.begin(spec(&agent_of(0))).await.task.id);
    }
    let held = scene.begin(spec(&agent_of(0))).await.task.id;
    let mut leases = Vec::new();
    for _ in 0..2 * 2 {
        leases.push(scene.issue(&agent, held).await.unwrap().lease);
    }
    is_stalled.store(true, Ordering::SeqCst);
    let issued = scene.a.issue(&agent, &scene.world.id(), token(held)).now_or_never();
    assert!(issued.is_none(), "nothing is issued meanwhile");

    let Scene { world, a, b, ci, operator, .. } = &scene;
    let (mut tasks, mut leases) = (tasks.into_iter(), leases.into_iter());
    let mut task = || tasks.next().unwrap();
    let mut lease = || leases.next().unwrap();
    let none = String::new;
    for broker in [a, b] {
        let by_ci = [Rpc::CompleteTask, Rpc::FailTask, Rpc::CancelTask].map(|rpc| (ci, rpc));
        for (by, rpc) in by_ci.into_iter().chain([(operator, Rpc::RevokeTask)]) {
            let id = world.id();
            let ended = broker.end(by, &id, rpc, task(), none());
            answered(&format!("{rpc:?}"), ended).await.unwrap();
        }
        let ids: [_; 4] = std::array::from_fn(|_| world.id());
        let suspended = broker.suspend(ci, &ids[0], task(), none());
        answered("suspend", suspended).await.unwrap();
        let advanced = broker.advance(ci, &ids[1], task(), unchanged(1));
        answered("advance", advanced).await.unwrap();
        let revoked = broker.revoke_lease(operator, &ids[2], lease(), none());
        answered("revoke", revoked).await.unwrap();
        let released = broker.release(&agent, &ids[3], lease());
        answered("release", released).await.unwrap();
    }
    let id = world.id();
    let everything = a.quarantine(operator, &id, Scope::All, none());
    answered("quarantine", everything).await.unwrap();
    assert!(is_stalled.load(Ordering::SeqCst));
}

async fn class_15_an_ending_that_is_repeated_does_not_wait_for_the_ordinary_lane_either(
    scene: Scene,
) {
    let (scene, is_stalled) = stalling(scene).await;
    let agent = scene.world.caller(&agent_of(0));
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    let lease = scene.issue(&agent, task).await.unwrap().lease;
    is_stalled.store(true, Ordering::SeqCst);

    let Scene { world, a, b, ci, operator, .. } = &scene;
    let (id, of_lease, of_all) = (world.id(), world.id(), world.id());
    let none = String::new;
    let all = async |broker: &Broker| -> [Revoked; 4] {
        let revoked = broker.revoke_lease(operator, &of_lease, lease, none());
        let (_, revoked) = answered("revoke", revoked).await.unwrap();
        let ended = broker.end(ci, &id, Rpc::CompleteTask, task, none());
        let (_, ended) = answered("complete", ended).await.unwrap();
        // Another request, for what is so already.
        let another = world.id();
        let again = broker.end(ci, &another, Rpc::CompleteTask, task, none());
        let (_, again) = answered("complete again", again).await.unwrap();
        let scope = broker.quarantine(operator, &of_all, Scope::All, none());
        [revoked, ended, again, answered("quarantine", scope).await.unwrap()]
    };
    let (first, replayed) = (all(a).await, all(b).await);
    for (first, replayed) in first.iter().zip(&replayed) {
        assert!(replayed.recorded_at >= first.recorded_at);
    }
}
