//! Records that go away: not before their time, and nothing rests on one that is gone.

use std::sync::Arc;

use async_trait::async_trait;
use leasehold::broker::Broker;
use leasehold::broker::request::{Deadline, TaskSpec};
use leasehold::domain::task::State;
use leasehold::domain::time::Span;
use leasehold::store::{Commit, Lane, Listing, Outcome, Query, Snapshot, Store, StoreError, Write};

use super::scene::{Scene, agent_of, reason, spec, token};
use super::stores::over_every_store;

over_every_store! {
    a_task_that_ends_after_it_was_listed_as_due_keeps_its_record,
    class_05_a_credential_whose_ancestor_has_no_record_is_dead,
}

/// Another broker sweeps whenever this one has listed something.
struct Overtaken {
    inner: Arc<dyn Store>,
    other: Broker,
}

#[async_trait]
impl Store for Overtaken {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.inner.commit(commit).await
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        self.inner.read(query).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        let names = self.inner.list(listing).await;
        self.other.sweep().await.unwrap();
        names
    }
}

async fn a_task_that_ends_after_it_was_listed_as_due_keeps_its_record(scene: Scene) {
    let deadline = Deadline::After(Span::from_seconds(100));
    let task = scene.begin(TaskSpec { deadline, ..spec(&agent_of(0)) }).await.task.id;
    scene.forward(100).await;
    let world = &scene.world;
    let store = Arc::new(Overtaken { inner: world.store.store.clone(), other: world.broker() });
    let slow = world.broker_of(world.clock.clone(), store, world.store.upkeep.clone());
    assert_eq!(slow.sweep().await.unwrap().dropped, 0);
    assert_eq!(scene.state(task).await, State::Expired);
}

async fn class_05_a_credential_whose_ancestor_has_no_record_is_dead(scene: Scene) {
    let tree = scene.tree().await;
    let (root, below) = (tree[0].task, &tree[1]);
    for held in &below.held {
        assert!(scene.is_active(&scene.b, held).await);
    }
    let answer_key = scene.a.get_task(&scene.ci, root).await.unwrap().task.answer_key;
    let mut commit = Commit::new(root.partition(), Lane::Ordinary);
    commit.writes = vec![Write::DropTask { task: root, answer_key }];
    scene.world.store.store.commit(commit).await.unwrap();
    for held in &below.held {
        assert!(!scene.is_active(&scene.b, held).await);
    }
    let broker = scene.world.broker();
    let issued = scene.issue_at(&broker, &below.agent, token(below.task)).await;
    assert_eq!(reason(issued), "NOT_FOUND");
}
